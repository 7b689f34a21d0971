import copy
import inspect

import keras
import numpy as np
import oracle
import pytest
from backend import (
    FORMS,
    NAME,
    as_numpy,
    needs_tensorflow,
    not_on_torch,
    tf,
    value_and_gradients,
)
from keras import ops

import mpt_keras as mpt

# Masked layer, Keras layer, arguments, input shape.
CASES = {
    "dense": (mpt.MPTDense, keras.layers.Dense, {"units": 5}, (2, 7)),
    "dense_3d": (mpt.MPTDense, keras.layers.Dense, {"units": 5}, (2, 3, 7)),
    "einsum": (
        mpt.MPTEinsumDense,
        keras.layers.EinsumDense,
        {"equation": "btd,dhk->bhtk", "output_shape": (2, 3, 4)},
        (2, 3, 7),
    ),
    "conv1d": (
        mpt.MPTConv1D,
        keras.layers.Conv1D,
        {"filters": 6, "kernel_size": 3, "strides": 2, "padding": "same"},
        (2, 9, 4),
    ),
    "conv1d_causal": (
        mpt.MPTConv1D,
        keras.layers.Conv1D,
        {
            "filters": 6,
            "kernel_size": 3,
            "dilation_rate": 2,
            "padding": "causal",
        },
        (2, 9, 4),
    ),
    "conv2d": (
        mpt.MPTConv2D,
        keras.layers.Conv2D,
        {"filters": 6, "kernel_size": 3, "strides": 2},
        (2, 8, 8, 4),
    ),
    "conv2d_dilated": (
        mpt.MPTConv2D,
        keras.layers.Conv2D,
        {
            "filters": 6,
            "kernel_size": (3, 2),
            "dilation_rate": 2,
            "padding": "same",
        },
        (2, 8, 8, 4),
    ),
    "conv2d_grouped": (
        mpt.MPTConv2D,
        keras.layers.Conv2D,
        {"filters": 6, "kernel_size": 3, "groups": 2},
        (2, 8, 8, 4),
    ),
    "conv3d": (
        mpt.MPTConv3D,
        keras.layers.Conv3D,
        {"filters": 3, "kernel_size": 2},
        (2, 4, 4, 4, 2),
    ),
    "depthwise": (
        mpt.MPTDepthwiseConv2D,
        keras.layers.DepthwiseConv2D,
        {"kernel_size": 3, "depth_multiplier": 2, "padding": "same"},
        (2, 8, 8, 3),
    ),
    "separable": (
        mpt.MPTSeparableConv2D,
        keras.layers.SeparableConv2D,
        {"filters": 6, "kernel_size": 3, "depth_multiplier": 2},
        (2, 8, 8, 3),
    ),
    "transpose": (
        mpt.MPTConv2DTranspose,
        keras.layers.Conv2DTranspose,
        {
            "filters": 6,
            "kernel_size": 3,
            "strides": 2,
            "padding": "same",
            "output_padding": 1,
        },
        (2, 5, 5, 3),
    ),
    "depthwise1d": (
        mpt.MPTDepthwiseConv1D,
        keras.layers.DepthwiseConv1D,
        {"kernel_size": 3, "depth_multiplier": 2, "strides": 2},
        (2, 9, 3),
    ),
    "separable1d": (
        mpt.MPTSeparableConv1D,
        keras.layers.SeparableConv1D,
        {"filters": 6, "kernel_size": 3, "padding": "same"},
        (2, 9, 4),
    ),
    "transpose1d": (
        mpt.MPTConv1DTranspose,
        keras.layers.Conv1DTranspose,
        {"filters": 4, "kernel_size": 4, "strides": 3},
        (2, 5, 3),
    ),
    "transpose1d_dilated": (
        mpt.MPTConv1DTranspose,
        keras.layers.Conv1DTranspose,
        {"filters": 4, "kernel_size": 3, "dilation_rate": 2},
        (2, 5, 3),
    ),
    "transpose3d": (
        mpt.MPTConv3DTranspose,
        keras.layers.Conv3DTranspose,
        {"filters": 3, "kernel_size": 2, "strides": 2, "padding": "same"},
        (2, 3, 3, 3, 2),
    ),
    "embedding": (
        mpt.MPTEmbedding,
        keras.layers.Embedding,
        {"input_dim": 11, "output_dim": 4},
        (2, 5),
    ),
}
OPTIONS = {
    "plain": {},
    "edge_popup": {"binarize": False, "sparsity": 0.29},
    "bias": {
        "use_bias": True,
        "bias_initializer": "ones",
        "activation": "tanh",
        "sparsity": 0.8,
    },
    "binary_input": {"input_quantizer": "approx_sign", "sparsity": 0.0},
}
all_cases = pytest.mark.parametrize("case", CASES)
ONE_OF_EACH = (
    *("dense", "einsum", "conv1d", "conv2d", "conv3d", "depthwise"),
    *("separable", "transpose", "depthwise1d", "separable1d"),
    *("transpose1d", "transpose3d", "embedding"),
)
one_of_each = pytest.mark.parametrize("case", ONE_OF_EACH)


