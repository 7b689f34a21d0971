import functools
import inspect
import subprocess
import sys

import keras
import numpy as np
import pytest
from backend import as_numpy, needs_litert, needs_tensorflow, tf
from test_layers import (
    CASES,
    ONE_OF_EACH,
    inputs_for,
    masked_layer,
    model_of,
)

import mpt_keras as mpt

# What predicts the same bits does so as users have it.
pytestmark = pytest.mark.usefixtures("optimized_graphs")


def check_frozen(model, x):
    """The frozen twin predicts the same bits and holds no masked layer."""
    frozen = mpt.freeze(model)
    np.testing.assert_array_equal(
        frozen.predict_on_batch(x), model.predict_on_batch(x)
    )
    assert not mpt.masked_layers(frozen)
    return frozen


def trained(model, rng, classes=3):
    x = rng.standard_normal((64, *model.input_shape[1:])).astype("float32")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    model.fit(x, rng.integers(0, classes, 64), epochs=2, verbose=0)
    return x


# Each layer both ways, and one in all.
@pytest.mark.parametrize(
    ("case", "binarize", "quantizer"),
    [
        *((case, True, None) for case in ONE_OF_EACH),
        *((case, False, "swish_sign") for case in ONE_OF_EACH),
        ("conv2d", False, None),
        ("conv2d", True, "swish_sign"),
    ],
)
def test_every_layer_freezes_to_its_keras_layer(case, binarize, quantizer, rng):
    layer = masked_layer(
        case,
        binarize=binarize,
        input_quantizer=quantizer,
        use_bias=True,
        bias_initializer="ones",
        activation="tanh",
        sparsity=0.7,
        name="masked",
    )
    frozen = check_frozen(model_of(case, layer), inputs_for(case, rng))
    plain = frozen.get_layer("masked")
    assert type(plain) is CASES[case][1]
    for name, masked in zip(
        layer.kernel_initializers, layer.masked_kernels, strict=True
    ):
        kernel = as_numpy(getattr(plain, name))
        assert np.count_nonzero(kernel) == int(masked.kept())
        if binarize:
            assert set(np.unique(np.abs(kernel))) == {
                np.float32(0),
                np.abs(kernel).max(),
            }


def conv2(**options):
    return mpt.models.conv2(
        width=0.1, classes=3, input_shape=(8, 8, 1), **options
    )


@pytest.fixture(scope="module")
def ticket():
    """Binary activations -> a network that was trained once, and images."""

    @functools.cache
    def train(binary_activations):
        model = conv2(
            binary_activations=binary_activations,
            trained_batch_norm=bool(binary_activations),
            seed=0,
        )
        return model, trained(model, np.random.default_rng(0))

    return train


@pytest.mark.parametrize("binary_activations", [False, True, "ste_sign"])
def test_sequential_network_after_training(binary_activations, ticket):
    check_frozen(*ticket(binary_activations))


@needs_tensorflow
def test_sums_are_added_up_in_the_same_order(rng):
    # TensorFlow's optimizer has an order of its own for sums of known shapes.
    # Those of a valid convolution depend on its kernel's.
    inputs = keras.Input((8, 8, 4))
    branches = []
    for size, padding in ((1, "valid"), (3, "same")):
        layer = mpt.MPTConv2D(4, size, padding=padding, seed=size)
        branches.append(keras.layers.BatchNormalization()(layer(inputs)))
    outputs = keras.layers.ReLU()(keras.layers.Add()(branches))
    model = keras.Model(inputs, outputs)
    for weight in model.weights:
        if len(weight.shape) == 1:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    check_frozen(model, rng.standard_normal((5, 8, 8, 4)).astype("float32"))


