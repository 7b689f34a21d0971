"""Tickets on bits give what the frozen Keras models predict.

Kernels of one magnitude, a power of two, and images of few digits: all sums
are exact then, in any order, so that no sign may differ.
"""

import pickle

import keras
import numpy as np
import pytest
from backend import as_numpy

import mpt_keras as mpt
from mpt_keras.runtime import reference
from mpt_keras.runtime.lowering import lower

_SMALL = {"width": 0.1, "sparsity": 0.6}
_NETWORKS = {
    "conv2": {},
    "conv4": {},
    "conv6": {},
    "conv8": {},
    "lenet_300_100": {},
    "vgg_small": {},
    "resnet18": {},
    "resnet20": {"width": 0.5},
    "resnet50": {},
    "wide_resnet18_2": {},
    "imagenet_resnet18": {"input_shape": (64, 64, 3), "classes": 12},
    "imagenet_resnet50": {"input_shape": (32, 32, 3), "classes": 12},
}


def with_exact_sums(model, rng):
    """Gives a model weights whose sums no order of adding changes."""
    for layer in mpt.masked_layers(model):
        shape = layer.kernel.shape
        layer.kernel.assign(rng.choice([-0.5, 0.5], shape))
        layer.scores.assign(rng.normal(size=shape))
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            size = layer.moving_mean.shape
            layer.moving_mean.assign(rng.normal(0, 2, size))
            layer.moving_variance.assign(rng.uniform(1, 20, size))
            if layer.scale:
                layer.gamma.assign(rng.normal(1, 0.7, size))
                layer.beta.assign(rng.normal(0, 0.5, size))
    return model


def images_for(shape, count, rng):
    return rng.integers(-32, 33, (count, *shape)).astype("float32") / 16


def assert_close(found, expected):
    largest = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * largest)


def ticket_of(model, tmp_path):
    path = tmp_path / "network.ticket"
    mpt.save_ticket(model, path)
    return path


def _networks():
    """Each once, and both kinds of activations of one of each family."""
    for number, name in enumerate(_NETWORKS):
        for kind, activations in enumerate(("real", "binary")):
            is_quick = number % 2 == kind or name in ("conv2", "resnet20")
            marks = () if is_quick else pytest.mark.slow
            yield pytest.param(name, activations, marks=marks)


@pytest.mark.parametrize(("name", "activations"), list(_networks()))
def test_networks_give_what_keras_predicts(name, activations, tmp_path):
    rng = np.random.default_rng(3)
    options = {**_SMALL, **_NETWORKS[name]}
    options["binary_activations"] = activations == "binary"
    options["trained_batch_norm"] = True
    model = with_exact_sums(getattr(mpt.models, name)(**options), rng)
    images = images_for(model.input_shape[1:], 3, rng)
    expected = as_numpy(mpt.freeze(model)(images))
    network = mpt.runtime.load(ticket_of(model, tmp_path))
    found = network(images)
    assert found.dtype == "float32"
    assert found.shape == expected.shape
    assert_close(found, expected)


@pytest.mark.parametrize("form", ["norm_everywhere", "norm_at_pools"])
def test_counts_are_the_integers_of_keras(form, tmp_path):
    rng = np.random.default_rng(5)
    model = mpt.models.vgg_small(width=0.1, binary_activations=True, form=form)
    with_exact_sums(model, rng)
    frozen = mpt.freeze(model)
    images = images_for((32, 32, 3), 1, rng)
    plan = lower(mpt.ticket.read_ticket(ticket_of(model, tmp_path)))
    values = reference.run_all(plan, np.moveaxis(images[0], -1, 0))
    by_layer = {}
    for operation in plan.operations:
        by_layer[operation.layer] = values[operation.output]
    for layer in frozen.layers:
        if isinstance(layer, keras.layers.Conv2D):
            probe = keras.Model(frozen.inputs[0], layer.output)
            expected = np.asarray(probe(images))[0]
            found = np.moveaxis(by_layer[layer.name], 0, -1)
            np.testing.assert_array_equal(found, expected)