def arguments_of(case, options):
    """The arguments of a case, whose layer may say otherwise what a bias is."""
    cls, _, arguments, _ = CASES[case]
    options = dict(options)
    if cls is mpt.MPTEinsumDense and options.pop("use_bias", False):
        options["bias_axes"] = "hk"
    return {**arguments, **options}


def masked_layer(case, **options):
    cls, _, _, shape = CASES[case]
    options = that_fit(case, {"seed": 1, **options})
    layer = cls(**arguments_of(case, options))
    layer.build(shape)
    return layer


def that_fit(case, options):
    """Without what an embedding does not have."""
    lacks = {"use_bias", "bias_initializer", "activation", "input_quantizer"}
    if case != "embedding":
        lacks = ()
    return {name: options[name] for name in options if name not in lacks}


def inputs_for(case, rng):
    _, _, arguments, shape = CASES[case]
    if case == "embedding":
        return rng.integers(0, arguments["input_dim"], shape).astype("int32")
    return rng.standard_normal(shape).astype("float32")


def model_of(case, layer):
    dtype = "int32" if case == "embedding" else None
    shape = CASES[case][-1][1:]
    return keras.Sequential([keras.Input(shape, dtype=dtype), layer])


def dtype_of(tensor):
    return keras.backend.standardize_dtype(tensor.dtype)


def plain_twin(case, layer, options):
    """The ordinary layer holding what NumPy says the kernel is."""
    _, keras_class, _, shape = CASES[case]
    kept = ("use_bias", "bias_initializer", "activation")
    own = {"use_bias": False, **{k: options[k] for k in kept if k in options}}
    twin = keras_class(**arguments_of(case, that_fit(case, own)))
    twin.build(shape)
    for name, masked in zip(
        layer.kernel_initializers, layer.masked_kernels, strict=True
    ):
        getattr(twin, name).assign(
            oracle.effective(
                as_numpy(masked.scores),
                as_numpy(masked.kernel),
                options.get("sparsity", 0.5),
                layer.binarize,
            )
        )
    return twin


@all_cases
@pytest.mark.parametrize("option", OPTIONS)
def test_layer_is_the_plain_layer_with_the_oracles_kernel(case, option, rng):
    options = OPTIONS[option]
    layer = masked_layer(case, **options)
    x = seen = inputs_for(case, rng)
    if layer.input_quantizer:
        seen = np.where(x < 0, -1.0, 1.0)
    np.testing.assert_allclose(
        as_numpy(layer(x)),
        as_numpy(plain_twin(case, layer, options)(seen)),
        rtol=2e-5,
        atol=2e-6,
    )


@all_cases
@pytest.mark.parametrize("binarize", [True, False])
def test_scores_gradient_is_that_of_the_plain_layers_kernel(
    case, binarize, rng
):
    layer = masked_layer(case, binarize=binarize)
    twin = plain_twin(case, layer, {})
    x = inputs_for(case, rng)
    scores = [masked.scores for masked in layer.masked_kernels]
    kernels = [getattr(twin, name) for name in layer.kernel_initializers]
    assert layer.trainable_variables == scores
    _, gradients = value_and_gradients(lambda: layer(x) ** 2, scores)
    _, upstreams = value_and_gradients(lambda: twin(x) ** 2, kernels)
    for masked, gradient, upstream in zip(
        layer.masked_kernels, gradients, upstreams, strict=True
    ):
        expected = oracle.scores_gradient(
            upstream, as_numpy(masked.scores), as_numpy(masked.kernel)
        )
        np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4)


# Each layer once, and one of them with each option.
@pytest.mark.parametrize(
    ("case", "option"),
    [
        *((case, "plain") for case in ONE_OF_EACH),
        ("conv2d", "bias"),
        ("dense", "binary_input"),
    ],
)
def test_keras_own_layer_test(case, option, run_layer_test):
    cls, _, _, shape = CASES[case]
    options = OPTIONS[option]
    kernels = len(cls.kernel_initializers)
    run_layer_test(
        cls,
        arguments_of(case, options),
        input_data=inputs_for(case, np.random.default_rng(0)),
        expected_output_shape=tuple(masked_layer(case)(np.ones(shape)).shape),
        expected_num_trainable_weights=kernels + (option == "bias"),
        expected_num_non_trainable_weights=2 * kernels,
        expected_num_seed_generators=0,
        expected_num_losses=0,
    )


@all_cases
def test_exactly_k_weights_are_kept(case):
    for sparsity in (0.0, 0.29, 0.8, 0.999):
        layer = masked_layer(case, sparsity=sparsity)
        for masked in layer.masked_kernels:
            kept = masked.size - oracle.pruned_count(sparsity, masked.size)
            assert int(as_numpy(masked.mask()).sum()) == kept
            assert int(masked.kept()) == kept