def test_functional_network_with_shared_layers_and_branches(rng):
    shared = mpt.MPTDense(6, input_quantizer="ste_sign", name="shared")
    first, second = keras.Input((6,)), keras.Input((6,))
    a, b = shared(first), shared(inputs=second)
    joined = keras.layers.Concatenate()([a, keras.ops.relu(b)])
    outputs = [mpt.MPTDense(3)(joined), keras.layers.Add()([a, b])]
    model = keras.Model([first, second], outputs)
    frozen = mpt.freeze(model)
    assert type(frozen.get_layer("shared")) is keras.layers.Dense
    x = [rng.standard_normal((5, 6)).astype("float32") for _ in range(2)]
    for ours, theirs in zip(
        frozen.predict_on_batch(x), model.predict_on_batch(x), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("outer", ["sequential", "functional"])
def test_nested_models(outer, rng):
    inner_sequential = keras.Sequential(
        [keras.Input((8,)), mpt.MPTDense(6), keras.layers.Dense(6)], name="one"
    )
    inputs = keras.Input((6,))
    inner_functional = keras.Model(
        inputs,
        mpt.MPTDense(6, input_quantizer="approx_sign")(inputs),
        name="two",
    )
    untouched = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    parts = [inner_sequential, inner_functional, untouched]
    if outer == "sequential":
        model = keras.Sequential([keras.Input((8,)), *parts])
    else:
        x = inputs = keras.Input((8,))
        for part in parts:
            x = part(x)
        model = keras.Model(inputs, x)
    frozen = check_frozen(model, trained(model, rng))
    assert [layer.name for layer in frozen.get_layer("one").layers] == [
        layer.name for layer in inner_sequential.layers
    ]


def test_a_model_built_by_its_first_call(rng):
    model = keras.Sequential([mpt.MPTDense(4), mpt.MPTDense(2)])
    x = rng.standard_normal((3, 5)).astype("float32")
    model(x)
    check_frozen(model, x)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy, rng):
    keras.config.set_dtype_policy(policy)
    try:
        model = conv2(binary_activations=True)
    finally:
        keras.config.set_dtype_policy("float32")
    check_frozen(model, trained(model, rng))


@pytest.mark.parametrize("dtype", ["mixed_float16", "bfloat16"])
@pytest.mark.parametrize("kind", ["sequential", "functional"])
def test_inputs_that_half_precision_rounds(kind, dtype):
    """The masked layer rounds -1e-9 to -0.0 in float16, whose sign is +1."""
    layer = mpt.MPTDense(3, seed=0, input_quantizer="approx_sign", dtype=dtype)
    inputs = keras.Input((16,))
    if kind == "sequential":
        model = keras.Sequential([inputs, layer])
    else:
        model = keras.Model(inputs, keras.layers.Add()([layer(inputs)] * 2))
    tiny = 1e-9 if dtype == "mixed_float16" else 1e-41
    check_frozen(model, np.full((2, 16), -tiny, "float32"))


def test_quantizers_that_are_functions_or_hold_state(rng):
    norm = keras.layers.BatchNormalization()
    model = keras.Sequential(
        [
            keras.Input((4,)),
            mpt.MPTDense(4, input_quantizer=keras.ops.tanh),
            mpt.MPTDense(3, input_quantizer=norm),
        ]
    )
    x = trained(model, rng)
    norm.moving_mean.assign(np.arange(4))
    check_frozen(model, x)


def test_adapted_preprocessing_is_copied_with_its_state(rng):
    normalize = keras.layers.Normalization()
    normalize.adapt(rng.normal(3, 5, (50, 6)).astype("float32"))
    inner = keras.Sequential([keras.Input((6,)), normalize])
    model = keras.Sequential([keras.Input((6,)), inner, mpt.MPTDense(4)])
    x = rng.normal(3, 5, (9, 6)).astype("float32")
    check_frozen(model, x)


@needs_tensorflow
def test_adapted_preprocessing_is_exported(rng, tmp_path):
    normalize = keras.layers.Normalization()
    normalize.adapt(rng.normal(3, 5, (50, 6)).astype("float32"))
    model = keras.Sequential([keras.Input((6,)), normalize, mpt.MPTDense(4)])
    x = rng.normal(3, 5, (9, 6)).astype("float32")
    mpt.freeze(model).export(tmp_path / "saved_model", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "saved_model"))
    np.testing.assert_allclose(served.serve(x), model(x), rtol=1e-5, atol=1e-5)


