import concurrent.futures
import json

import keras
import numpy as np
import pytest
from backend import as_numpy
from keras import layers

import mpt_keras as mpt
from mpt_keras import ticket
from mpt_keras.layers.traversal import masked_kernels
from mpt_keras.ticket import networks


def perturbed(model, rng, amount=0.3):
    """Moves the scores as a search might, each by what its weight says."""
    for masked in masked_kernels(model).values():
        scores = as_numpy(masked.scores).astype("float32")
        kernel = as_numpy(masked.kernel).astype("float32")
        moved = scores + amount * kernel * rng.standard_normal(scores.shape)
        masked.scores.assign(moved)
    for variable in model.weights:
        if "moving" in variable.path or "bias" in variable.path:
            value = np.abs(rng.standard_normal(variable.shape)) + 0.5
            variable.assign(value)
    return model


def convolutions(data_format="channels_last"):
    shape = (8, 8, 3) if data_format == "channels_last" else (3, 8, 8)
    axis = -1 if data_format == "channels_last" else 1
    options = {"data_format": data_format}
    return keras.Sequential(
        [
            keras.Input(shape),
            mpt.MPTConv2D(6, 3, padding="same", sparsity=0.8, **options),
            layers.BatchNormalization(axis=axis),
            layers.ReLU(),
            mpt.MPTSeparableConv2D(5, 3, sparsity=(0.2, 0.6), **options),
            mpt.MPTDepthwiseConv2D(3, binarize=False, **options),
            layers.Flatten(),
            mpt.MPTDense(4, use_bias=True, input_quantizer="ste_sign"),
        ]
    )


def shared_and_nested():
    inner = keras.Sequential(
        [keras.Input((6,)), mpt.MPTDense(6, name="dense"), layers.ReLU()],
        name="inner",
    )
    shared = mpt.MPTDense(6, name="shared", sparsity=0.7)
    inputs = keras.Input((6,))
    x = shared(inner(shared(inputs)))
    outputs = mpt.MPTDense(3, name="dense")(keras.ops.where(x > 0, x, 0.1))
    return keras.Model(inputs, outputs)


class Pair(keras.Model):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.first = mpt.MPTDense(units)
        self.second = layers.Dense(2)

    def build(self, input_shape):
        self.first.build(input_shape)
        self.second.build((*input_shape[:-1], self.units))

    def call(self, inputs):
        return self.second(self.first(inputs))

    def get_config(self):
        return {"units": self.units, **super().get_config()}


MODELS = {
    "convolutions": convolutions,
    "shared_and_nested": shared_and_nested,
    "conv2": lambda: mpt.models.conv2(sparsity=0.9, width=0.125),
    "resnet20": lambda: mpt.models.resnet20(
        width=0.25, binary_activations=True
    ),
    "wrapped": lambda: keras.Sequential(
        [keras.Input((4, 6)), layers.TimeDistributed(mpt.MPTDense(3))]
    ),
    "bfloat16": lambda: keras.Sequential(
        [keras.Input((5,)), mpt.MPTDense(7, dtype="bfloat16")]
    ),
    "signed constant": lambda: keras.Sequential(
        [
            keras.Input((5,)),
            mpt.MPTDense(
                7,
                kernel_initializer=mpt.initializers.SignedConstant("authors"),
                sparsity=0.3,
            ),
        ]
    ),
    "initializers of Keras": lambda: keras.Sequential(
        [
            keras.Input((5,)),
            mpt.MPTDense(
                7,
                kernel_initializer="glorot_uniform",
                scores_initializer="he_normal",
            ),
            mpt.MPTDense(
                3, kernel_initializer="glorot_uniform", binarize=False
            ),
        ]
    ),
}


def assert_same_predictions(loaded, model, rng):
    shape = (3, *model.inputs[0].shape[1:])
    x = rng.standard_normal(shape).astype("float32")
    found, expected = loaded(x, training=False), model(x, training=False)
    np.testing.assert_array_equal(as_numpy(found), as_numpy(expected))


def assert_same_masks(loaded, model):
    expected = mpt.analysis.masks_of(model)
    found = mpt.analysis.masks_of(loaded)
    assert found.keys() == expected.keys()
    for name, mask in expected.items():
        np.testing.assert_array_equal(found[name], mask)