@one_of_each
def test_save_and_reload_bit_identically(case, rng, tmp_path):
    layer = masked_layer(
        case, sparsity=0.7, use_bias=True, input_quantizer="ste_sign"
    )
    model = model_of(case, layer)
    layer.sparsity = 0.3
    for masked in layer.masked_kernels:
        masked.scores.assign(rng.standard_normal(masked.scores.shape))
    x = inputs_for(case, rng)
    expected = model.predict_on_batch(x)

    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(reloaded.predict_on_batch(x), expected)

    model.save_weights(tmp_path / "model.weights.h5")
    clone = keras.models.clone_model(model)
    clone.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(clone.predict_on_batch(x), expected)
    assert all(not m.kernel.trainable for m in clone.layers[0].masked_kernels)


@pytest.mark.parametrize(
    ("case", "policy"),
    [
        *((case, "mixed_bfloat16") for case in ONE_OF_EACH),
        ("conv2d", "mixed_float16"),
        ("dense", "mixed_float16"),
    ],
)
def test_mixed_precision_keeps_scores_in_float32(case, policy, rng):
    layer = masked_layer(case, dtype=policy)
    model = model_of(case, layer)
    before = [as_numpy(masked.scores) for masked in layer.masked_kernels]
    x = inputs_for(case, rng)
    y = model(x)
    assert dtype_of(y) == policy.removeprefix("mixed_")
    expected = masked_layer(case)(x)
    np.testing.assert_allclose(
        as_numpy(ops.cast(y, "float32")),
        as_numpy(expected),
        rtol=0.05,
        atol=0.1,
    )
    model.compile("sgd", "mse")
    model.fit(x, np.zeros(y.shape, "float32"), verbose=0)
    for masked, old in zip(layer.masked_kernels, before, strict=True):
        assert masked.scores.dtype == "float32"
        assert masked.kernel.dtype == "float32"
        assert np.abs(as_numpy(masked.scores) - old).max() > 0


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_scores_in_half_precision_keep_exactly_k(dtype, rng):
    layer = mpt.MPTDense(64, sparsity=0.9, dtype=dtype)
    y = layer(ops.convert_to_tensor(rng.standard_normal((2, 100)), dtype))
    assert layer.scores.dtype == dtype_of(y) == dtype
    assert int(as_numpy(layer.mask()).sum()) == 640


def small_model(kind):
    layers = [
        lambda: mpt.MPTConv2D(4, 3, activation="relu", seed=0),
        keras.layers.Flatten,
        lambda: mpt.MPTDense(3, seed=1),
    ]
    if kind == "sequential":
        return keras.Sequential([make() for make in layers])
    inputs = keras.Input((8, 8, 2))
    if kind == "functional":
        x = inputs
        for make in layers:
            x = make()(x)
        return keras.Model(inputs, x)
    if kind == "nested":
        inner = keras.Sequential([keras.Input((8, 8, 2)), layers[0]()])
        outer = keras.Sequential([layers[1](), layers[2]()])
        return keras.Model(inputs, outer(inner(inputs)))

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.blocks = [make() for make in layers]

        def call(self, x):
            for block in self.blocks:
                x = block(x)
            return x

    return Subclassed()