@needs_tensorflow
def test_adapted_vocabularies_are_copied():
    lookup = keras.layers.StringLookup(output_mode="one_hot")
    lookup.adapt(np.array(["a", "b", "b", "c"]))
    inputs = keras.Input((1,), dtype="string")
    model = keras.Model(inputs, mpt.MPTDense(4)(lookup(inputs)))
    check_frozen(model, tf.constant([["a"], ["b"], ["?"]]))


def test_functions_that_keras_cannot_look_up(rng):
    def custom_loss(y, logits):
        return keras.ops.mean(keras.ops.square(logits))

    model = keras.Sequential(
        [keras.Input((4,)), mpt.MPTDense(4, activation=keras.ops.sin)]
    )
    x = rng.standard_normal((3, 4)).astype("float32")
    model.compile("sgd", custom_loss)
    with pytest.raises(ValueError, match="cannot be compiled: its loss"):
        mpt.freeze(model, compile=True)
    frozen = mpt.freeze(model)
    np.testing.assert_array_equal(
        frozen.predict_on_batch(x), model.predict_on_batch(x)
    )
    uncopiable = keras.layers.Activation(lambda x: 2 * x, name="twice")
    uncopiable.get_config = lambda: {"activation": "nowhere"}
    model = keras.Sequential([keras.Input((4,)), mpt.MPTDense(4), uncopiable])
    with pytest.raises(ValueError, match="Cannot copy layer 'twice'"):
        mpt.freeze(model)


def test_functions_quantize_in_the_precision_of_their_layer(rng):
    def cubic(x):
        return x * x * x - x

    layer = mpt.MPTDense(3, input_quantizer=cubic, dtype="float16")
    model = keras.Sequential([keras.Input((16,)), layer])
    check_frozen(model, rng.standard_normal((4, 16)).astype("float32"))


@pytest.mark.parametrize("kind", ["sequential", "functional"])
def test_a_shared_quantizer_with_state(kind, rng, tmp_path):
    quantizer = keras.layers.PReLU(name="shared")
    masked = [mpt.MPTDense(4, input_quantizer=quantizer) for _ in range(2)]
    x = inputs = keras.Input((4,))
    if kind == "sequential":
        model = keras.Sequential([inputs, *masked])
    else:
        for layer in masked:
            x = layer(x)
        model = keras.Model(inputs, x)
    quantizer.alpha.assign([0.1, 0.2, 0.3, 0.4])
    x = rng.standard_normal((3, 4)).astype("float32")
    model.save(tmp_path / "shared.keras")
    reloaded = keras.models.load_model(tmp_path / "shared.keras")
    first, second = mpt.masked_layers(reloaded)
    assert first.input_quantizer is second.input_quantizer
    np.testing.assert_array_equal(
        reloaded.predict_on_batch(x), model.predict_on_batch(x)
    )
    frozen = check_frozen(reloaded, x)
    # A Sequential model holds a layer once.
    copies = {"sequential": 2, "functional": 1}[kind]
    assert len(frozen.weights) == 2 + copies


def test_spectral_normalization_makes_way_for_the_layer_inside(rng):
    inside = mpt.MPTDense(4, input_quantizer="ste_sign", name="inside")
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.SpectralNormalization(inside)]
    )
    frozen = check_frozen(model, trained(model, rng, classes=4))
    assert type(frozen.get_layer("inside")) is keras.layers.Dense


def test_an_activation_with_weights_is_a_copy(rng):
    activation = keras.layers.PReLU(alpha_initializer="ones")
    model = keras.Sequential(
        [keras.Input((4,)), mpt.MPTDense(3, activation=activation, seed=0)]
    )
    x = rng.standard_normal((5, 4)).astype("float32")
    frozen = check_frozen(model, x)
    before = frozen.predict_on_batch(x)
    activation.alpha.assign(np.full(3, 0.25))
    assert (model.predict_on_batch(x) != before).any()
    np.testing.assert_array_equal(frozen.predict_on_batch(x), before)
    held = {id(variable) for variable in model.variables}
    assert len(frozen.variables) == 2
    assert not [v for v in frozen.variables if id(v) in held]