@pytest.mark.parametrize("name", MODELS)
def test_predictions_and_masks_are_the_same_to_the_bit(name, tmp_path, rng):
    keras.utils.set_random_seed(1)
    model = perturbed(MODELS[name](), rng)
    path = tmp_path / "first.ticket"
    mpt.save_ticket(model, path)
    loaded = mpt.load_ticket(path)
    assert_same_masks(loaded, model)
    assert_same_predictions(loaded, model, rng)
    again = tmp_path / "again.ticket"
    mpt.save_ticket(loaded, again)
    if name != "initializers of Keras":  # whose pruned weights are left out
        assert again.read_bytes() == path.read_bytes()
    assert_same_predictions(mpt.load_ticket(again), model, rng)


@pytest.mark.usefixtures("optimized_graphs")
def test_predict_gives_the_same_bits_as_well(tmp_path, rng):
    model = perturbed(mpt.models.conv2(width=0.125), rng)
    mpt.save_ticket(model, tmp_path / "a.ticket")
    loaded = mpt.load_ticket(tmp_path / "a.ticket")
    x = rng.standard_normal((3, *model.input_shape[1:])).astype("float32")
    np.testing.assert_array_equal(
        loaded.predict(x, verbose=0), model.predict(x, verbose=0)
    )


def test_channels_first(tmp_path, rng):
    model = perturbed(convolutions("channels_first"), rng)
    mpt.save_ticket(model, tmp_path / "a.ticket")
    loaded = mpt.load_ticket(tmp_path / "a.ticket")
    assert_same_masks(loaded, model)
    x = rng.standard_normal((3, *model.input_shape[1:])).astype("float32")
    # Compiled, because TensorFlow has no eager kernels for it.
    np.testing.assert_array_equal(
        loaded.predict_on_batch(x), model.predict_on_batch(x)
    )


def test_what_is_read_without_keras_is_what_the_model_has(tmp_path, rng):
    model = perturbed(convolutions(), rng)
    mpt.save_ticket(model, tmp_path / "a.ticket")
    read = ticket.read_ticket(tmp_path / "a.ticket")
    kernels = masked_kernels(model)
    assert read.kernels.keys() == kernels.keys()
    for name, stored in read.kernels.items():
        masked = kernels[name]
        np.testing.assert_array_equal(stored.mask, as_numpy(masked.mask()))
        np.testing.assert_array_equal(stored.kernel, as_numpy(masked.kernel))
        np.testing.assert_array_equal(
            stored.effective, as_numpy(masked.effective())
        )
        assert stored.gain == float(masked.gain())
        assert stored.sparsity == 1 - stored.kept / stored.size
    frozen = mpt.freeze(model)
    first, *_ = read.kernels.values()
    np.testing.assert_array_equal(
        first.effective, as_numpy(frozen.layers[0].kernel)
    )
    assert read.file_bytes == (tmp_path / "a.ticket").stat().st_size
    norm, *_, last = (
        layer
        for layer in model.layers
        if "norm" in layer.name or layer is model.layers[-1]
    )
    expected = {
        f"{layer.name}/{variable.name}": as_numpy(variable)
        for layer, variable in [
            *((norm, variable) for variable in norm.weights),
            (last, last.bias),
        ]
    }
    assert read.weights.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(read.weights[name], value)


def test_global_sparsity_and_changed_sparsities(tmp_path, rng):
    model = perturbed(mpt.models.conv2(width=0.125, sparsity=0.5), rng)
    first, *_, last = mpt.masked_layers(model)
    first.sparsity = 0.123
    last.masked_kernels[0].set_kept(7)
    mpt.save_ticket(model, tmp_path / "a.ticket")
    loaded = mpt.load_ticket(tmp_path / "a.ticket")
    assert_same_masks(loaded, model)
    assert_same_predictions(loaded, model, rng)
    kernels = ticket.read_ticket(tmp_path / "a.ticket").kernels.values()
    assert all(kernel.draw for kernel in kernels)