# Each kind of model as it is, and one of them compiled in each other way.
@pytest.mark.parametrize(
    ("kind", "compile_options"),
    [
        ("sequential", {}),
        ("functional", {}),
        ("subclassed", {}),
        ("nested", {}),
        pytest.param("nested", {"jit_compile": True}, marks=not_on_torch),
        pytest.param(
            "sequential", {"steps_per_execution": 2}, marks=not_on_torch
        ),
        ("subclassed", {"run_eagerly": True}),
    ],
    ids=str,
)
def test_training_moves_the_scores_and_nothing_else(kind, compile_options, rng):
    x = rng.standard_normal((16, 8, 8, 2)).astype("float32")
    y = rng.integers(0, 3, 16)
    model = small_model(kind)
    model(x[:1])
    layers = mpt.masked_layers(model)
    assert [type(layer) for layer in layers] == [mpt.MPTConv2D, mpt.MPTDense]
    kernels = [as_numpy(layer.kernel) for layer in layers]
    scores = [as_numpy(layer.scores) for layer in layers]
    model.compile(
        "adam",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **compile_options,
    )
    losses = model.fit(x, y, batch_size=4, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    for layer, kernel, score in zip(layers, kernels, scores, strict=True):
        np.testing.assert_array_equal(as_numpy(layer.kernel), kernel)
        assert np.abs(as_numpy(layer.scores) - score).max() > 0


@needs_tensorflow
@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_compiled_step_sees_another_sparsity_without_retracing(
    jit_compile, rng
):
    layer = mpt.MPTDense(10, use_bias=False)
    layer.build((None, 10))
    graph = tf.function(
        lambda x: tf.math.count_nonzero(layer(x)), jit_compile=jit_compile
    )
    eye = np.eye(10, dtype="float32")
    for sparsity in (0.5, 0.9, 0.0):
        layer.sparsity = sparsity
        assert int(graph(eye)) == round(100 * (1 - sparsity))
        layer.masked_kernels[0].set_kept(29)
        assert int(graph(eye)) == 29
    assert graph.experimental_get_tracing_count() == 1


def test_sparsity_given_to_the_constructor_is_exact_in_large_layers():
    layer = mpt.MPTDense(2048, sparsity=0.99)
    layer.build((None, 8192))
    assert int(layer.masked_kernels[0].kept()) == 2**24 - 16609443


def test_seed_decides_kernel_and_scores():
    first, same, other = (mpt.MPTDense(8, seed=seed) for seed in (5, 5, 6))
    for layer in (first, same, other):
        layer.build((None, 50))
    for name in ("kernel", "scores"):
        np.testing.assert_array_equal(
            as_numpy(getattr(first, name)), as_numpy(getattr(same, name))
        )
    assert (as_numpy(first.kernel) != as_numpy(other.kernel)).all()
    correlation = np.corrcoef(
        as_numpy(first.kernel).ravel(), as_numpy(first.scores).ravel()
    )[0, 1]
    assert abs(correlation) < 0.2


def test_the_two_kernels_of_a_separable_layer_are_independent():
    layer = mpt.MPTSeparableConv2D(9, 3, seed=0)
    layer.build((None, 8, 8, 9))
    depthwise, pointwise = (as_numpy(k).ravel() for k in layer.kernel)
    assert abs(np.corrcoef(depthwise, pointwise)[0, 1]) < 0.4
    layer.sparsity = 0.75
    assert layer.sparsity == (0.75, 0.75)
    assert [int(as_numpy(m).sum()) for m in layer.mask()] == [21, 21]
    layer.sparsity = 0.5, 0.9
    assert layer.sparsity == (0.5, 0.9)
    assert [int(as_numpy(m).sum()) for m in layer.mask()] == [41, 9]


@pytest.mark.parametrize(
    ("case", "fan_in"),
    [
        ("dense", [7]),
        ("einsum", [7]),
        ("conv2d", [36]),
        ("conv2d_grouped", [18]),
        ("depthwise", [9]),
        ("separable", [9, 6]),
        ("transpose", [9 / 4 * 3]),
        ("separable1d", [3, 4]),
        ("transpose1d", [4 / 3 * 3]),
        ("transpose3d", [2]),
        ("embedding", [1]),  # of a one-hot vector, one input counts
    ],
)
def test_outputs_keep_the_inputs_scale(case, fan_in):
    """Kernels start at variance 2 / (fan_in * kept), what ReLU needs."""
    layer = masked_layer(
        case,
        **{
            argument: mpt.initializers.SignedConstant("paper")
            for argument in CASES[case][0].kernel_initializers.values()
        },
    )
    for masked, inputs in zip(layer.masked_kernels, fan_in, strict=True):
        np.testing.assert_allclose(
            np.abs(as_numpy(masked.kernel)), np.sqrt(4 / inputs), rtol=1e-6
        )
        bound = 1 / np.sqrt(inputs)
        assert 0.6 * bound < np.abs(as_numpy(masked.scores)).max() <= bound


# Equation of the einsum, shape of the input, its outputs.
DENSE_EQUATIONS = [
    ("ab,bc->ac", (9, 7), 5),
    ("abc,cd->abd", (3, 4, 7), (None, 5)),
    ("...c,cd->...d", (3, 4, 7), 5),
]


@pytest.mark.parametrize(("equation", "shape", "output"), DENSE_EQUATIONS)
@pytest.mark.parametrize("binarize", [True, False])
def test_einsum_is_dense_to_the_bit(equation, shape, output, binarize, rng):
    options = {"binarize": binarize, "sparsity": 0.6, "seed": 3}
    einsum = mpt.MPTEinsumDense(equation, output, **options)
    dense = mpt.MPTDense(5, **options)
    x = rng.standard_normal(shape).astype("float32")
    kernels, outputs, gradients = [], [], []
    for layer in (einsum, dense):
        layer.build(shape)
        y, (gradient,) = value_and_gradients(
            lambda layer=layer: layer(x) ** 2, [layer.scores]
        )
        kernels.append(as_numpy(layer.kernel))
        outputs.append(y)
        gradients.append(gradient)
    np.testing.assert_array_equal(*kernels)
    if NAME == "torch":  # multiplies them by different routines
        np.testing.assert_allclose(*outputs, rtol=1e-5, atol=1e-6)
    else:
        np.testing.assert_array_equal(*outputs)
    if len(shape) == 2 and NAME != "torch":
        np.testing.assert_array_equal(*gradients)
    else:  # it is summed in another order
        np.testing.assert_allclose(*gradients, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("equation", "shape", "output", "fan_in"),
    [
        ("abc,cde->abde", (2, 3, 7), (None, 2, 5), 7),
        ("btnh,nhd->btd", (2, 3, 4, 6), (None, 5), 24),
        ("btnh,nhd->btnd", (2, 3, 4, 6), (None, 4, 5), 6),
        ("ab...,bc->ac...", (2, 7, 3, 3), (5,), 7),
    ],
)
def test_any_einsum_is_numpys(equation, shape, output, fan_in, rng):
    layer = mpt.MPTEinsumDense(
        equation,
        output,
        kernel_initializer=mpt.initializers.SignedConstant(),
        sparsity=0.8,
        seed=1,
    )
    x = rng.standard_normal(shape).astype("float32")
    y = as_numpy(layer(x))
    scores, kernel = as_numpy(layer.scores), as_numpy(layer.kernel)
    np.testing.assert_allclose(np.abs(kernel), np.sqrt(2 / fan_in), rtol=1e-6)
    assert 0.7 < np.abs(scores).max() * np.sqrt(fan_in) <= 1
    expected = np.einsum(
        equation, x, oracle.effective(scores, kernel, 0.8, True)
    )
    np.testing.assert_allclose(y, expected, rtol=2e-5, atol=2e-6)


def test_kernel_stays_frozen_when_trainable_is_switched():
    layer = masked_layer("conv2d", use_bias=True)
    layer.trainable = False
    assert layer.trainable_variables == []
    layer.trainable = True
    assert {v.name for v in layer.trainable_variables} == {"scores", "bias"}


def test_regularizer_acts_on_the_scores():
    layer = masked_layer("dense", scores_regularizer=keras.regularizers.L2(0.5))
    scores = as_numpy(layer.scores)
    np.testing.assert_allclose(
        [as_numpy(loss) for loss in layer.losses],
        [0.5 * (scores**2).sum()],
        rtol=1e-6,
    )


def test_gain_is_the_mean_magnitude_of_the_kept():
    layer = masked_layer("conv2d", sparsity=0.8)
    kept = np.abs(as_numpy(layer.kernel))[as_numpy(layer.mask())]
    np.testing.assert_allclose(as_numpy(layer.gain()), kept.mean(), rtol=1e-6)
    assert float(masked_layer("conv2d", binarize=False).gain()) == 1.0


def test_channels_first_where_keras_runs_it(rng):
    """Keras moves the channels of a dense-free convolution itself on CPUs."""
    refusals = ()
    if tf:
        refusals = (
            tf.errors.InvalidArgumentError,
            tf.errors.UnimplementedError,
        )
    x = rng.standard_normal((2, 8, 8, 4)).astype("float32")
    last = mpt.MPTConv2D(6, 3, use_bias=True, bias_initializer="ones", seed=0)
    first = mpt.MPTConv2D(
        6,
        3,
        use_bias=True,
        bias_initializer="ones",
        seed=0,
        data_format="channels_first",
    )
    try:
        y = as_numpy(first(np.moveaxis(x, -1, 1)))
    except refusals:
        pytest.skip("TensorFlow has no channels_first convolution here")
    np.testing.assert_allclose(
        np.moveaxis(y, 1, -1), as_numpy(last(x)), atol=1e-5
    )


def test_signature_is_keras_own_and_then_ours():
    ours = list(inspect.signature(mpt.MPTConv2D).parameters)
    theirs = list(inspect.signature(keras.layers.Conv2D).parameters)
    assert ours[: len(theirs) - 1] == theirs[:-1]
    assert ours[len(theirs) - 1 :] == [
        *("sparsity", "binarize", "input_quantizer", "scores_initializer"),
        *("scores_regularizer", "seed", "frozen_pruned", "frozen_kept"),
        "kwargs",
    ]
    layer = mpt.MPTConv2D(6, 3, 2, "same")
    assert layer.strides == (2, 2)
    assert layer.padding == "same"
    assert not layer.use_bias


# --- Bad input ------------------------------------------------------------


@pytest.mark.parametrize("sparsity", [-0.1, 1, 1.5, float("nan"), None, True])
def test_sparsity_outside_its_range_names_the_layer(sparsity):
    with pytest.raises(ValueError, match=r"\[0, 1\).*layer 'first'"):
        mpt.MPTDense(3, sparsity=sparsity, name="first")
    layer = masked_layer("dense", name="second")
    with pytest.raises(ValueError, match=r"\[0, 1\).*layer 'second'"):
        layer.sparsity = sparsity


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_regularizer": "l2"},
        {"kernel_constraint": "non_neg"},
        {"lora_rank": 2},
        {"quantization_config": "int8"},
    ],
)
def test_arguments_without_effect_are_refused(options):
    with pytest.raises(ValueError, match="has no effect on a masked layer"):
        mpt.MPTDense(3, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embeddings_regularizer": "l2"}, "`scores_regularizer`"),
        ({"embeddings_constraint": "non_neg"}, "`scores_regularizer`"),
        ({"input_quantizer": "ste_sign"}, "indices.* the layer behind it"),
        ({"weights": np.ones((4, 2))}, r"layer.embeddings.assign\(weights\)"),
        ({"lora_rank": 2}, "has no effect"),
    ],
)
def test_arguments_that_an_embedding_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        mpt.MPTEmbedding(4, 2, **options)


