"""Batch norms in other layers, against the model that has them."""

import keras
import numpy as np
import pytest
from backend import as_numpy, examples
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

import mpt_keras as mpt
from mpt_keras.conversion import fold_batch_norms, foldable_batch_norms

# Name -> the layer, and a shape of its inputs.
FOLDABLE = {
    "dense": (lambda **o: layers.Dense(4, **o), (6,)),
    "dense_on_sequences": (lambda **o: layers.Dense(4, **o), (5, 6)),
    "conv1d": (lambda **o: layers.Conv1D(4, 3, padding="causal", **o), (7, 3)),
    "conv2d": (
        lambda **o: layers.Conv2D(4, 3, padding="same", strides=2, **o),
        (6, 7, 3),
    ),
    "groups": (lambda **o: layers.Conv2D(4, 3, groups=2, **o), (6, 6, 4)),
    "conv3d": (lambda **o: layers.Conv3D(4, 2, **o), (4, 4, 4, 2)),
    "depthwise": (
        lambda **o: layers.DepthwiseConv2D(3, depth_multiplier=2, **o),
        (6, 6, 3),
    ),
    "depthwise1d": (lambda **o: layers.DepthwiseConv1D(3, **o), (6, 3)),
    "separable": (lambda **o: layers.SeparableConv2D(4, 3, **o), (6, 7, 3)),
    "separable1d": (lambda **o: layers.SeparableConv1D(4, 3, **o), (6, 3)),
    "transposed": (
        lambda **o: layers.Conv2DTranspose(4, 3, strides=2, **o),
        (4, 4, 3),
    ),
    "transposed1d": (lambda **o: layers.Conv1DTranspose(4, 3, **o), (4, 3)),
}


def drawn(model, seed):
    """Weights of all sizes; a scale of 0 and tiny variances among them."""
    draw = np.random.default_rng(seed)
    for weight in model.weights:
        values = draw.standard_normal(weight.shape)
        if weight.name == "moving_variance":
            values = np.exp(3 * values)
            values.flat[0] = 0.0
        if weight.name == "gamma":
            values.flat[-1] = 0.0
        weight.assign(values)
    return model


def check_folded(model, names, seed=0):
    """The model without some batch norms predicts the same up to rounding."""
    before = [as_numpy(weight) for weight in model.weights]
    assert foldable_batch_norms(model) == names
    folded = fold_batch_norms(model)
    for weight, old in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(as_numpy(weight), old)
    draw = np.random.default_rng(seed)
    (source,) = model.inputs
    x = draw.standard_normal((3, *source.shape[1:])).astype("float32")
    received = map(as_numpy, keras.tree.flatten(folded(x)))
    expected = map(as_numpy, keras.tree.flatten(model(x)))
    for ours, theirs in zip(received, expected, strict=True):
        atol = 1e-5 * max(1.0, np.abs(theirs).max())
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=atol)
    kept = [layer.name for layer in folded._flatten_layers()]
    assert not set(names.values()) & set(kept)
    return folded


def norm(name="norm", **options):
    return layers.BatchNormalization(name=name, **options)


@settings(deadline=None, max_examples=examples(60))
@given(
    st.sampled_from(sorted(FOLDABLE)),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.integers(0, 99),
)
def test_every_layer(case, use_bias, scale, center, seed):
    make, shape = FOLDABLE[case]
    model = keras.Sequential(
        [
            keras.Input(shape),
            make(use_bias=use_bias, name="layer"),
            norm(scale=scale, center=center),
            layers.ReLU(),
        ]
    )
    folded = check_folded(drawn(model, seed), {"layer": "norm"}, seed)
    assert len(folded.layers) == 2


def test_folded_weights_are_the_formulas(rng):
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(2, name="layer"), norm(epsilon=0.5)]
    )
    kernel, bias, gamma, beta, mean, variance = (
        np.array([[1, 2], [0, -1], [0.5, 0]]),
        np.array([1, -1]),
        np.array([2, 0]),
        np.array([3, 4]),
        np.array([0.5, 7]),
        np.array([3.5, 0.5]),
    )
    model.set_weights([kernel, bias, gamma, beta, mean, variance])
    folded = fold_batch_norms(model)
    np.testing.assert_array_equal(
        as_numpy(folded.layers[0].kernel), [[1, 0], [0, 0], [0.5, 0]]
    )
    np.testing.assert_array_equal(as_numpy(folded.layers[0].bias), [3.5, 4])


@pytest.mark.parametrize(
    "case", ["conv2d", "depthwise", "separable", "transposed"]
)
def test_channels_first(case):
    make, (*size, width, channels) = FOLDABLE[case]
    size = (*size, width + 3)  # the output's is not the number of channels
    options = {"data_format": "channels_first", "name": "layer"}
    try:
        model = keras.Sequential(
            [keras.Input((channels, *size)), make(**options), norm(axis=1)]
        )
        model.predict_on_batch(np.zeros((3, channels, *size)))
    except Exception as error:
        pytest.skip(f"the backend cannot compute it: {error}")
    check_folded(drawn(model, 0), {"layer": "norm"})
    model = keras.Sequential(
        [keras.Input((channels, *size)), make(**options), norm(axis=-1)]
    )
    check_folded(drawn(model, 0), {})


@pytest.mark.parametrize("width", [4, None])
def test_channels_first_where_keras_adds_biases_elsewhere(width):
    """On TensorFlow along the width, where it is that of the channels."""
    inputs = keras.Input((3, 6, width))
    options = {"padding": "same", "data_format": "channels_first"}
    layer = layers.Conv2D(4, 3, use_bias=False, name="layer", **options)
    model = drawn(keras.Model(inputs, norm(axis=1)(layer(inputs))), 0)
    on_tensorflow = keras.backend.backend() == "tensorflow"
    names = {} if on_tensorflow else {"layer": "norm"}
    assert foldable_batch_norms(model) == names
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 4))
    try:
        expected = model.predict_on_batch(x)
    except Exception as error:
        pytest.skip(f"the backend cannot compute it: {error}")
    received = fold_batch_norms(model).predict_on_batch(x)
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-4)