def test_many_images_are_those_alone(tmp_path):
    rng = np.random.default_rng(7)
    model = mpt.models.vgg_small(width=0.1, binary_activations=True)
    with_exact_sums(model, rng)
    path = ticket_of(model, tmp_path)
    images = images_for((32, 32, 3), 131, rng)
    network = mpt.runtime.load(path)
    alone = np.concatenate([network(image[None]) for image in images])
    for threads in (1, 2, 3):
        together = mpt.runtime.load(path, threads=threads)(images)
        assert_close(together, alone)
    assert network(images[:0]).shape == (0, 10)


def test_the_reference_runs_where_nothing_is_compiled(tmp_path):
    rng = np.random.default_rng(9)
    model = mpt.models.resnet20(width=0.25, binary_activations=True)
    with_exact_sums(model, rng)
    path = ticket_of(model, tmp_path)
    images = images_for((32, 32, 3), 2, rng)
    slow = mpt.runtime.load(path, level="numpy")
    assert slow.level == "numpy"
    assert_close(mpt.runtime.load(path)(images), slow(images))


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    model = mpt.models.dense_net((4,), input_shape=(2, 3, 1), sparsity=0.5)
    path = tmp_path_factory.mktemp("runtime") / "small.ticket"
    mpt.save_ticket(model, path)
    return mpt.runtime.load(path)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 3, 1)), r"images\[None\]"),
        (np.zeros((1, 3, 2, 1)), r"\(batch, 2, 3, 1\).*\(1, 3, 2, 1\)"),
        (np.float32(1), r"shape \(\)"),
        (np.zeros((1, 2, 3, 1), "complex64"), "real numbers.*complex64"),
        (np.full((1, 2, 3, 1), "1"), "real numbers"),
    ],
)
def test_other_images_are_refused(network, images, message):
    with pytest.raises(ValueError, match=message):
        network(images)


def test_all_real_numbers_are_taken(network):
    images = np.arange(6).reshape(1, 2, 3, 1)
    expected = network(images.astype("float32"))
    for dtype in ("uint8", "int64", "float16", "float64"):
        np.testing.assert_array_equal(network(images.astype(dtype)), expected)
    strided = np.repeat(images, 2, axis=2)[:, :, ::2]
    np.testing.assert_array_equal(network(strided), expected)


def test_threads_are_a_positive_integer(tmp_path):
    model = mpt.models.dense_net((4,), input_shape=(2, 3, 1))
    path = ticket_of(model, tmp_path)
    for threads in (0, -1, 1.5, "2"):
        with pytest.raises(ValueError, match="threads"):
            mpt.runtime.load(path, threads=threads)


def test_a_network_says_what_it_is(network):
    assert "dense_net" in repr(network) or network.name in repr(network)
    assert "(2, 3, 1) -> (10,)" in repr(network)


def test_damaged_files_are_ticket_errors(tmp_path):
    model = mpt.models.dense_net((4,), input_shape=(2, 3, 1))
    path = ticket_of(model, tmp_path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(mpt.TicketError):
        mpt.runtime.load(path)


@pytest.mark.parametrize("level", [None, "numpy"])
@pytest.mark.parametrize("kind", [keras.layers.Add, keras.layers.Multiply])
def test_one_input_is_merged_with_nothing(kind, level, tmp_path):
    images = keras.Input((2, 3, 1))
    outputs = kind()([images])
    outputs = mpt.MPTDense(4, sparsity=0.5)(keras.layers.Flatten()(outputs))
    model = keras.Model(images, outputs)
    network = mpt.runtime.load(ticket_of(model, tmp_path), level=level)
    some = images_for((2, 3, 1), 3, np.random.default_rng(0))
    assert_close(network(some), model.predict_on_batch(some))


@pytest.mark.parametrize("level", [None, "numpy"])
def test_rectifiers_at_their_ends(level, tmp_path):
    """At the threshold itself, and of infinities."""
    model = keras.Sequential(
        [
            keras.Input((1, 1, 6)),
            keras.layers.ReLU(negative_slope=0.5, threshold=0.25),
            mpt.quantizers.ApproxSign(),
            keras.layers.ReLU(max_value=2.0),
            keras.layers.Flatten(),
            mpt.MPTDense(6, sparsity=0.5),
        ]
    )
    network = mpt.runtime.load(ticket_of(model, tmp_path), level=level)
    some = np.array([0.25, 0.24, 0.26, -np.inf, np.inf, -1.0], "float32")
    some = some.reshape(1, 1, 1, 6)
    assert_close(network(some), model.predict_on_batch(some))


def test_infinities_are_rectified(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((1, 1, 2)),
            keras.layers.ReLU(max_value=2.0),
            keras.layers.Flatten(),
            mpt.MPTDense(2, sparsity=0.0),
        ]
    )
    network = mpt.runtime.load(ticket_of(model, tmp_path))
    some = np.array([-np.inf, np.inf], "float32").reshape(1, 1, 1, 2)
    assert_close(network(some), model.predict_on_batch(some))