@pytest.mark.parametrize("binarize", [True, False])
def test_recycled_kernels(binarize, tmp_path, rng):
    model = perturbed(
        mpt.models.conv2(width=0.125, sparsity=0.7, binarize=binarize), rng
    )
    plain = tmp_path / "plain.ticket"
    mpt.save_ticket(model, plain)
    for masked in masked_kernels(model).values():
        recycled = mpt.weight_recycling.recycled(
            as_numpy(masked.kernel), as_numpy(masked.scores), 0.4
        )
        masked.kernel.assign(recycled)
    path = tmp_path / "recycled.ticket"
    mpt.save_ticket(model, path)
    loaded = mpt.load_ticket(path)
    assert_same_masks(loaded, model)
    assert_same_predictions(loaded, model, rng)
    read = ticket.read_ticket(path)
    assert not any(kernel.draw for kernel in read.kernels.values())
    kept = sum(kernel.kept for kernel in read.kernels.values())
    more = path.stat().st_size - plain.stat().st_size
    if binarize:  # a bit for each weight kept, less for those as drawn
        assert more < kept / 8 + 200 * len(read.kernels)
    else:
        assert more > 4 * kept


def test_pruned_and_frozen_networks(tmp_path, rng):
    pruned = keras.Sequential(
        [
            keras.Input((20,)),
            layers.Dense(30, activation="relu"),
            layers.Dense(10),
            layers.Dense(5),
        ]
    )
    for layer in pruned.layers[:2]:
        kernel = as_numpy(layer.kernel)
        layer.kernel.assign(np.where(rng.random(kernel.shape) < 0.9, 0, kernel))
    frozen = mpt.freeze(mpt.models.conv2(width=0.25, sparsity=0.8))
    sizes = {}
    for name, model in {"pruned": pruned, "frozen": frozen}.items():
        path = tmp_path / f"{name}.ticket"
        mpt.save_ticket(model, path)
        loaded = mpt.load_ticket(path)
        for variable, expected in zip(
            loaded.weights, model.weights, strict=True
        ):
            np.testing.assert_array_equal(
                as_numpy(variable), as_numpy(expected)
            )
        assert_same_predictions(loaded, model, rng)
        sizes[name] = path.stat().st_size
    # A dense layer that is not pruned is no ticket.
    assert list(ticket.read_ticket(tmp_path / "pruned.ticket").kernels) == [
        layer.name for layer in pruned.layers[:2]
    ]
    assert sizes["frozen"] < 4 * frozen.count_params() / 15
    half = tmp_path / "half.ticket"
    mpt.save_ticket(pruned, half, values_dtype="float16")
    loaded = mpt.load_ticket(half)
    np.testing.assert_array_equal(
        as_numpy(loaded.layers[0].kernel),
        as_numpy(pruned.layers[0].kernel).astype("float16"),
    )
    assert half.stat().st_size < sizes["pruned"]
    pruned.layers[0].kernel.assign(as_numpy(pruned.layers[0].kernel) * 1e9)
    with pytest.raises(ValueError, match="float16 cannot"):
        mpt.save_ticket(pruned, half, values_dtype="float16")


def test_an_update_costs_what_changed(tmp_path, rng):
    model = perturbed(mpt.models.conv2(width=0.5, sparsity=0.5), rng)
    mpt.save_ticket(model, tmp_path / "old.ticket")
    perturbed(model, rng, 0.01)
    mpt.save_ticket(model, tmp_path / "new.ticket")
    update = tmp_path / "update.ticket"
    mpt.save_ticket(model, update, base=tmp_path / "old.ticket")
    loaded = mpt.load_ticket(update, base=tmp_path / "old.ticket")
    assert_same_masks(loaded, model)
    assert_same_predictions(loaded, model, rng)
    whole = (tmp_path / "new.ticket").stat().st_size
    assert update.stat().st_size < whole / 2
    base = ticket.read_ticket(tmp_path / "old.ticket")
    assert_same_masks(mpt.load_ticket(update, base=base), model)
    with pytest.raises(mpt.TicketError, match="saved against another ticket"):
        mpt.load_ticket(update)
    with pytest.raises(mpt.TicketError, match="saved against another ticket"):
        mpt.load_ticket(update, base=tmp_path / "new.ticket")
    with pytest.raises(mpt.TicketError, match="whole by itself"):
        mpt.load_ticket(tmp_path / "new.ticket", base=tmp_path / "old.ticket")


def test_a_loaded_ticket_trains_on(tmp_path, rng):
    model = perturbed(convolutions(), rng)
    mpt.save_ticket(model, tmp_path / "a.ticket")
    loaded = mpt.load_ticket(tmp_path / "a.ticket")
    before = mpt.analysis.masks_of(loaded)
    loaded.compile("sgd", "mse")
    loaded.optimizer.learning_rate = 10.0
    x = rng.standard_normal((8, 8, 8, 3))
    loaded.fit(x, rng.standard_normal((8, 4)), verbose=0)
    after = mpt.analysis.masks_of(loaded)
    assert any((before[name] != after[name]).any() for name in before)