def test_what_is_not_exact_is_left_alone():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, activation="relu", name="active")(inputs)
    x = norm("behind_activation")(x)
    x = norm("in_front")(x)
    x = twice = layers.Conv2D(4, 3, padding="same", name="twice")(x)
    x = layers.Add()([norm("of_two")(x), twice])
    shared = layers.Conv2D(4, 1, name="shared")
    x = norm("second")(shared(norm("first")(shared(x))))
    x = layers.Conv2D(4, 1, name="conv")(x)
    shared_norm = norm("shared_norm")
    x = shared_norm(layers.Conv2D(4, 1, name="other")(shared_norm(x)))
    x = layers.Conv2D(4, 1, name="dropped")(x)
    x = norm("behind_dropout")(layers.Dropout(0.5)(x))
    x = layers.Conv2D(4, 1, name="trains")(x)
    x = norm("always_trained")(x, training=True)
    x = output = layers.Conv2D(4, 1, name="output")(x)
    x = norm("of_output")(x)
    model = keras.Model(inputs, [output, x])
    folded = check_folded(model, {})
    assert len(folded.layers) == len(model.layers)


def test_functional_models():
    inputs = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, padding="same", use_bias=False, name="one")(inputs)
    x = norm("norm_one")(x)
    shortcut = x
    x = keras.ops.relu(x)
    x = layers.Conv2D(4, 3, padding="same", name="two")(x)
    x = norm("norm_two")(inputs=x)
    x = layers.Add()([x, shortcut])
    model = keras.Model({"image": inputs}, {"y": norm("norm_three")(x)})
    names = foldable_batch_norms(drawn(model, 0))
    assert names == {"one": "norm_one", "two": "norm_two"}
    folded = fold_batch_norms(model)
    x = np.random.default_rng(0).standard_normal((2, 8, 8, 3))
    np.testing.assert_allclose(
        as_numpy(folded({"image": x})["y"]),
        as_numpy(model({"image": x})["y"]),
        rtol=1e-3,
        atol=1e-3,
    )


def test_nested_models_also_where_they_are_shared():
    block = keras.Sequential(
        [
            keras.Input((8, 8, 4)),
            layers.Conv2D(4, 3, padding="same", name="inner"),
            norm("inner_norm"),
            layers.ReLU(),
        ],
        name="block",
    )
    inputs = keras.Input((8, 8, 4))
    nested = keras.Model(inputs, block(inputs), name="nested")
    x = block(nested(inputs))
    x = layers.Conv2D(2, 1, name="last")(x)
    model = keras.Model(inputs, norm("last_norm")(x))
    names = {"inner": "inner_norm", "last": "last_norm"}
    folded = check_folded(drawn(model, 0), names)
    assert len(folded.weights) == 4  # the block is still shared


def test_a_layer_that_a_wrapper_shares_is_left_alone():
    shared = layers.Dense(4, name="shared")
    inputs = keras.Input((5, 4))
    x = norm()(shared(layers.TimeDistributed(shared)(inputs)))
    check_folded(drawn(keras.Model(inputs, x), 0), {})


def test_half_precision_and_infinite_scales_are_left_alone():
    model = keras.Sequential([keras.Input((4,))])
    model.add(layers.Dense(3, dtype="mixed_bfloat16"))
    model.add(norm(dtype="mixed_bfloat16"))
    assert foldable_batch_norms(model) == {}
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), norm()])
    model.layers[1].moving_variance.assign([1.0, -1.0, 1.0])
    assert foldable_batch_norms(model) == {}
    assert len(fold_batch_norms(model).layers) == 2


def test_tickets_keep_their_zeros(rng):
    model = mpt.models.resnet20(width=0.25, input_shape=(8, 8, 3), seed=0)
    for weight in model.weights:
        if weight.name in ("gamma", "beta", "moving_mean", "moving_variance"):
            weight.assign(rng.uniform(0.5, 2, weight.shape))
    ticket = mpt.freeze(model)
    names = foldable_batch_norms(ticket)
    folded = fold_batch_norms(ticket)
    assert len(names) > 3
    assert not folded.trainable
    assert not folded.trainable_variables
    for name in names:
        before = as_numpy(ticket.get_layer(name).kernel)
        after = as_numpy(folded.get_layer(name).kernel)
        np.testing.assert_array_equal(after[before == 0], 0)
        gains = np.abs(after).reshape(-1, after.shape[-1])
        for channel in gains.T:  # one per output channel
            assert len(np.unique(channel[channel > 0])) <= 1
    x = rng.standard_normal((4, 8, 8, 3)).astype("float32")
    expected = ticket.predict_on_batch(x)
    np.testing.assert_allclose(
        folded.predict_on_batch(x),
        expected,
        rtol=0,
        atol=1e-4 * np.abs(expected).max(),
    )


# --- Bad input ------------------------------------------------------------


def test_other_models_are_refused():
    with pytest.raises(ValueError, match="Expected a built Sequential"):
        fold_batch_norms(keras.Sequential([layers.Dense(3)]))
    with pytest.raises(ValueError, match="Expected a built Sequential"):
        fold_batch_norms("model.keras")
    masked = keras.Sequential([keras.Input((3,)), mpt.MPTDense(3)])
    with pytest.raises(ValueError, match=r"give `mpt_keras\.freeze\(model\)`"):
        fold_batch_norms(masked)