def test_an_embedding_is_built_without_a_shape_and_masks_zeros(rng):
    layer = mpt.MPTEmbedding(9, 3, mask_zero=True, sparsity=0.4, seed=0)
    layer.build()
    table = rng.standard_normal((9, 3)).astype("float32")
    layer.embeddings.assign(table)
    np.testing.assert_array_equal(as_numpy(layer.kernel), table)
    tokens = np.array([[1, 8, 0], [2, 0, 0]])
    model = keras.Sequential(
        [
            keras.Input((3,), dtype="int32"),
            layer,
            keras.layers.GlobalAveragePooling1D(),
        ]
    )
    found = oracle.effective(as_numpy(layer.scores), table, 0.4, True)
    expected = [found[[1, 8]].mean(0), found[2]]
    for one in (model, mpt.freeze(model)):
        np.testing.assert_allclose(
            as_numpy(one(tokens)), expected, rtol=1e-5, atol=1e-6
        )


def test_nan_scores_name_the_layer():
    layer = masked_layer("dense", name="third")
    layer.scores.assign(np.full(layer.scores.shape, np.nan))
    with pytest.raises(
        ValueError, match="35 NaN of 35 scores in layer 'third'"
    ):
        layer.mask()


def test_initializers_that_give_nan_or_other_shapes_name_the_layer():
    for value, message in [
        (
            lambda shape, dtype: np.full(shape, np.nan, dtype),
            r"21 NaN of 21 initial values \(layer 'fourth'\)",
        ),
        (
            lambda shape, dtype: np.ones((2, 2), dtype),
            r"<lambda> \(layer 'fourth'\) must.*\(7, 3\). Received.*\(2, 2",
        ),
    ]:
        layer = mpt.MPTDense(3, scores_initializer=value, name="fourth")
        with pytest.raises(ValueError, match=message):
            layer.build((None, 7))