def test_what_is_too_large_is_refused(tmp_path):
    model = keras.Sequential(
        [keras.Input((4,)), mpt.MPTDense(70_000, sparsity=0.5, name="wide")]
    )
    path = ticket_of(model, tmp_path)
    with pytest.raises(
        mpt.runtime.UnsupportedLayerError, match=r"'wide'.*70000.*65536"
    ):
        mpt.runtime.load(path)


def test_subclassed_models_are_refused(tmp_path):
    @keras.saving.register_keras_serializable("tests")
    class Subclassed(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = mpt.MPTDense(2, sparsity=0.5)

        def call(self, inputs):
            return self.dense(inputs)

    model = Subclassed()
    model(np.zeros((1, 3), "float32"))
    path = ticket_of(model, tmp_path)
    with pytest.raises(
        mpt.runtime.UnsupportedLayerError,
        match="only Sequential and functional",
    ):
        mpt.runtime.load(path)


def test_updates_need_their_base(tmp_path):
    model = mpt.models.dense_net((4,), input_shape=(2, 3, 1), sparsity=0.5)
    base = ticket_of(model, tmp_path)
    layer = mpt.masked_layers(model)[0]
    layer.scores.assign(-np.asarray(layer.scores)[::-1])
    path = tmp_path / "update.ticket"
    mpt.save_ticket(model, path, base=base)
    some = images_for((2, 3, 1), 3, np.random.default_rng(0))
    network = mpt.runtime.load(path, base=base)
    assert_close(network(some), model.predict_on_batch(some))
    with pytest.raises(mpt.TicketError, match="base="):
        mpt.runtime.load(path)


def test_networks_go_to_other_processes(network):
    images = np.ones((2, 2, 3, 1))
    copied = pickle.loads(pickle.dumps(network))
    np.testing.assert_array_equal(copied(images), network(images))


def test_networks_of_bytes_take_bytes(tmp_path):
    images = keras.Input((2, 3, 1), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255, offset=-0.5)(images)
    x = keras.layers.Flatten()(x)
    model = keras.Model(images, mpt.MPTDense(4, sparsity=0.5)(x))
    network = mpt.runtime.load(ticket_of(model, tmp_path))
    some = np.random.default_rng(0).integers(0, 256, (3, 2, 3, 1), "uint8")
    assert_close(network(some), model.predict_on_batch(some))
    with pytest.raises(ValueError, match=r"uint8.*float64"):
        network(some / 2)


def test_bytes_are_scaled_first(tmp_path):
    images = keras.Input((4, 4, 1), dtype="uint8")
    x = keras.layers.Add()([images, images])
    x = keras.layers.Flatten()(keras.layers.Rescaling(1.0)(x))
    model = keras.Model(images, mpt.MPTDense(4, sparsity=0.5)(x))
    with pytest.raises(mpt.runtime.UnsupportedLayerError, match="unscaled"):
        mpt.runtime.load(ticket_of(model, tmp_path))