def test_layers_derived_from_ours_freeze_too(rng):
    class Scaled(mpt.MPTDense):
        def __init__(self, units, scale=2.0, **kwargs):
            super().__init__(units, **kwargs)
            self.scale = scale

        def get_config(self):
            return {**super().get_config(), "scale": self.scale}

    assert list(inspect.signature(Scaled).parameters) == [
        *("units", "scale", "kwargs")
    ]
    model = keras.Sequential([keras.Input((4,)), Scaled(3, scale=3.0)])
    check_frozen(model, rng.standard_normal((3, 4)).astype("float32"))


def test_larq_quantizer_stays(rng):
    try:
        quantizer = mpt.larq.quantizers.SteSign(clip_value=1.3)
    except ImportError as error:
        pytest.skip(str(error))
    model = keras.Sequential(
        [keras.Input((4,)), mpt.MPTDense(3, input_quantizer=quantizer)]
    )
    check_frozen(model, trained(model, rng))


def test_the_given_model_stays_as_it_is(rng):
    model = conv2()
    before = [as_numpy(w) for w in model.weights]
    mpt.freeze(model)
    for weight, old in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(as_numpy(weight), old)
    assert len(mpt.masked_layers(model)) == 5


def test_half_the_size(tmp_path):
    model = mpt.models.conv2(width=0.25)
    model.save(tmp_path / "masked.keras")
    mpt.freeze(model).save(tmp_path / "frozen.keras")
    masked, frozen = (
        (tmp_path / f"{name}.keras").stat().st_size
        for name in ("masked", "frozen")
    )
    assert frozen < 0.52 * masked


def test_frozen_model_reloads_and_evaluates(rng, tmp_path, ticket):
    model, x = ticket(True)
    frozen = mpt.freeze(model, compile=True)
    frozen.save(tmp_path / "frozen.keras")
    reloaded = keras.models.load_model(tmp_path / "frozen.keras")
    np.testing.assert_array_equal(
        reloaded.predict_on_batch(x), model.predict_on_batch(x)
    )
    y = rng.integers(0, 3, 64)
    expected = pytest.approx(model.evaluate(x, y, verbose=0))
    for one in (frozen, reloaded):
        assert one.evaluate(x, y, verbose=0) == expected
        names = [variable.name for variable in one.optimizer.variables]
        assert names == ["iteration", "learning_rate"]  # and no moments


def sequential_signs():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            mpt.MPTConv2D(4, 3, input_quantizer="approx_sign", seed=0),
            keras.layers.BatchNormalization(),
            mpt.quantizers.SteSign(clip_value=2.0),
            keras.Sequential([mpt.quantizers.SwishSign()]),
            keras.layers.Flatten(),
            mpt.MPTDense(
                6,
                input_quantizer="swish_sign",
                activation=mpt.quantizers.SteSign(),
                seed=1,
            ),
        ]
    )


def functional_signs():
    inputs = keras.Input((8, 8, 3))
    quantizer = mpt.quantizers.ApproxSign()
    one, two = (
        mpt.MPTConv2D(4, 3, input_quantizer=quantizer, seed=seed)(inputs)
        for seed in range(2)
    )
    signs = keras.layers.Activation(mpt.quantizers.ApproxSign())(one - two)
    dense = mpt.MPTDense(4, input_quantizer="ste_sign", seed=2)
    # One layer on inputs of two ranks.
    outputs = dense(keras.layers.GlobalAveragePooling2D()(dense(signs)))
    return keras.Model(inputs, outputs)


def wrapped_signs():
    wrap = keras.layers.TimeDistributed
    inside = mpt.MPTDense(6, input_quantizer="swish_sign", seed=0)
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            wrap(mpt.MPTConv1D(2, 3, input_quantizer="approx_sign", seed=1)),
            wrap(keras.layers.Flatten()),
            wrap(inside),
            mpt.MPTDense(3, seed=2),
        ]
    )