@pytest.mark.parametrize("name", ["kernel", "scores"])
def test_initializers_of_nothing_but_zeros_name_the_layer(name):
    options = {f"{name}_initializer": "zeros"}
    layer = mpt.MPTDense(3, name="fifth", **options)
    with pytest.raises(
        ValueError, match=r"Zeros \(layer 'fifth'\) gives nothing but"
    ):
        layer.build((None, 7))


@pytest.mark.parametrize("name", ["kernel", "scores"])
def test_other_initializers_in_a_model_that_is_built_by_fit(name, rng):
    options = {f"{name}_initializer": "he_normal"}
    model = keras.Sequential([mpt.MPTDense(8, **options), mpt.MPTDense(3)])
    model.compile("adam", "mse")
    x, y = rng.standard_normal((16, 4)), rng.standard_normal((16, 3))
    model.fit(x, y, verbose=0)
    assert len(mpt.masked_layers(model)[0].trainable_variables) == 1


@pytest.mark.parametrize("form", FORMS)
def test_masks_in_every_form(form):
    layer = masked_layer("separable", sparsity=0.7)
    masks = FORMS[form](lambda: layer.mask())()
    for ours, theirs in zip(masks, layer.mask(), strict=True):
        np.testing.assert_array_equal(as_numpy(ours), as_numpy(theirs))


def test_unbuilt_layers_say_what_to_do():
    with pytest.raises(AttributeError, match="Build the layer"):
        mpt.MPTDense(3).mask()
    assert not hasattr(mpt.MPTDense(3), "scores")


def test_lora_and_quantize_point_to_freeze():
    layer = masked_layer("dense")
    with pytest.raises(ValueError, match=r"mpt_keras.freeze\(model\)"):
        layer.enable_lora(2)
    with pytest.raises(ValueError, match=r"mpt_keras.freeze\(model\)"):
        layer.quantize("int8")


def test_kernels_without_weights_are_refused():
    layer = mpt.MPTDense(3, name="empty")
    with pytest.raises(ValueError, match=r"'empty' has no weights.*\(0, 3\)"):
        layer(np.zeros((2, 0), "float32"))


def test_policies_that_would_round_the_kernel_are_refused():
    with pytest.raises(ValueError, match="Received: dtype='int8_from_float32'"):
        mpt.MPTDense(3, dtype="int8_from_float32")


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "1"])
def test_impossible_seeds_name_the_layer(seed):
    with pytest.raises(ValueError, match=r"Expected an integer.*layer 'fifth'"):
        mpt.MPTDense(3, seed=seed, name="fifth")


def test_binarize_is_true_or_false():
    with pytest.raises(ValueError, match="Expected True or False"):
        mpt.MPTDense(3, binarize="false")


def test_masked_layers_come_in_the_models_order():
    a, b, c, d = (mpt.MPTDense(4, name=name) for name in "abcd")
    inner = keras.Sequential([keras.Input((4,)), b, c])
    model = keras.Sequential([keras.Input((4,)), a, inner, d, b])
    assert mpt.masked_layers(model) == [a, b, c, d]
    with pytest.raises(ValueError, match="Expected a Keras model or layer"):
        mpt.masked_layers([a])