def test_layers_that_finish_after_loading(tmp_path, rng):
    normalization = layers.Normalization()
    normalization.adapt(rng.standard_normal((50, 4)) * 3 + 1)
    model = keras.Sequential(
        [keras.Input((4,)), normalization, mpt.MPTDense(3), layers.Dropout(0.5)]
    )
    mpt.save_ticket(model, tmp_path / "a.ticket")
    assert_same_predictions(mpt.load_ticket(tmp_path / "a.ticket"), model, rng)


def test_classes_of_ones_own_are_named_to_load(tmp_path, rng):
    name = "mine>Pair"
    keras.saving.register_keras_serializable("mine")(Pair)
    try:
        model = Pair(5)
        model.build((None, 4))
        mpt.save_ticket(model, tmp_path / "a.ticket")
        with pytest.raises(mpt.TicketError, match="It names 'mine>Pair'"):
            mpt.load_ticket(tmp_path / "a.ticket")
        loaded = mpt.load_ticket(
            tmp_path / "a.ticket", custom_objects={name: Pair}
        )
        x = rng.standard_normal((3, 4)).astype("float32")
        np.testing.assert_array_equal(as_numpy(loaded(x)), as_numpy(model(x)))
    finally:
        del keras.saving.get_custom_objects()[name]


def test_what_is_no_ticket_is_refused_and_nothing_is_written(tmp_path, rng):
    path = tmp_path / "a.ticket"
    model = convolutions()
    mpt.save_ticket(model, path)
    before = path.read_bytes()
    dense = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    with pytest.raises(ValueError, match="There is no ticket in model"):
        mpt.save_ticket(dense, path)
    with pytest.raises(ValueError, match="is not built"):
        mpt.save_ticket(keras.Sequential([mpt.MPTDense(3)]), path)
    with pytest.raises(ValueError, match="Expected a Keras model"):
        mpt.save_ticket(mpt.MPTDense(3), path)
    with pytest.raises(ValueError, match="values_dtype"):
        mpt.save_ticket(model, path, values_dtype="int8")
    with_code = keras.Sequential(
        [
            keras.Input((3,)),
            mpt.MPTDense(2),
            layers.Lambda(lambda x: x + 1, name="adds_one"),
        ]
    )
    with pytest.raises(ValueError, match="adds_one"):
        mpt.save_ticket(with_code, path)
    scores = as_numpy(model.layers[0].scores).copy()
    scores[0, 0, 0, 0] = np.nan
    model.layers[0].scores.assign(scores)
    with pytest.raises(ValueError, match=model.layers[0].name):
        mpt.save_ticket(model, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.ticket"]


def test_the_file_is_a_safetensors_file(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    mpt.save_ticket(convolutions(), tmp_path / "a.ticket")
    arrays = safetensors.load_file(tmp_path / "a.ticket")
    assert {"description", "sha256"} <= arrays.keys()
    assert any(name.startswith("masks/") for name in arrays)


def test_the_config_is_of_json(tmp_path):
    model = convolutions()
    model.compile("adam", "mse")
    mpt.save_ticket(model, tmp_path / "a.ticket")
    config = ticket.read_ticket(tmp_path / "a.ticket").config
    assert "compile_config" not in json.dumps(config)
    assert not mpt.load_ticket(tmp_path / "a.ticket").compiled


def test_settings_of_a_later_keras_that_set_nothing(rng):
    model = convolutions()
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))
    of_layers = [layer["config"] for layer in config["config"]["layers"][1:]]
    for one in of_layers:  # which none of them knows all of
        one |= {"quantization_config": None, "renorm": False}
        one |= {"renorm_clipping": None, "renorm_momentum": 0.99}
        one |= {"sliding_window": None, "use_gate": False}
    again = networks.network(config)
    again.set_weights(model.get_weights())
    x = rng.random((2, 8, 8, 3), "float32")
    np.testing.assert_array_equal(
        again.predict_on_batch(x), model.predict_on_batch(x)
    )
    of_layers[-1]["use_gate"] = True
    with pytest.raises((TypeError, ValueError), match="use_gate"):
        networks.network(config)


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.ticket"
    mpt.save_ticket(convolutions(), path)
    before = path.read_bytes()

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        mpt.save_ticket(convolutions(), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.ticket"]


class ByName(layers.Layer):
    """Makes its parts in the order of a dictionary."""

    def __init__(self, widths, **kwargs):
        super().__init__(**kwargs)
        self.widths = widths
        self.heads = {
            name: mpt.MPTDense(width, name=name)
            for name, width in widths.items()
        }

    def build(self, input_shape):
        for head in self.heads.values():
            head.build(input_shape)
        self.built = True

    def call(self, inputs):
        return self.heads["wide"](inputs) - 3 * self.heads["deep"](inputs)

    def get_config(self):
        return {"widths": self.widths, **super().get_config()}


@pytest.fixture
def registered():
    """Registers classes for a test; a dictionary of them by name."""
    found = {}

    def register(cls, package="mine"):
        keras.saving.register_keras_serializable(package)(cls)
        found[f"{package}>{cls.__name__}"] = cls
        return found

    yield register
    for name in found:
        del keras.saving.get_custom_objects()[name]


def test_the_order_in_configurations_is_kept(tmp_path, rng, registered):
    custom_objects = registered(ByName)
    model = keras.Sequential(
        [keras.Input((6,)), ByName({"wide": 4, "deep": 4})]
    )
    mpt.save_ticket(model, tmp_path / "a.ticket")
    loaded = mpt.load_ticket(
        tmp_path / "a.ticket", custom_objects=custom_objects
    )
    assert_same_predictions(loaded, model, rng)


def test_classes_of_a_script(tmp_path, rng, registered):
    class Own(mpt.MPTDense):
        pass

    Own.__module__ = "__main__"  # of which Keras says no module
    custom_objects = registered(Own)
    model = keras.Sequential([keras.Input((6,)), Own(4, sparsity=0.7)])
    mpt.save_ticket(model, tmp_path / "a.ticket")
    loaded = mpt.load_ticket(
        tmp_path / "a.ticket", custom_objects=custom_objects
    )
    assert_same_predictions(loaded, model, rng)


def test_keys_that_are_no_text_are_refused(tmp_path, registered):
    registered(ByName)
    model = keras.Sequential(
        [keras.Input((6,)), ByName({"wide": 4, "deep": 4})]
    )
    model.layers[0].widths = {1: 4}
    with pytest.raises(ValueError, match="the key 1"):
        mpt.save_ticket(model, tmp_path / "a.ticket")


def test_a_compiled_model_inside_another(tmp_path, rng):
    inner = keras.Sequential([keras.Input((5,)), mpt.MPTDense(4)])
    inner.compile("adam", "mse")
    inputs = keras.Input((5,))
    model = keras.Model(inputs, layers.Dense(2)(inner(inputs)))
    mpt.save_ticket(model, tmp_path / "a.ticket")
    assert_same_predictions(mpt.load_ticket(tmp_path / "a.ticket"), model, rng)


def test_float64(tmp_path, rng):
    if keras.backend.backend() == "jax":
        pytest.skip("JAX has no float64 by default.")
    model = keras.Sequential(
        [keras.Input((5,)), mpt.MPTDense(4, dtype="float64")]
    )
    mpt.save_ticket(model, tmp_path / "a.ticket")
    assert_same_predictions(mpt.load_ticket(tmp_path / "a.ticket"), model, rng)
    kernel = as_numpy(model.layers[0].kernel)
    model.layers[0].kernel.assign(kernel + 1e-12)
    with pytest.raises(ValueError, match="float64 numbers that float32 cannot"):
        mpt.save_ticket(model, tmp_path / "a.ticket")


def test_what_trains_still_trains_and_the_rest_does_not(tmp_path):
    model = convolutions()
    model.layers[1].gamma.trainable = False
    model.layers[0].trainable = False
    sequential = keras.Sequential([keras.Input((5,)), mpt.MPTDense(4)])
    sequential.trainable = False
    for each in (model, sequential, mpt.freeze(sequential)):
        mpt.save_ticket(each, tmp_path / "a.ticket")
        loaded = mpt.load_ticket(tmp_path / "a.ticket")
        assert loaded.trainable == each.trainable
        assert [v.trainable for v in loaded.weights] == [
            v.trainable for v in each.weights
        ]
        mpt.save_ticket(loaded, tmp_path / "b.ticket")
        files = [tmp_path / name for name in ("a.ticket", "b.ticket")]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_adapters_stay_beside_their_kernel(tmp_path):
    dense = layers.Dense(6)
    model = keras.Sequential([keras.Input((5,)), mpt.MPTDense(4), dense])
    dense.enable_lora(2)
    dense.lora_kernel_b.assign(np.ones((2, 6)))
    mpt.save_ticket(model, tmp_path / "a.ticket")
    loaded = mpt.load_ticket(tmp_path / "a.ticket")
    for one, other in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(as_numpy(one), as_numpy(other))


def test_values_that_no_file_holds_are_refused(tmp_path):
    model = convolutions()
    kernel = as_numpy(model.layers[0].kernel).copy()
    kernel[0, 0, 0, 0] = np.inf
    model.layers[0].kernel.assign(kernel)
    with pytest.raises(ValueError, match="NaN or infinite"):
        mpt.save_ticket(model, tmp_path / "a.ticket")
    large = keras.Sequential([keras.Input((5,)), layers.Dense(4)])
    large.layers[0].kernel.assign(3.3e38 * np.eye(5, 4))
    mpt.save_ticket(large, tmp_path / "a.ticket")
    loaded = mpt.load_ticket(tmp_path / "a.ticket")
    np.testing.assert_array_equal(
        as_numpy(loaded.layers[0].kernel), as_numpy(large.layers[0].kernel)
    )


def test_binarize_set_later_is_what_is_saved(tmp_path, rng):
    model = keras.Sequential([keras.Input((5,)), mpt.MPTDense(4)])
    model.layers[0].binarize = False
    mpt.save_ticket(model, tmp_path / "a.ticket")
    loaded = mpt.load_ticket(tmp_path / "a.ticket")
    assert loaded.layers[0].binarize is False
    assert_same_predictions(loaded, model, rng)
    np.testing.assert_array_equal(
        as_numpy(model.layers[0].effective_kernel()),
        as_numpy(model.layers[0].kernel) * as_numpy(model.layers[0].mask()),
    )


def test_an_update_does_not_overwrite_its_base(tmp_path, rng):
    model = perturbed(mpt.models.conv2(width=0.125), rng)
    path = tmp_path / "a.ticket"
    mpt.save_ticket(model, path)
    before = path.read_bytes()
    for base in (path, ticket.read_ticket(path)):
        with pytest.raises(ValueError, match="is the base itself"):
            mpt.save_ticket(model, path, base=base)
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match="Invalid value for argument `base`"):
        mpt.save_ticket(model, path, base=model)