def larq_signs():
    larq = mpt.larq.quantizers
    model = keras.Sequential([keras.Input((8, 8, 3))])
    for number, quantizer in enumerate(
        [larq.SteSign(), larq.ApproxSign(), larq.SwishSign()]
    ):
        model.add(mpt.MPTDense(8, input_quantizer=quantizer, seed=number))
    return model


def half_precision_signs():
    options = {"dtype": "mixed_float16", "input_quantizer": "ste_sign"}
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            mpt.MPTConv2D(4, 3, seed=0, **options),
            mpt.MPTDense(3, seed=1, **options),
        ]
    )


def test_frozen_signs_load_without_the_library(rng, tmp_path):
    x = rng.standard_normal((5, 8, 8, 3)).astype("float32")
    x[0, 0] = 0.0
    x[0, 1] = -0.0
    x[1, 0] = 1e-41  # subnormal
    x[1, 1] = -1e-41
    x[2, 0] = np.inf
    x[2, 1] = -np.inf
    x[3] = np.nan
    outputs = {}
    makers = [sequential_signs, functional_signs, wrapped_signs, larq_signs]
    for make in (*makers, half_precision_signs):
        try:
            model = make()
        except ImportError:
            assert make is larq_signs  # an extra
            continue
        name = make.__name__
        outputs[name] = model.predict_on_batch(x)
        mpt.freeze(model).save(tmp_path / f"{name}.keras")
    np.savez(tmp_path / "data.npz", x=x, **outputs)
    script = (
        "import pathlib, sys\n"
        "sys.modules['mpt_keras'] = None  # whoever imports it fails\n"
        "import keras, numpy as np\n"
        "data = np.load(sys.argv[1])\n"
        "for name in set(data) - {'x'}:\n"
        "    path = pathlib.Path(sys.argv[1]).with_name(name + '.keras')\n"
        "    predicted = keras.models.load_model(path).predict(data['x'])\n"
        "    assert predicted.tobytes() == data[name].tobytes(), name\n"
    )
    arguments = [sys.executable, "-c", script, tmp_path / "data.npz"]
    subprocess.run(arguments, check=True)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_sign_of_keras_operations_is_that_of_the_quantizers(dtype):
    one = np.float32(1)
    x = np.array(
        [[0, -0.0, 1e-41, -1e-41, 1e-30, -one, np.inf, -np.inf, np.nan]],
        "float32",
    )
    quantizer = mpt.quantizers.ApproxSign(dtype=dtype)
    expected = as_numpy(quantizer(x)).astype("float32")
    sign = mpt.quantizers.sign_model(rank=2, dtype=dtype)
    np.testing.assert_array_equal(as_numpy(sign(x)).astype("float32"), expected)
    assert np.isnan(expected[0, -1])
    assert mpt.quantizers.is_sign_model(sign)
    inputs = keras.Input((3,))
    ternary = keras.Model(inputs, keras.ops.sign(inputs))
    assert not mpt.quantizers.is_sign_model(ternary)


def test_other_quantizers_stay_as_they_are(rng):
    class Ternary(mpt.quantizers.SteSign):
        def call(self, inputs):
            return keras.ops.sign(inputs)

    quantizer = Ternary()
    model = keras.Sequential(
        [keras.Input((4,)), mpt.MPTDense(3, input_quantizer=quantizer)]
    )
    frozen = check_frozen(model, np.zeros((2, 4), "float32"))
    assert isinstance(frozen.layers[0], Ternary)