def test_sparsity_is_a_number_before_and_after_building():
    layer = mpt.MPTDense(3, sparsity=0.29)
    assert f"{layer.sparsity:.2f}" == "0.29"
    layer.sparsity = 0.5
    layer.build((None, 3))
    assert layer.sparsity == 0.5  # as asked for, not 4 of 9
    assert int(ops.sum(layer.mask())) == 5
    layer.masked_kernels[0].set_kept(2)
    assert layer.sparsity == 7 / 9
    layer.sparsity = np.float32(0.29)
    assert layer.sparsity == 0.29
    assert [v.path for v in layer.non_trainable_variables] == [
        f"{layer.name}/kernel",
        f"{layer.name}/pruned",
    ]


@pytest.mark.parametrize("cls", [mpt.MPTDense, mpt.MPTSeparableConv2D])
def test_configs_copies_and_files_tell_the_sparsity_of_now(cls, tmp_path):
    separable = cls is mpt.MPTSeparableConv2D
    arguments = {"filters": 5, "kernel_size": 3} if separable else {"units": 5}
    layer = cls(**arguments, sparsity=0.1, seed=0)
    model = keras.Sequential([keras.Input((8, 8, 4)), layer])
    layer.sparsity = (0.7, 0.8) if separable else 0.7
    expected = layer.sparsity
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    fresh = keras.Sequential(
        [keras.Input((8, 8, 4)), cls(**arguments, sparsity=0.1, seed=0)]
    )
    fresh.load_weights(tmp_path / "model.weights.h5")
    assert fresh.layers[-1].sparsity == pytest.approx(expected, abs=0.05)
    np.testing.assert_array_equal(
        *(
            as_numpy(model.masked_kernels[-1].mask())
            for model in (fresh.layers[-1], layer)
        )
    )
    for other in (
        keras.models.clone_model(model),
        keras.models.load_model(tmp_path / "model.keras"),
    ):
        assert other.layers[-1].sparsity == expected
        assert other.layers[-1].get_config()["sparsity"] == expected
    assert layer.get_config()["sparsity"] == expected


@needs_tensorflow
def test_a_compiled_function_does_not_know_the_number():
    layer = mpt.MPTDense(3, name="first")
    layer.build((None, 3))
    with pytest.raises(AttributeError, match="layer 'first' is a number"):
        tf.function(lambda: layer.sparsity)()
    tf.function(lambda: setattr(layer, "sparsity", 0.8))()
    assert layer.sparsity == 0.8


def test_a_kernel_keeps_the_scale_it_was_drawn_with(tmp_path):
    layer = mpt.MPTDense(100, sparsity=0.0, seed=0)
    model = keras.Sequential([keras.Input((100,)), layer])
    layer.sparsity = 0.9
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras").layers[-1]
    first, again = (
        as_numpy(one.initializer_with_seed("kernel", 1)((100, 100)))
        for one in (layer, loaded)
    )
    np.testing.assert_array_equal(first, again)
    assert np.std(first) == pytest.approx(np.sqrt(2 / 100), rel=0.05)


INITIALIZERS = {
    "name": lambda seed: "he_normal",
    "keras": lambda seed: keras.initializers.HeNormal(seed),
    "ours": mpt.initializers.SignedConstant,
    "default": lambda seed: None,
}


def kernel_and_scores(**arguments):
    layer = mpt.MPTDense(8, **arguments)
    layer.build((None, 50))
    return as_numpy(layer.kernel), as_numpy(layer.scores)


@pytest.mark.parametrize("kind", INITIALIZERS)
def test_an_initializer_without_a_seed_takes_the_layers(kind):
    def drawn(seed):
        return kernel_and_scores(
            kernel_initializer=INITIALIZERS[kind](seed=None),
            scores_initializer=INITIALIZERS[kind](seed=None),
            seed=seed,
        )

    kernel, scores = drawn(0)
    for same, value in zip(drawn(0), (kernel, scores), strict=True):
        np.testing.assert_array_equal(same, value)
    assert (drawn(1)[0] != kernel).any()
    assert (drawn(1)[1] != scores).any()
    correlation = np.corrcoef(kernel.ravel(), scores.ravel())[0, 1]
    assert abs(correlation) < 0.2


@pytest.mark.parametrize("kind", ["keras", "ours"])
def test_an_initializers_own_seed_goes_before_the_layers(kind):
    def kernel(seed):
        own = INITIALIZERS[kind](seed=7)
        return kernel_and_scores(kernel_initializer=own, seed=seed)[0]

    np.testing.assert_array_equal(kernel(0), kernel(1))


@pytest.mark.parametrize("kind", INITIALIZERS)
def test_another_seed_in_a_config_changes_kernel_and_scores(kind):
    layer = mpt.MPTDense(
        8, kernel_initializer=INITIALIZERS[kind](seed=None), seed=0
    )
    layer.build((None, 50))
    config = layer.get_config()
    for seed, same in ((0, True), (1, False)):
        other = mpt.MPTDense.from_config({**config, "seed": seed})
        other.build((None, 50))
        for name in ("kernel", "scores"):
            ours, theirs = (as_numpy(getattr(x, name)) for x in (layer, other))
            assert (ours == theirs).all() == same


