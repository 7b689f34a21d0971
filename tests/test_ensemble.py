"""An ensemble predicts the mean of its members, and shares their weights."""

import keras
import numpy as np
import pytest
from backend import as_numpy

import mpt_keras as mpt
from mpt_keras.analysis import ensemble, masks_of


def ticket(seed, kernel_seed=0, classes=3, last=mpt.MPTDense):
    """A network of one kernel per kernel seed, with scores of its own."""
    options = {"seed": kernel_seed} if last is mpt.MPTDense else {}
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            mpt.MPTConv2D(4, 3, strides=2, seed=kernel_seed, name="conv"),
            keras.layers.Flatten(),
            last(classes, name="logits", **options),
        ],
        name="network",
    )
    rng = np.random.default_rng(seed)
    for layer in mpt.masked_layers(model):
        layer.scores.assign(rng.uniform(-1, 1, layer.scores.shape))
    return model


def with_preprocessing(network):
    """As the examples' runs leave it."""
    layers = [
        keras.Input((8, 8, 1), dtype="uint8", name="images"),
        keras.layers.Normalization(mean=0.5, variance=0.25, name="normalize"),
        network,
        keras.layers.Activation("linear", dtype="float32", name="scores"),
    ]
    return keras.Sequential(layers, name="digits")


@pytest.fixture
def images(rng):
    return rng.standard_normal((5, 8, 8, 1)).astype("float32")


def mean_of(models, images):
    outputs = [model.predict_on_batch(images) for model in models]
    return np.mean(np.asarray(outputs, "float64"), axis=0)


def assert_predicts(model, images, expected):
    predicted = model.predict_on_batch(images)
    assert predicted.dtype == "float32"
    np.testing.assert_allclose(predicted, expected, rtol=1e-5, atol=1e-6)


def test_the_mean_of_three():
    models = [ticket(seed) for seed in range(3)]
    images = np.random.default_rng(0).random((5, 8, 8, 1), "float32")
    before = [
        (model.name, [layer.name for layer in model.layers], masks_of(model))
        for model in models
    ]
    together = ensemble(models, name="three")
    assert together.name == "three"
    expected = mean_of(models, images)
    assert_predicts(together, images, expected)
    for model, (name, layers, masks) in zip(models, before, strict=True):
        assert model.name == name
        assert [layer.name for layer in model.layers] == layers
        for layer, mask in masks_of(model).items():
            np.testing.assert_array_equal(mask, masks[layer])
    # Of one kernel, but not one ticket.
    assert np.abs(expected - models[0].predict_on_batch(images)).max() > 1e-3


def test_the_members_weights_are_shared(images):
    models = [ticket(seed) for seed in range(2)]
    together = ensemble(models)
    held = {id(variable) for model in models for variable in model.variables}
    assert {id(variable) for variable in together.variables} == held
    scores = mpt.masked_layers(models[1])[0].scores
    scores.assign(as_numpy(scores)[::-1])
    assert_predicts(together, images, mean_of(models, images))


def test_averages_probabilities(images):
    models = [ticket(seed) for seed in range(2)]
    outputs = [model.predict_on_batch(images) for model in models]
    powers = [np.exp(output) for output in outputs]
    expected = np.mean([p / p.sum(-1, keepdims=True) for p in powers], axis=0)
    assert_predicts(ensemble(models, activation="softmax"), images, expected)


def test_runs_of_the_examples_saved_and_frozen(rng, tmp_path):
    """Nested, of one name each, with raw images as their input."""
    models = [with_preprocessing(ticket(seed)) for seed in range(2)]
    images = rng.integers(0, 255, (4, 8, 8, 1), "uint8")
    expected = mean_of(models, images)
    together = ensemble(models)
    assert together.input.dtype == "uint8"
    assert_predicts(together, images, expected)
    together.save(tmp_path / "both.keras")
    reloaded = keras.models.load_model(tmp_path / "both.keras")
    assert_predicts(reloaded, images, expected)
    frozen = mpt.freeze(reloaded)
    assert not mpt.masked_layers(frozen)
    assert_predicts(frozen, images, expected)
    masks = masks_of(reloaded)
    for number, model in enumerate(models):
        for name, mask in masks_of(model).items():
            (path,) = (
                path
                for path in masks
                if path.startswith(f"member_{number}/")
                and path.endswith(f"/{name}")
            )
            np.testing.assert_array_equal(masks[path], mask)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            lambda: ticket(1, kernel_seed=1),
            "kernel of layer 'conv' differs in the first model and in model",
        ),
        (lambda: ticket(1, classes=4), r"outputs of model 1 .*\(None, 4\)"),
        (
            lambda: ticket(1, last=keras.layers.Dense),
            r"model 1 has the masked layers \['logits'\]",
        ),
        (lambda: mpt.freeze(ticket(1)), "holds no masked layer"),
        (lambda: keras.Sequential([mpt.MPTDense(3)]), "model 1 .* a built Seq"),
        (lambda: mpt.MPTDense(3), "Expected a built Sequential or functional"),
    ],
)
def test_what_makes_no_ensemble(other, message):
    with pytest.raises(ValueError, match=message):
        ensemble([ticket(0), other()])


def test_an_ensemble_needs_two():
    with pytest.raises(ValueError, match="two models at least"):
        ensemble([ticket(0)])