@pytest.mark.filterwarnings("ignore:The model does not have any trainable")
@pytest.mark.parametrize("reloads", [False, True])
def test_training_does_not_change_a_ticket(reloads, rng, tmp_path, ticket):
    model, x = ticket(True)
    frozen = mpt.freeze(model)
    assert not frozen.compiled
    if reloads:
        frozen.save(tmp_path / "frozen.keras")
        frozen = keras.models.load_model(tmp_path / "frozen.keras")
    before = [as_numpy(weight) for weight in frozen.weights]
    frozen.compile("adam", "sparse_categorical_crossentropy")
    frozen.fit(x, rng.integers(0, 3, 64), verbose=0)
    assert not frozen.trainable_variables
    for weight, old in zip(frozen.weights, before, strict=True):
        np.testing.assert_array_equal(as_numpy(weight), old)
    for one in (frozen, *frozen.layers):
        one.trainable = True
    frozen.compile("adam", "sparse_categorical_crossentropy")
    frozen.fit(x, rng.integers(0, 3, 64), verbose=0)
    # In front of binary activations there is no gradient.
    assert (as_numpy(frozen.weights[-1]) != before[-1]).any()


@needs_tensorflow
def test_saved_model_serves_without_the_library(tmp_path, ticket):
    model, x = ticket(True)
    mpt.freeze(model).export(tmp_path / "saved_model", verbose=False)
    np.savez(tmp_path / "data.npz", x=x, y=model.predict_on_batch(x))
    script = (
        "import sys, numpy as np, tensorflow as tf\n"
        "serve = tf.saved_model.load(sys.argv[1])"
        ".signatures['serving_default']\n"
        "data = np.load(sys.argv[2])\n"
        "(y,) = serve(tf.constant(data['x'])).values()\n"
        "np.testing.assert_allclose(y, data['y'], rtol=1e-5, atol=1e-5)\n"
        "assert 'mpt_keras' not in sys.modules\n"
    )
    paths = [tmp_path / "saved_model", tmp_path / "data.npz"]
    subprocess.run([sys.executable, "-c", script, *paths], check=True)


@needs_tensorflow
def test_masked_models_are_served_too(tmp_path, ticket):
    model, x = ticket(True)
    model.export(tmp_path / "saved_model", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "saved_model"))
    expected = model.predict_on_batch(x)
    np.testing.assert_allclose(served.serve(x), expected, rtol=1e-5, atol=1e-5)


@needs_litert
@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_litert_files_of_tickets_predict_the_same(rng, tmp_path):
    model = keras.Sequential([keras.Input((6,)), mpt.MPTDense(4)])
    path = str(tmp_path / "model.tflite")
    with pytest.raises(ValueError, match="Freeze the model first") as error:
        model.export(path, format="litert", verbose=False)
    assert "'mpt_dense'" in str(error.value)
    assert not list(tmp_path.iterdir())
    mpt.freeze(model).export(path, format="litert", verbose=False)
    interpreter = tf.lite.Interpreter(path)
    interpreter.allocate_tensors()
    x = rng.standard_normal((1, 6)).astype("float32")
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    output = interpreter.get_output_details()[0]["index"]
    np.testing.assert_allclose(
        interpreter.get_tensor(output), model.predict_on_batch(x), rtol=1e-5
    )


@needs_tensorflow
@pytest.mark.filterwarnings("ignore:In the future `np.object`")  # of tf2onnx
@pytest.mark.parametrize(
    ("format", "package", "name"),
    [("onnx", "tf2onnx", "m.onnx"), ("openvino", "openvino", "m.xml")],
)
def test_formats_that_cannot_select_are_refused(
    format, package, name, tmp_path
):
    pytest.importorskip(package)
    model = keras.Sequential([keras.Input((6,)), mpt.MPTDense(4)])
    model(np.ones((1, 6)))  # or Keras does not export it
    with pytest.raises(ValueError, match=f"file of format='{format}' cannot"):
        model.export(str(tmp_path / name), format=format, verbose=False)
    assert not list(tmp_path.iterdir())
    if format == "openvino" and sys.version_info >= (3, 13):
        pytest.skip("there OpenVINO 2026.4 fails without mpt.export")
    ticket = mpt.freeze(model)
    ticket.export(str(tmp_path / name), format=format, verbose=False)
    assert (tmp_path / name).exists()


# --- Bad input ------------------------------------------------------------