def test_updates_of_updates(tmp_path, rng):
    model = perturbed(mpt.models.conv2(width=0.125), rng)
    paths = [tmp_path / f"{number}.ticket" for number in range(3)]
    mpt.save_ticket(model, paths[0])
    base = ticket.read_ticket(paths[0])
    for path in paths[1:]:
        mpt.save_ticket(perturbed(model, rng, 0.01), path, base=base)
        base = ticket.read_ticket(path, base=base)
    second = ticket.read_ticket(paths[1], base=paths[0])
    assert_same_masks(mpt.load_ticket(paths[2], base=second), model)
    with pytest.raises(mpt.TicketError, match="is an update itself"):
        mpt.load_ticket(paths[2], base=paths[1])


def test_links_permissions_and_other_writers(tmp_path):
    model = keras.Sequential([keras.Input((5,)), mpt.MPTDense(4)])
    path, link = tmp_path / "a.ticket", tmp_path / "link.ticket"
    mpt.save_ticket(model, path)
    path.chmod(0o600)
    link.symlink_to(path)
    model.layers[0].sparsity = 0.9
    mpt.save_ticket(model, link)
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o600
    assert mpt.load_ticket(path).layers[0].sparsity == 0.9
    with pytest.raises(OSError, match="Expected a file"):
        mpt.save_ticket(model, tmp_path)
    shared = tmp_path / "shared.ticket"
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        writers = [
            pool.submit(mpt.save_ticket, model, shared) for _ in range(8)
        ]
        for writer in writers:
            writer.result()
            assert ticket.read_ticket(shared)
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {"a.ticket", "link.ticket", "shared.ticket"}