def test_scale_fan_is_by_the_layers_sparsity():
    paper = mpt.initializers.SignedConstant("paper")
    layer = mpt.MPTDense(8, kernel_initializer=paper, sparsity=0.75)
    layer.build((None, 50))
    np.testing.assert_allclose(
        np.abs(as_numpy(layer.kernel)), np.sqrt(2 / (50 * 0.25)), rtol=1e-6
    )
    authors = mpt.initializers.SignedConstant("authors")
    layer = mpt.MPTDense(
        8, kernel_initializer=authors, sparsity=0.0, name="first"
    )
    with pytest.raises(ValueError, match=r"0. Expected .* \(layer 'first'\)"):
        layer.build((None, 50))


@pytest.mark.parametrize("binarize", [True, False])
@pytest.mark.parametrize("scores", ["default", "ones", "tied_zeros"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_mask_goes_back_into_a_layer(binarize, scores, dtype, rng):
    layer = mpt.MPTDense(7, binarize=binarize, seed=0, dtype=dtype)
    layer.build((None, 30))
    values = as_numpy(layer.scores).astype("float32")
    if scores == "ones":
        layer.scores.assign(np.sign(values))
    elif scores == "tied_zeros":
        layer.scores.assign(np.where(rng.random((30, 7)) < 0.9, 0, values))
    before = as_numpy(layer.scores).astype("float32")
    mask = rng.random((30, 7)) < 0.2
    layer.set_mask(mask)
    np.testing.assert_array_equal(as_numpy(layer.mask()), mask)
    assert layer.sparsity == 1 - mask.sum() / mask.size
    after = as_numpy(layer.scores).astype("float32")
    assert (after[mask] != 0).all()
    if scores == "default" and dtype == "float32":
        np.testing.assert_array_equal(np.sign(after), np.sign(before))
        np.testing.assert_array_equal(
            *(np.sort(np.abs(x), axis=None) for x in (after, before))
        )


def test_a_mask_for_each_kernel_of_a_layer(rng):
    layer = mpt.MPTSeparableConv2D(4, 3, seed=0, name="two")
    layer.build((None, 8, 8, 4))
    masks = [rng.random(tuple(k.shape)) < 0.5 for k in layer.kernel]
    layer.set_mask(masks)
    for found, mask in zip(layer.mask(), masks, strict=True):
        np.testing.assert_array_equal(as_numpy(found), mask)
    with pytest.raises(ValueError, match="2 kernels of layer 'two'"):
        layer.set_mask(masks[:1])


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((2, 3), bool), r"of the shape \(3, 2\).*layer 'first'"),
        (np.ones((3, 2)), "float64"),
        (np.zeros((3, 2), bool), "at least one True"),
    ],
)
def test_impossible_masks_are_refused(mask, message):
    layer = mpt.MPTDense(2, name="first")
    layer.build((None, 3))
    with pytest.raises(ValueError, match=message):
        layer.set_mask(mask)
    assert layer.sparsity == 0.5


def test_wrong_arguments_raise_as_python_does():
    with pytest.raises(TypeError, match="units"):
        mpt.MPTDense()


@pytest.mark.parametrize("how", ["serialize", "deepcopy", "sequential"])
def test_layers_that_are_not_built_can_be_copied(how, rng):
    layer = mpt.MPTDense(3, sparsity=0.8, seed=0)
    if how == "serialize":
        config = keras.layers.serialize(layer)
        copied = keras.layers.deserialize(config)
    elif how == "deepcopy":
        copied = copy.deepcopy(layer)
    else:
        model = keras.Sequential([layer])
        copied = keras.Sequential.from_config(model.get_config())
    x = rng.standard_normal((2, 4)).astype("float32")
    np.testing.assert_array_equal(as_numpy(copied(x)), as_numpy(layer(x)))


def test_a_clone_has_the_kernels_of_its_model():
    layer = mpt.MPTDense(100, sparsity=0.5, seed=0)
    model = keras.Sequential([keras.Input((100,)), layer])
    layer.sparsity = 0.9
    clone = keras.models.clone_model(model).layers[-1]
    np.testing.assert_array_equal(
        as_numpy(clone.kernel), as_numpy(layer.kernel)
    )
    assert clone.sparsity == 0.9


@pytest.mark.parametrize(
    ("dtype", "scores"),
    [
        pytest.param(
            "float64",
            [[0.1, 0.1 + 1e-10], [0.1 + 2e-10, 0.1 + 3e-10]],
            marks=pytest.mark.skipif(NAME == "jax", reason="has no float64"),
        ),
        ("float32", [[np.inf] * 2] * 2),
        ("float16", [[65504.0] * 2] * 2),
    ],
)
def test_a_mask_whatever_the_scores(dtype, scores):
    layer = mpt.MPTDense(2, dtype=dtype)
    layer.build((None, 2))
    layer.scores.assign(np.array(scores, dtype))
    mask = np.array([[True, True], [False, False]])
    layer.set_mask(mask)
    np.testing.assert_array_equal(as_numpy(layer.mask()), mask)
    assert np.isfinite(as_numpy(layer.scores)).all()