def test_layers_that_compute_otherwise_are_refused():
    class Doubled(mpt.MPTDense):
        def apply_kernel(self, inputs, kernel):
            return 2 * super().apply_kernel(inputs, kernel)

    class Shifted(mpt.MPTDense):
        def call(self, inputs):
            return super().call(inputs) + 1

    for cls, method in ((Doubled, "apply_kernel"), (Shifted, "call")):
        model = keras.Sequential([keras.Input((4,)), cls(3, name="own")])
        expected = f"'own': its class {cls.__name__} has a `{method}`"
        with pytest.raises(ValueError, match=expected):
            mpt.freeze(model)


@pytest.mark.parametrize("kind", ["functional", "sequential"])
def test_models_that_compute_otherwise_are_refused(kind):
    class Functional(keras.Model):
        def call(self, inputs, training=None):
            return 2 * super().call(inputs, training)

    class Sequential(keras.Sequential):
        def call(self, inputs, training=None):
            return 2 * super().call(inputs, training)

    inputs = keras.Input((4,))
    if kind == "functional":
        model = Functional(inputs, mpt.MPTDense(3)(inputs), name="own")
    else:
        model = Sequential([inputs, mpt.MPTDense(3)], name="own")
    with pytest.raises(ValueError, match=r"'own': its class .* has a `call`"):
        mpt.freeze(model)


def test_models_without_a_ticket_are_refused():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="holds no masked layer"):
        mpt.freeze(model)


def test_only_a_compiled_model_makes_a_compiled_ticket():
    model = keras.Sequential([keras.Input((4,)), mpt.MPTDense(3)])
    with pytest.raises(ValueError, match=r"is not compiled, .*compile=False"):
        mpt.freeze(model, compile=True)


def test_what_no_batch_would_help_is_not_called_unbuilt():
    class Doubled(keras.Sequential):
        def call(self, inputs, training=None):
            return 2 * super().call(inputs, training)

    with pytest.raises(ValueError, match="its class Doubled has a `call`"):
        mpt.freeze(Doubled([mpt.MPTDense(3)]))


def test_unbuilt_models_are_refused():
    with pytest.raises(ValueError, match="is not built"):
        mpt.freeze(keras.Sequential([mpt.MPTDense(3)]))


@pytest.mark.parametrize("other", ["model.keras", mpt.quantizers.SteSign()])
def test_what_is_no_model_is_refused(other):
    with pytest.raises(ValueError, match="Expected a Keras model"):
        mpt.freeze(other)


def test_nan_scores_are_refused():
    model = keras.Sequential([keras.Input((4,)), mpt.MPTDense(3, name="sick")])
    model.layers[0].scores.assign(np.full((4, 3), np.nan))
    with pytest.raises(ValueError, match="NaN of 12 scores in layer 'sick'"):
        mpt.freeze(model)


@needs_tensorflow
def test_frozen_predictions_under_xla_differ_by_rounding_at_most(ticket):
    model, x = ticket(False)
    frozen = mpt.freeze(model)
    compiled = tf.function(model, jit_compile=True)(x)
    np.testing.assert_allclose(
        compiled, frozen.predict_on_batch(x), rtol=1e-4, atol=1e-5
    )


def test_frozen_tickets_can_be_retrained_with_their_masks(rng):
    """As the docstring of `freeze` says."""
    model = keras.Sequential([keras.Input((6,)), mpt.MPTDense(4, name="one")])
    ticket = mpt.freeze(model)
    ticket.trainable = True
    kernels = mpt.lottery.kernel_values(ticket)
    masks = {name: kernel != 0 for name, kernel in kernels.items()}
    mpt.lottery.apply_masks(ticket, masks)
    ticket.compile("sgd", "mse")
    x, y = rng.standard_normal((8, 6)), rng.standard_normal((8, 4))
    ticket.fit(x, y, verbose=0)
    kernel = as_numpy(ticket.layers[0].kernel)
    np.testing.assert_array_equal(kernel != 0, masks["one"])
    assert (kernel != kernels["one"])[masks["one"]].all()
    mpt.lottery.remove_masks(ticket)
    ticket.compile("sgd", "mse")
    ticket.fit(x, y, verbose=0)
    assert as_numpy(ticket.layers[0].kernel).all()
