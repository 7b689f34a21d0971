"""Lowered networks compute what Keras predicts, layer by layer."""

import dataclasses
import importlib.util
import json

import backend
import keras
import numpy as np
import pytest
from effort import examples
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from keras import layers, ops

import mpt_keras as mpt
from mpt_keras.runtime import reference
from mpt_keras.runtime.errors import UnsupportedLayerError
from mpt_keras.runtime.lowering import lower
from mpt_keras.runtime.operations import (
    FLOAT,
    SIGN,
    Convolution,
    Elementwise,
    Gather,
)
from mpt_keras.ticket.reading import parse_ticket
from mpt_keras.ticket.saving import ticket_bytes, ticket_of

_FIRST, _LAST = "channels_first", "channels_last"


def read_again(model):
    """The ticket as a file holds it, where a file holds such models."""
    try:
        return parse_ticket(ticket_bytes(model))
    except ValueError as error:
        if "There is no ticket" in str(error):
            return ticket_of(model)
        raise


def to_planes(plan, image):
    channels, height, width = plan.input.shape
    if plan.input_channels_first:
        return image.reshape(channels, height, width)
    return np.moveaxis(image.reshape(height, width, channels), -1, 0)


def run(plan, images):
    """What the reference gives, in Keras' shape; and all values of each."""
    results, values = [], []
    for image in images:
        planes = np.ascontiguousarray(to_planes(plan, image))
        values.append(reference.run_all(plan, planes))
        result = values[-1][plan.output]
        assert result.shape == plan.output.shape
        if not plan.output_channels_first:
            result = np.moveaxis(result, 0, -1)
        results.append(result.reshape(plan.output_shape))
    return np.stack(results), values


def check_operations(plan):
    known = {plan.input}
    for operation in plan.operations:
        assert known.issuperset(operation.inputs), operation
        assert operation.output not in known
        known.add(operation.output)
        for value in (*operation.inputs, operation.output):
            assert all(isinstance(size, int) for size in value.shape)
    assert plan.output in known
    assert plan.output.kind == FLOAT
    assert plan.input.kind == FLOAT
    return known


def is_undecided(plan, values, is_exact):
    """Whether rounding decides a sign.

    Zeros of a padding, and those of sums that are exact, it does not.
    """
    made_by = {operation.output: operation for operation in plan.operations}
    for operation in plan.operations:
        if operation.output.kind != SIGN or isinstance(operation, Gather):
            continue
        (before,) = operation.inputs
        if before.kind == SIGN:
            continue
        sizes = np.abs(values[before])
        near = sizes <= 1e-5 * sizes.max()
        if is_exact:
            near &= sizes != 0
        if isinstance(made_by.get(before), Gather):
            near &= made_by[before].index >= 0
        if near.any():
            return True
    return False


def check(model, images=None, count=2, is_exact=False):
    """Compares the lowered model with Keras.

    Returns the plan, and for how many images no rounding decided a sign.
    """
    plan = lower(read_again(model))
    known = check_operations(plan)
    if images is None:
        rng = np.random.default_rng(1)
        images = rng.normal(size=(count, *plan.input_shape))
    images = np.asarray(images, "float32")
    results, all_values = run(plan, images)
    for values in all_values:
        for value in known:
            assert values[value].shape == value.shape
            expected = "int8" if value.kind == SIGN else "float32"
            assert values[value].dtype == expected
    expected = backend.as_numpy(model(images, training=False))
    assert plan.output_shape == expected.shape[1:]
    assert plan.input_shape == model.input_shape[1:]
    decided = [
        not is_undecided(plan, values, is_exact) for values in all_values
    ]
    for result, target in zip(results[decided], expected[decided], strict=True):
        largest = np.abs(target).max()
        np.testing.assert_allclose(
            result, target, rtol=0, atol=1e-5 * largest + 1e-30
        )
    return plan, sum(decided)


def checked(shape, *of_layers):
    """Checks layers behind one another; returns the plan."""
    model = keras.Sequential([keras.Input(shape), *of_layers])
    fill(model)
    plan, decided = check(model)
    assert decided
    return plan


def fill(model, seed=0):
    """Weights that are no longer those of a beginning."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        kind = variable.path.rpartition("/")[2]
        if kind in ("moving_variance", "gamma"):
            variable.assign(rng.uniform(0.5, 2, variable.shape))
        elif kind in ("moving_mean", "beta", "bias", "alpha"):
            variable.assign(rng.normal(0, 0.3, variable.shape))
    return model


def adapted(layer, shape):
    rng = np.random.default_rng(0)
    layer.adapt(rng.normal(1, 2, (50, *shape)).astype("float32"))
    return layer


def kinds(plan):
    return [type(operation).__name__ for operation in plan.operations]


_MAP, _STEPS, _VECTOR = (6, 7, 4), (7, 4), (5,)
_LAYERS = {
    # Convolutions
    "conv2d": (_MAP, lambda: layers.Conv2D(3, 3, activation="relu")),
    "conv2d_same": (
        _MAP,
        lambda: layers.Conv2D(3, (3, 2), padding="same", strides=2),
    ),
    "conv2d_dilated": (
        _MAP,
        lambda: layers.Conv2D(3, 2, dilation_rate=(2, 3), padding="same"),
    ),
    "conv2d_even": (_MAP, lambda: layers.Conv2D(3, 4, padding="same")),
    "conv2d_strides": (_MAP, lambda: layers.Conv2D(3, (2, 3), (3, 2), "same")),
    "conv1d": (_STEPS, lambda: layers.Conv1D(3, 3, 2, "same")),
    "conv1d_valid": (_STEPS, lambda: layers.Conv1D(3, 2, dilation_rate=3)),
    "conv1d_causal": (
        _STEPS,
        lambda: layers.Conv1D(3, 3, padding="causal", dilation_rate=2),
    ),
    "conv1d_causal_strides": (
        _STEPS,
        lambda: layers.Conv1D(3, 3, padding="causal", strides=2),
    ),
    "depthwise": (
        _MAP,
        lambda: layers.DepthwiseConv2D(
            3, padding="same", depth_multiplier=2, activation="tanh"
        ),
    ),
    "depthwise_strides": (_MAP, lambda: layers.DepthwiseConv2D(3, 2)),
    "depthwise_1d": (
        _STEPS,
        lambda: layers.DepthwiseConv1D(3, depth_multiplier=2),
    ),
    "separable": (
        _MAP,
        lambda: layers.SeparableConv2D(
            5, 3, depth_multiplier=2, padding="same", activation="relu"
        ),
    ),
    "separable_1d": (_STEPS, lambda: layers.SeparableConv1D(5, 3)),
    **{
        f"transposed_{padding}_{size}_{strides}_{extra}": (
            _MAP,
            lambda size=size, padding=padding, strides=strides, extra=extra: (
                layers.Conv2DTranspose(
                    3, size, strides, padding, output_padding=extra
                )
            ),
        )
        for padding in ("same", "valid")
        for size, strides, extra in (
            *((3, 1, None), (3, 2, None), (2, 2, None), (2, 3, None)),
            *((3, 2, 0), (3, 2, 1), (4, 3, 2), (1, 2, None), (4, 2, 1)),
            ((2, 3), (1, 2), None),
        )
    },
    "transposed_1d": (
        _STEPS,
        lambda: layers.Conv1DTranspose(3, 3, 2, "same", activation="relu"),
    ),
    # Dense layers
    "dense": (_VECTOR, lambda: layers.Dense(3, activation="softmax")),
    "dense_on_steps": (_STEPS, lambda: layers.Dense(3)),
    "dense_on_maps": (_MAP, lambda: layers.Dense(3, use_bias=False)),
    # Normalization
    "norm": (_MAP, lambda: layers.BatchNormalization()),
    "norm_of_steps": (_STEPS, lambda: layers.BatchNormalization(scale=False)),
    "norm_of_vectors": (
        _VECTOR,
        lambda: layers.BatchNormalization(center=False),
    ),
    "norm_plain": (
        _MAP,
        lambda: layers.BatchNormalization(scale=False, center=False),
    ),
    "norm_of_rows": (_MAP, lambda: layers.BatchNormalization(axis=1)),
    "rescaling": (_MAP, lambda: layers.Rescaling(1 / 127.5, -1)),
    "rescaling_each": (
        _MAP,
        lambda: layers.Rescaling([1, 2, 3, 4], [0, 1, 0, 2]),
    ),
    "normalization": (
        _MAP,
        lambda: layers.Normalization(mean=[1, 2, 3, 4], variance=[1, 2, 2, 1]),
    ),
    "normalization_scalar": (
        _MAP,
        lambda: layers.Normalization(axis=None, mean=1.0, variance=2.0),
    ),
    "normalization_adapted": (
        _MAP,
        lambda: adapted(layers.Normalization(), _MAP),
    ),
    "normalization_inverted": (
        _VECTOR,
        lambda: adapted(layers.Normalization(invert=True), _VECTOR),
    ),
    # Activations
    "relu": (_MAP, lambda: layers.ReLU()),
    "relu_high": (_MAP, lambda: layers.ReLU(max_value=0.7)),
    "relu_all": (_MAP, lambda: layers.ReLU(0.7, 0.2, 0.3)),
    "leaky_relu": (_VECTOR, lambda: layers.LeakyReLU(0.1)),
    "prelu": (_VECTOR, lambda: layers.PReLU()),
    "prelu_shared": (_MAP, lambda: layers.PReLU(shared_axes=[1, 2])),
    "elu": (_MAP, lambda: layers.ELU()),
    "elu_alpha": (_MAP, lambda: layers.ELU(0.3)),
    "softmax": (_MAP, lambda: layers.Softmax()),
    "softmax_of_rows": (_MAP, lambda: layers.Softmax(axis=1)),
    **{
        f"activation_{name}": (
            _MAP,
            lambda name=name: layers.Activation(name),
        )
        for name in (
            *("linear", "relu", "relu6", "leaky_relu", "elu", "selu"),
            *("sigmoid", "hard_sigmoid", "tanh", "softplus", "silu"),
            *("swish", "gelu", "softmax", "exponential", "hard_silu"),
            *("mish", "hard_tanh"),
        )
    },
    "activation_layer": (
        _MAP,
        lambda: layers.Conv2D(3, 1, activation=layers.LeakyReLU(0.3)),
    ),
    # Pools
    "max_pool": (_MAP, lambda: layers.MaxPooling2D()),
    "max_pool_same": (_MAP, lambda: layers.MaxPooling2D(3, 2, "same")),
    "max_pool_1d": (_STEPS, lambda: layers.MaxPooling1D(3, 2, "same")),
    "mean_pool": (_MAP, lambda: layers.AveragePooling2D((2, 3), 1)),
    "mean_pool_same": (_MAP, lambda: layers.AveragePooling2D(3, 2, "same")),
    "mean_pool_1d": (_STEPS, lambda: layers.AveragePooling1D(3, 2, "same")),
    "global_max": (_MAP, lambda: layers.GlobalMaxPooling2D()),
    "global_mean": (_MAP, lambda: layers.GlobalAveragePooling2D()),
    "global_mean_kept": (
        _MAP,
        lambda: layers.GlobalAveragePooling2D(keepdims=True),
    ),
    "global_mean_1d": (_STEPS, lambda: layers.GlobalAveragePooling1D()),
    "global_max_1d": (
        _STEPS,
        lambda: layers.GlobalMaxPooling1D(keepdims=True),
    ),
    # Shapes
    "flatten": (_MAP, lambda: layers.Flatten()),
    "reshape": (_MAP, lambda: layers.Reshape((3, -1, 8))),
    "reshape_to_steps": (_VECTOR, lambda: layers.Reshape((-1, 1))),
    "permute": (_MAP, lambda: layers.Permute((3, 1, 2))),
    "zeros": (_MAP, lambda: layers.ZeroPadding2D(((1, 0), (2, 3)))),
    "zeros_1d": (_STEPS, lambda: layers.ZeroPadding1D((1, 2))),
    "cropping": (_MAP, lambda: layers.Cropping2D(((1, 0), (2, 3)))),
    "cropping_1d": (_STEPS, lambda: layers.Cropping1D((1, 2))),
    "up_sampling": (_MAP, lambda: layers.UpSampling2D((2, 3))),
    "up_sampling_1d": (_STEPS, lambda: layers.UpSampling1D(3)),
    "repeat": (_VECTOR, lambda: layers.RepeatVector(3)),
    # Nothing, but in training
    "identity": (_MAP, lambda: layers.Identity()),
    "dropout": (_MAP, lambda: layers.Dropout(0.5)),
    "spatial_dropout": (_MAP, lambda: layers.SpatialDropout2D(0.5)),
    "spatial_dropout_1d": (_STEPS, lambda: layers.SpatialDropout1D(0.5)),
    "alpha_dropout": (_MAP, lambda: layers.AlphaDropout(0.5)),
    "gaussian_dropout": (_MAP, lambda: layers.GaussianDropout(0.5)),
    "gaussian_noise": (_MAP, lambda: layers.GaussianNoise(0.5)),
    "regularization": (_MAP, lambda: layers.ActivityRegularization(0.1)),
    "random_flip": ((6, 7, 3), lambda: layers.RandomFlip()),
    "random_rotation": ((6, 7, 3), lambda: layers.RandomRotation(0.3)),
    "random_translation": (
        (6, 7, 3),
        lambda: layers.RandomTranslation(0.3, 0.3),
    ),
    "random_zoom": ((6, 7, 3), lambda: layers.RandomZoom(0.3)),
    "random_contrast": ((6, 7, 3), lambda: layers.RandomContrast(0.3)),
    "random_brightness": ((6, 7, 3), lambda: layers.RandomBrightness(0.3)),
    # Signs
    "approx_sign": (_MAP, lambda: mpt.quantizers.ApproxSign()),
    "ste_sign": (_MAP, lambda: mpt.quantizers.SteSign()),
    "swish_sign": (_MAP, lambda: mpt.quantizers.SwishSign()),
    "sign_model": (_MAP, lambda: mpt.quantizers.sign_model(4, "sign")),
    "sign_as_activation": (
        _MAP,
        lambda: layers.Activation(mpt.quantizers.SteSign()),
    ),
}


@pytest.mark.parametrize("name", _LAYERS)
def test_a_layer(name):
    if name == "mean_pool_same" and keras.backend.backend() == "torch":
        pytest.skip("there Keras counts what it pads as well")
    shape, make = _LAYERS[name]
    checked(shape, make())


def test_an_activation_with_weights():
    slopes = layers.PReLU(shared_axes=[1, 2], name="slopes")
    model = keras.Sequential(
        [keras.Input(_MAP), layers.Conv2D(3, 1, activation=slopes)]
    )
    model(np.ones((1, *_MAP)))  # which makes the slopes
    check(fill(model))


@backend.needs_tensorflow
def test_grouped_convolutions():
    checked(_MAP, layers.Conv2D(6, 3, groups=2, padding="same"))
    checked(_STEPS, layers.Conv1D(6, 3, groups=4 // 2))


@backend.needs_tensorflow
def test_larqs_quantizers():
    if importlib.util.find_spec("larq") is None:
        pytest.skip("Larq is not installed: there is none for Python 3.13")
    larq = mpt.larq.quantizers
    for quantizer in (larq.ApproxSign, larq.SteSign, larq.SwishSign):
        plan = checked(_MAP, quantizer())
        assert plan.operations[0].output.kind == SIGN
    checked(_MAP, mpt.MPTConv2D(3, 3, input_quantizer=larq.SteSign()))


_CHANNELS_FIRST = {
    "conv2d": lambda: layers.Conv2D(3, 3, data_format=_FIRST, padding="same"),
    "masked": lambda: mpt.MPTConv2D(
        3, 3, data_format=_FIRST, use_bias=True, input_quantizer="ste_sign"
    ),
    "transposed": lambda: layers.Conv2DTranspose(3, 3, 2, data_format=_FIRST),
    "norm": lambda: layers.BatchNormalization(axis=1),
    "max_pool": lambda: layers.MaxPooling2D(2, data_format=_FIRST),
    "global": lambda: layers.GlobalAveragePooling2D(data_format=_FIRST),
    "zeros": lambda: layers.ZeroPadding2D(((1, 0), (2, 1)), data_format=_FIRST),
    "cropping": lambda: layers.Cropping2D(((1, 0), (2, 1)), data_format=_FIRST),
    "up": lambda: layers.UpSampling2D((2, 3), data_format=_FIRST),
    "flatten": lambda: layers.Flatten(data_format=_FIRST),
    "prelu": lambda: layers.PReLU(shared_axes=[2, 3]),
    "softmax": lambda: layers.Softmax(axis=1),
    "softmax_of_columns": lambda: layers.Softmax(),
    "dense": lambda: layers.Dense(3),
}


@backend.needs_tensorflow
@pytest.mark.parametrize("name", _CHANNELS_FIRST)
def test_channels_first(name):
    first = layers.Conv2D(4, 1, data_format=_FIRST)
    plan = checked((4, 6, 7), first, _CHANNELS_FIRST[name]())
    assert plan.input_channels_first
    assert plan.input.shape == (4, 6, 7)


_MASKED = {
    "dense": (_VECTOR, mpt.MPTDense, {"units": 3}),
    "dense_on_maps": (_MAP, mpt.MPTDense, {"units": 3}),
    "conv2d": (_MAP, mpt.MPTConv2D, {"filters": 3, "kernel_size": 3}),
    "conv1d": (_STEPS, mpt.MPTConv1D, {"filters": 3, "kernel_size": 2}),
    "causal": (
        _STEPS,
        mpt.MPTConv1D,
        {"filters": 3, "kernel_size": 3, "padding": "causal"},
    ),
    "depthwise": (
        _MAP,
        mpt.MPTDepthwiseConv2D,
        {"kernel_size": 3, "depth_multiplier": 2, "padding": "same"},
    ),
    "separable": (
        _MAP,
        mpt.MPTSeparableConv2D,
        {"filters": 3, "kernel_size": 3, "depth_multiplier": 2},
    ),
    "transposed": (
        _MAP,
        mpt.MPTConv2DTranspose,
        {"filters": 3, "kernel_size": 3, "strides": 2},
    ),
    "depthwise_1d": (_STEPS, mpt.MPTDepthwiseConv1D, {"kernel_size": 3}),
    "separable_1d": (
        _STEPS,
        mpt.MPTSeparableConv1D,
        {"filters": 3, "kernel_size": 3},
    ),
    "transposed_1d": (
        _STEPS,
        mpt.MPTConv1DTranspose,
        {"filters": 3, "kernel_size": 3, "strides": 2},
    ),
}


@pytest.mark.parametrize("binarize", [True, False])
@pytest.mark.parametrize("quantizer", [None, "approx_sign"])
@pytest.mark.parametrize("name", _MASKED)
def test_a_masked_layer_and_what_it_freezes_to(name, quantizer, binarize):
    shape, kind, options = _MASKED[name]
    layer = kind(
        **options,
        sparsity=0.6,
        binarize=binarize,
        input_quantizer=quantizer,
        use_bias=True,
        activation="relu",
    )
    model = fill(keras.Sequential([keras.Input(shape), layer]))
    plan, decided = check(model)
    frozen, _ = check(mpt.freeze(model))
    assert decided
    for one in (plan, frozen):
        products = [op for op in one.operations if isinstance(op, Convolution)]
        assert all(op.is_ternary == binarize for op in products)
        if "transposed" not in name:  # between whose signs zeros are put
            assert (products[0].inputs[0].kind == SIGN) == bool(quantizer)


def test_a_model_is_lowered_as_its_file_is():
    model = mpt.models.conv2(
        width=0.1, input_shape=(8, 8, 3), binary_activations=True
    )
    for one in (model, mpt.freeze(model)):
        images = np.random.default_rng(0).normal(size=(3, 8, 8, 3))
        plans = [lower(ticket_of(one)), lower(read_again(one))]
        results = [run(plan, images.astype("float32"))[0] for plan in plans]
        np.testing.assert_array_equal(*results)
        assert kinds(plans[0]) == kinds(plans[1])


def test_a_frozen_constant_without_binarize_is_ternary():
    layer = mpt.MPTDense(
        4,
        binarize=False,
        kernel_initializer=mpt.initializers.SignedConstant(),
    )
    (product,) = checked(_VECTOR, layer).operations
    assert product.is_ternary
    assert product.gain > 0


# --- Where there is no operation of its own --------------------------------


def test_a_flattened_map_goes_into_the_dense_kernel():
    plan = checked(_MAP, layers.Flatten(), layers.Dense(3, use_bias=False))
    assert kinds(plan) == ["Convolution"]
    assert plan.operations[0].window.size == (6, 7)
    plan = checked(
        _MAP,
        layers.Permute((3, 1, 2)),
        layers.Flatten(),
        layers.ReLU(),
        layers.Dense(3, use_bias=False),
    )
    assert kinds(plan) == ["Elementwise", "Convolution"]
    plan = checked(
        _MAP,
        layers.ZeroPadding2D(1),
        layers.Cropping2D(((2, 0), (0, 3))),
        layers.Flatten(),
        layers.Dense(3, use_bias=False),
    )
    assert kinds(plan) == ["Convolution"]
    checked(_MAP, layers.UpSampling2D(2), layers.Flatten(), layers.Dense(3))


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("strides", [1, 2])
def test_zeros_go_into_the_window(padding, strides):
    zeros = layers.ZeroPadding2D(((1, 2), (3, 0)))
    layer = layers.Conv2D(3, 3, strides, padding, use_bias=False)
    assert kinds(checked(_MAP, zeros, layer)) == ["Convolution"]
    zeros = layers.ZeroPadding1D((2, 1))
    layer = layers.Conv1D(3, 3, strides, padding, use_bias=False)
    assert kinds(checked(_STEPS, zeros, layer)) == ["Convolution"]


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("strides", [1, 2])
def test_nothing_around_a_max_pool_goes_into_the_window(padding, strides):
    def network(x, *pads):
        return layers.MaxPooling2D(3, strides, padding)(nothing(x, *pads))

    def of_steps(x):
        pool = layers.MaxPooling1D(3, strides, padding)
        return pool(nothing(x, (1, 0), (0, 0)))

    uneven = ((0, 1), (1, 0), (0, 0))
    model = functional(_MAP, lambda x: network(x, *uneven))
    assert kinds(check(model)[0]) == ["Pool"]
    assert kinds(check(functional(_STEPS, of_steps))[0]) == ["Pool"]
    signs = functional(_MAP, lambda x: network(mpt.quantizers.SteSign()(x)))
    plan, decided = check(signs)
    assert decided
    assert plan.operations[1].output.kind == SIGN
    # Zeros inside are no such padding, and entries may stand elsewhere.
    zeros = layers.ZeroPadding2D(1)
    check(functional(_MAP, lambda x: network(zeros(x - 9))))
    crop = layers.Cropping2D(1)
    check(functional(_MAP, lambda x: network(crop(x))))


def test_zeros_behind_a_sign_are_zeros():
    plan = checked(
        _MAP,
        mpt.quantizers.SteSign(),
        layers.ZeroPadding2D(1),
        mpt.MPTConv2D(3, 3),
    )
    assert kinds(plan) == ["Elementwise", "Convolution"]
    plan = checked(
        _MAP,
        mpt.quantizers.SteSign(),
        layers.ZeroPadding2D(1),
        layers.MaxPooling2D(2),
    )
    assert kinds(plan) == ["Elementwise", "Elementwise", "Gather", "Pool"]


def test_a_sign_behind_zeros_makes_ones_of_them():
    plan = checked(
        _MAP,
        layers.ZeroPadding2D(2),
        mpt.MPTConv2D(3, 3, input_quantizer="ste_sign"),
    )
    assert kinds(plan) == ["Gather", "Elementwise", "Convolution"]
    plan = checked(
        _MAP,
        mpt.quantizers.SteSign(),
        layers.ZeroPadding2D(1),
        mpt.quantizers.SteSign(),
    )
    assert plan.operations[-2].output.kind == SIGN


def test_signs_stay_signs():
    plan = checked(
        _MAP,
        mpt.quantizers.SteSign(),
        layers.MaxPooling2D(),
        layers.Permute((2, 1, 3)),
        layers.UpSampling2D(2),
        mpt.quantizers.SteSign(),
        mpt.MPTConv2D(3, 3),
    )
    assert [op.output.kind for op in plan.operations] == [
        *(SIGN, SIGN, SIGN, FLOAT)
    ]
    for layer in (
        layers.AveragePooling2D(2),
        layers.BatchNormalization(),
        layers.Softmax(),
        layers.ReLU(),
        layers.Activation("tanh"),
        layers.Activation("gelu"),
        mpt.MPTConv2DTranspose(3, 3, 2),
    ):
        checked(_MAP, mpt.quantizers.SteSign(), layer)


def test_channels_are_shuffled_by_one_gather():
    plan = checked(
        _MAP,
        layers.Reshape((6, 7, 2, 2)),
        layers.Permute((1, 2, 4, 3)),
        layers.Reshape(_MAP),
    )
    assert kinds(plan) == ["Gather"]


def test_nothing_at_all():
    assert kinds(checked(_MAP, layers.Dropout(0.1))) == ["Elementwise"]


# --- Graphs ----------------------------------------------------------------


def functional(shape, function):
    inputs = keras.Input(shape)
    return fill(keras.Model(inputs, function(inputs)))


def nothing(x, *pads):
    """Pads as is right for a max pool; by one on each side by default."""
    pads = pads or ((1, 1), (1, 1), (0, 0))
    return ops.pad(x, ((0, 0), *pads), constant_values=-np.inf)


_GRAPHS = {
    "add": lambda x: layers.Add()([x, layers.Conv2D(4, 1)(x), x]),
    "subtract": lambda x: layers.Subtract()([layers.ReLU()(x), x]),
    "multiply": lambda x: layers.Multiply()([layers.ReLU()(x), x]),
    "average": lambda x: layers.Average()([layers.ReLU()(x), x, x]),
    "maximum": lambda x: layers.Maximum()([layers.Conv2D(4, 1)(x), x]),
    "minimum": lambda x: layers.Minimum()([layers.Conv2D(4, 1)(x), x]),
    "add_signs": lambda x: layers.Add()([mpt.quantizers.SteSign()(x), x]),
    "scale_channels": lambda x: layers.Multiply()(
        [x, layers.Dense(4)(layers.GlobalAveragePooling2D(keepdims=True)(x))]
    ),
    "broadcast": lambda x: layers.Add()([layers.GlobalMaxPooling2D()(x), x]),
    "add_flattened": lambda x: layers.Add()(
        [layers.Flatten()(x), layers.Flatten()(layers.ReLU()(x))]
    ),
    "concatenate": lambda x: layers.Concatenate()([x, layers.Conv2D(3, 1)(x)]),
    "concatenate_signs": lambda x: layers.Concatenate()(
        [mpt.quantizers.SteSign()(x), x]
    ),
    "concatenate_rows": lambda x: layers.Concatenate(axis=1)(
        [x, layers.MaxPooling2D((2, 1))(x)]
    ),
    "concatenate_columns": lambda x: layers.Concatenate(axis=2)(
        [x, layers.ReLU()(x)]
    ),
    "concatenate_flattened": lambda x: layers.Dense(3)(
        layers.Concatenate()(
            [layers.Flatten()(x), layers.GlobalMaxPooling2D()(x)]
        )
    ),
    "used_twice": lambda x: layers.Add()(
        [
            layers.Conv2D(2, 3)(layers.ZeroPadding2D(1)(x)),
            layers.AveragePooling2D(3, 1)(
                layers.Conv2D(2, 1)(layers.ZeroPadding2D(1)(x))
            ),
        ]
    ),
    "op_add": lambda x: x + layers.Conv2D(4, 1)(x),
    "op_numbers": lambda x: 2 - (x * 3 + 1) / 4,
    "op_negative": lambda x: -x - 1,
    "op_multiply": lambda x: ops.multiply(x, layers.ReLU()(x)),
    "op_maximum": lambda x: ops.maximum(x, -x),
    "op_maximum_0": lambda x: ops.maximum(x, 0),
    "op_clip": lambda x: ops.clip(x, 0, 0.5),
    "op_clip_to_signs": lambda x: ops.clip(x, -0.25, 0.5),
    "op_relu": lambda x: ops.relu(x),
    "op_relu6": lambda x: ops.relu6(x),
    "op_leaky_relu": lambda x: ops.leaky_relu(x, 0.3),
    "op_elu": lambda x: ops.elu(x, 0.5),
    "op_selu": lambda x: ops.selu(x),
    "op_gelu": lambda x: ops.gelu(x),
    "op_gelu_exact": lambda x: ops.gelu(x, approximate=False),
    "op_softmax": lambda x: ops.softmax(x),
    "op_sigmoid": lambda x: ops.sigmoid(x),
    "op_hard_sigmoid": lambda x: ops.hard_sigmoid(x),
    "op_exp": lambda x: ops.exp(x),
    "op_reshape": lambda x: ops.reshape(x, (-1, 6, 28)),
    "op_transpose": lambda x: ops.transpose(x, (0, 3, 1, 2)),
    "op_concatenate": lambda x: ops.concatenate([x, -x], axis=-1),
    "op_pad": lambda x: ops.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]]),
    "op_pad_for_a_max_pool": lambda x: layers.MaxPooling2D(3, 2)(nothing(x)),
    "op_mean": lambda x: ops.mean(x, axis=(1, 2)),
    "op_max": lambda x: ops.max(x, axis=(1, 2), keepdims=True),
    "op_expand": lambda x: ops.expand_dims(ops.mean(x, axis=(1, 2)), 1),
    "op_squeeze": lambda x: ops.squeeze(x[:, :1], 1),
    "op_slice": lambda x: x[:, 1:5:2, :-1, :3],
    "op_slice_channels": lambda x: x[..., 1:] + x[..., :-1],
    "op_slice_one": lambda x: x[:, 2],
    "op_sign": lambda x: ops.sign(ops.sign(x) + 0.5),
    "op_where": lambda x: ops.where(x < 0, -1.0, 1.0),
    "op_where_from": lambda x: ops.where(x >= 0, 1.0, -1.0),
}


@pytest.mark.parametrize("name", _GRAPHS)
def test_a_graph(name):
    _, decided = check(functional(_MAP, _GRAPHS[name]))
    assert decided


def test_a_sign_of_what_is_not_nan():
    """As a model frozen with PyTorch has it."""

    def sign(x):
        return ops.where(ops.isnan(x), x, ops.sign(ops.sign(x) + 0.5))

    plan, _ = check(functional(_MAP, sign))
    assert plan.operations[0].output.kind == SIGN


def test_shared_layers_and_nested_models():
    shared = layers.Conv2D(4, 3, padding="same", name="conv")
    inner = keras.Sequential(
        [keras.Input(_MAP), layers.Conv2D(4, 1, name="conv"), layers.ReLU()],
        name="inner",
    )
    one, two = (keras.Input(_MAP) for _ in range(2))
    both = keras.Model(
        [one, two], [layers.Add()([one, two]), two - one], name="both"
    )

    def network(x):
        x = inner(shared(shared(x)))
        total, difference = both([x, inner(x)])
        return layers.Concatenate()([difference, total])

    check(functional(_MAP, network))
    nested = functional(_MAP, network)
    check(keras.Sequential([keras.Input(_MAP), nested, layers.Flatten()]))
    inputs = keras.Input(_MAP)
    check(keras.Model(inputs, nested(layers.Conv2D(4, 1)(inputs))))


def test_masked_and_ordinary_layers_of_one_name():
    """Their kernels are told apart by their places in the network."""
    inner = keras.Sequential(
        [
            keras.Input(_MAP),
            mpt.MPTConv2D(4, 3, padding="same", name="conv"),
            layers.Conv2D(4, 3, padding="same", name="other"),
        ],
        name="inner",
    )
    again = keras.Sequential(
        [keras.Input(_MAP), mpt.MPTConv2D(4, 1, name="conv")], name="again"
    )
    pruned = layers.Conv2D(4, 3, padding="same", name="conv")
    model = keras.Sequential([keras.Input(_MAP), pruned, inner, again])
    kernel = backend.as_numpy(pruned.kernel)
    pruned.kernel.assign(np.where(abs(kernel) > 0.1, kernel, 0))
    check(model)
    other = keras.Sequential([keras.Input(_MAP), again, inner, pruned])
    check(other)


def test_a_model_that_knows_its_input_by_its_build():
    model = keras.Sequential([layers.Dense(3)])
    model.build((None, 5))
    check(model)


# --- Networks --------------------------------------------------------------

_NETWORKS = {
    **{f"conv{n}": {} for n in (2, 4, 6, 8)},
    "lenet_300_100": {"input_shape": (8, 8, 1)},
    "vgg_small": {"input_shape": (16, 16, 3)},
    "resnet18": {"input_shape": (16, 16, 3)},
    "resnet20": {"width": 0.5, "input_shape": (16, 16, 3)},
    "resnet50": {"input_shape": (8, 8, 3)},
    "imagenet_resnet18": {"input_shape": (32, 32, 3)},
}


def _networks():
    """Each once, and both kinds of activations of one of each family."""
    for number, name in enumerate(_NETWORKS):
        for binary in (False, True):
            is_quick = number % 2 == binary or name in ("conv2", "resnet20")
            marks = () if is_quick else pytest.mark.slow
            yield pytest.param(name, binary, marks=marks)


@pytest.mark.parametrize(("name", "binary"), list(_networks()))
def test_a_network(name, binary):
    options = {"width": 0.0625, **_NETWORKS[name]}
    make = getattr(mpt.models, name)
    model = make(
        **options,
        binary_activations=binary,
        sparsity=0.6,
        trained_batch_norm=True,
    )
    plan, decided = check(fill(model), count=8)
    assert decided >= 4
    signs = [op for op in plan.operations if op.output.kind == SIGN]
    assert bool(signs) == binary
    if binary:
        frozen, _ = check(mpt.freeze(model))
        assert kinds(frozen) == kinds(plan)


@pytest.mark.parametrize(
    "form", ["two_activations", "norm_at_pools", "norm_everywhere"]
)
def test_vgg_smalls_forms(form):
    model = mpt.models.vgg_small(
        form=form,
        width=0.0625,
        input_shape=(8, 8, 3),
        binary_activations=True,
        kernel_initializer=Quarters(),
    )
    images = np.random.default_rng(0).integers(-9, 9, (8, 8, 8, 3))
    _, decided = check(fill(model), images, is_exact=True)
    assert decided >= 4


@keras.saving.register_keras_serializable("tests")
class Quarters(keras.initializers.Initializer):
    """-1/4 and +1/4: of integers and of signs all sums are exact."""

    def __call__(self, shape, dtype=None):
        signs = np.random.default_rng(0).choice([-0.25, 0.25], shape)
        return ops.convert_to_tensor(signs, dtype)


def test_class_scores_of_signs_are_exact():
    options = {"kernel_initializer": Quarters()}
    model = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            mpt.quantizers.ApproxSign(),
            mpt.MPTConv2D(8, 3, **options),
            mpt.quantizers.ApproxSign(),
            layers.Flatten(),
            mpt.MPTDense(5, **options),
        ]
    )
    images = np.random.default_rng(0).normal(size=(20, 6, 6, 3))
    results, _ = run(lower(ticket_of(model)), images.astype("float32"))
    expected = backend.as_numpy(model(images.astype("float32")))
    np.testing.assert_array_equal(results, expected)


# --- Random graphs ---------------------------------------------------------


class Grower:
    """Puts layers behind one another, of one rank and one data format."""

    def __init__(self, draw):
        self.draw = draw
        self.rank = draw(st.sampled_from([1, 2, 2]))
        self.is_first = draw(st.sampled_from([False, False, True]))
        self.format = {"data_format": _FIRST if self.is_first else _LAST}
        # TensorFlow's Keras adds a bias to columns that are as many.
        self.bias = {"use_bias": False} if self.is_first else {}
        self.channel_axis = 1 if self.is_first else -1
        self.pixel_axes = [n + 1 + self.is_first for n in range(self.rank)]

    def pick(self, *choices):
        return self.draw(st.sampled_from(choices))

    def number(self, least, most):
        return self.draw(st.integers(least, most))

    def layer(self, name):
        return getattr(layers, f"{name}{self.rank}D")

    def masked(self, name):
        return getattr(mpt, f"MPT{name}{self.rank}D", self.layer(name))

    def model(self):
        pixels = [self.number(3, 9) for _ in range(self.rank)]
        channels = [self.number(1, 4)]
        shape = channels + pixels if self.is_first else pixels + channels
        inputs = x = keras.Input(shape)
        for _ in range(self.number(1, 5)):
            x = self.pick(*_GROWTH)(self, x)
        if self.draw(st.booleans()):
            x = layers.Dense(3)(layers.Flatten(**self.format)(x))
        return fill(keras.Model(inputs, x), self.number(0, 99))

    def pixels(self, x):
        return [x.shape[axis] for axis in self.pixel_axes]

    def convolution(self, x):
        is_masked = self.draw(st.booleans())
        options = {}
        if is_masked:
            options = {
                "input_quantizer": self.pick(None, "ste_sign"),
                "binarize": self.pick(True, False),
                "use_bias": self.pick(True, False),
                "sparsity": self.pick(0.0, 0.5, 0.9),
            }
        kind = self.masked if is_masked else self.layer
        strides = self.number(1, 2)
        size = self.number(1, min(3, *self.pixels(x)))
        dilation = 1 if strides > 1 or size == 1 else self.number(1, 2)
        return kind("Conv")(
            self.number(1, 6),
            size,
            strides=strides,
            dilation_rate=dilation,
            padding="same" if dilation > 1 else self.pick("same", "valid"),
            activation=self.pick("linear", "relu", "tanh"),
            **self.format,
            **{**options, **self.bias},
        )(x)

    def depthwise_convolution(self, x):
        kind = self.pick(self.layer, self.masked)("DepthwiseConv")
        size = self.number(1, 3)
        return kind(size, padding="same", **self.format, **self.bias)(x)

    def transposed_convolution(self, x):
        kind = getattr(layers, f"Conv{self.rank}DTranspose")
        strides = self.number(1, 2) if max(self.pixels(x)) < 8 else 1
        return kind(
            self.number(1, 3),
            self.number(1, 3),
            strides=strides,
            padding=self.pick("same", "valid"),
            **self.format,
            **self.bias,
        )(x)

    def entries(self, x):
        return self.pick(
            lambda: layers.BatchNormalization(axis=self.channel_axis),
            layers.ReLU,
            layers.LeakyReLU,
            mpt.quantizers.ApproxSign,
            lambda: layers.PReLU(shared_axes=self.pixel_axes),
            lambda: layers.Activation("hard_sigmoid"),
            lambda: layers.Rescaling(0.5, 0.25),
        )()(x)

    def pool(self, x):
        kind = self.layer(self.pick("MaxPooling", "AveragePooling"))
        size, strides = self.number(1, 3), self.number(1, 2)
        return kind(size, strides, padding="same", **self.format)(x)

    def zeros(self, x):
        if max(self.pixels(x)) > 9:
            return x
        pads = [(self.number(0, 2), self.number(0, 2)) for _ in self.pixel_axes]
        pads = pads[0] if self.rank == 1 else pads
        return self.layer("ZeroPadding")(pads, **self.format)(x)

    def other_shape(self, x):
        axes = list(range(1, self.rank + 2))
        crops = [(size // 3, 0) for size in self.pixels(x)]
        crops = crops[0] if self.rank == 1 else crops
        larger = 2 if max(self.pixels(x)) < 6 else 1
        options = self.format if self.rank == 2 else {}
        choices = [
            lambda: layers.Permute(self.draw(st.permutations(axes))),
            lambda: layers.Reshape(self.draw(st.permutations(x.shape[1:]))),
        ]
        if self.rank == 2 or not self.is_first:
            choices += [
                lambda: self.layer("Cropping")(crops, **options),
                lambda: self.layer("UpSampling")(larger, **options),
            ]
        return self.pick(*choices)()(x)

    def branch(self, x):
        means = self.layer("AveragePooling")
        y = self.pick(self.entries, means(2, 1, padding="same", **self.format))(
            x
        )
        kind = self.pick("Add", "Multiply", "Maximum", "Subtract")
        if self.draw(st.booleans()):
            return getattr(layers, kind)()([x, y])
        axis = self.number(1, self.rank + 1)
        return layers.Concatenate(axis=axis)([x, y])


_GROWTH = [
    *(Grower.convolution, Grower.convolution, Grower.depthwise_convolution),
    *(Grower.transposed_convolution, Grower.entries, Grower.entries),
    *(Grower.pool, Grower.zeros, Grower.other_shape, Grower.branch),
]


@backend.needs_tensorflow
@settings(max_examples=examples(60), deadline=None)
@given(st.data())
def test_random_graphs(data):
    _, decided = check(Grower(data.draw).model())
    assume(decided)


# --- What is refused -------------------------------------------------------


@keras.saving.register_keras_serializable("tests")
class OwnDense(layers.Dense):
    pass


@keras.saving.register_keras_serializable("tests")
class OwnMasked(mpt.MPTDense):
    pass


_REFUSED = {
    "LayerNormalization": (_MAP, lambda: layers.LayerNormalization()),
    "LSTM": (_STEPS, lambda: layers.LSTM(3)),
    "OwnDense": (_VECTOR, lambda: OwnDense(3)),
    "OwnMasked": (_VECTOR, lambda: OwnMasked(3)),
    "mixed_bfloat16": (
        _VECTOR,
        lambda: layers.Dense(3, dtype="mixed_bfloat16"),
    ),
    "float64": (_VECTOR, lambda: layers.ReLU(dtype="float64")),
    "bilinear": (
        _MAP,
        lambda: layers.UpSampling2D(2, interpolation="bilinear"),
    ),
    "axis": (_MAP, lambda: layers.BatchNormalization(axis=2)),
    "shared_axes": (_MAP, lambda: layers.PReLU()),
    "log_softmax": (_MAP, lambda: layers.Activation("log_softmax")),
    "sign": (_MAP, lambda: layers.Activation(ops.sign)),
    "TimeDistributed": (
        _STEPS,
        lambda: layers.TimeDistributed(layers.Dense(3)),
    ),
    "an input of the shape": ((2, 2, 2, 2), lambda: layers.Flatten()),
    "open size": ((None, None, 3), lambda: layers.GlobalMaxPooling2D()),
    "Resizing": ((6, 7, 3), lambda: layers.Resizing(3, 3)),
}


@pytest.mark.parametrize("says", _REFUSED)
def test_what_is_not_supported_is_named(says):
    shape, make = _REFUSED[says]
    layer = make()
    model = keras.Sequential([keras.Input(shape), layer])
    with pytest.raises(UnsupportedLayerError, match=says) as error:
        lower(ticket_of(model))
    if not says.startswith(("open", "an input")):
        assert f"'{layer.name}'" in str(error.value)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: ops.sign(x),
        lambda x: ops.relu(ops.sign(x)),
        lambda x: ops.sign(x) + 1.5,
        lambda x: ops.where(x < 0, 1.0, 2.0),
        lambda x: ops.where(x > 0, 1.0, -1.0),
        lambda x: ops.where(x < 1, -1.0, 1.0),
        lambda x: x * np.ones(4, "float32"),
        lambda x: x / (x + 1),
        lambda x: ops.mean(x, axis=1),
        lambda x: ops.reshape(x, (-1, 4)),
        lambda x: ops.sqrt(x),
        lambda x: ops.clip(x, 1, 2),
        lambda x: ops.pad(x, ((0, 0),) * 4, constant_values=1.0),
        lambda x: layers.ReLU()(nothing(x)),
        lambda x: layers.AveragePooling2D(2)(nothing(x)),
        lambda x: layers.GlobalMaxPooling2D()(nothing(x)),
        lambda x: layers.MaxPooling2D()(ops.sign(x)),
        lambda x: layers.MaxPooling2D()(nothing(x, (2, 0), (0, 0), (0, 0))),
        lambda x: layers.MaxPooling2D()(nothing(x, (0, 3), (0, 0), (0, 0))),
        lambda x: layers.MaxPooling2D()(nothing(x, (0, 0), (0, 0), (0, 1))),
        lambda x: layers.Dropout(0.1)(x, training=True),
        lambda x: layers.BatchNormalization()(x, training=True),
        lambda x: layers.Softmax()(x, mask=x > 0),
        lambda x: keras.Sequential([layers.Dropout(0.1)])(x, training=True),
        lambda x: [x, x + 1],
    ],
)
def test_graphs_that_are_not_supported(function):
    with pytest.raises(UnsupportedLayerError):
        lower(ticket_of(functional(_MAP, function)))


def test_inputs_that_are_not_supported():
    one, two = keras.Input((3,)), keras.Input((3,))
    model = keras.Model([one, two], layers.Add()([one, two]))
    with pytest.raises(UnsupportedLayerError, match="2 inputs"):
        lower(ticket_of(model))
    inputs = keras.Input((3,), dtype="int32")
    model = keras.Model(inputs, layers.Rescaling(0.1)(inputs))
    with pytest.raises(UnsupportedLayerError, match="int32"):
        lower(ticket_of(model))


def test_an_argument_of_a_later_keras_is_not_overlooked():
    ticket = ticket_of(keras.Sequential([keras.Input((3,)), layers.Dense(2)]))
    config = json.loads(json.dumps(ticket.config))
    dense = config["config"]["layers"][1]["config"]
    dense["harmless"] = None
    lower(dataclasses.replace(ticket, config=config))
    dense["spin"] = 2
    with pytest.raises(UnsupportedLayerError, match="spin=2"):
        lower(dataclasses.replace(ticket, config=config))


def test_tickets_that_are_none():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="d")])
    ticket = ticket_of(model)
    with pytest.raises(mpt.TicketError, match="lacks the weight 'd/kernel'"):
        lower(dataclasses.replace(ticket, weights={}))
    weights = {**ticket.weights, "d/bias": np.zeros(3)}
    with pytest.raises(mpt.TicketError, match="shape"):
        lower(dataclasses.replace(ticket, weights=weights))
    with pytest.raises(mpt.TicketError, match="description"):
        lower(dataclasses.replace(ticket, config={}))


def _changed(config, name, **changes):
    config = json.loads(json.dumps(config))
    for layer in config["config"]["layers"]:
        if layer["config"]["name"] == name:
            layer["config"].update(changes)
    return config


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("c", {"strides": [0, 1]}),
        ("c", {"strides": [1, -1]}),
        ("c", {"dilation_rate": [-1, 1]}),
        ("c", {"groups": 3}),
        ("c", {"kernel_size": [3, 4]}),
        ("c", {"padding": "full"}),
        ("c", {"filters": "many"}),
        ("t", {"output_padding": 2}),
        ("t", {"output_padding": -1}),
        ("p", {"pool_size": [0, 2]}),
        ("p", {"strides": [0, 2]}),
        ("z", {"padding": [[-1, 0], [0, 0]]}),
        ("z", {"padding": [[10**9, 0], [0, 0]]}),
        ("u", {"size": [10**9, 10**9]}),
        ("k", {"cropping": [[-1, 0], [0, 0]]}),
        ("k", {"cropping": [[99, 0], [0, 0]]}),
        ("i", {"batch_shape": [None, 10**9, 10**9, 4]}),
        ("i", {"batch_shape": [None, -6, 7, 4]}),
    ],
)
def test_sizes_that_no_network_has(name, changes):
    """They end before there is a plan that would read beside its inputs."""
    model = keras.Sequential(
        [
            keras.Input(_MAP, name="i"),
            layers.ZeroPadding2D(1, name="z"),
            layers.Cropping2D(1, name="k"),
            layers.Conv2D(4, 3, padding="same", groups=2, name="c"),
            layers.Conv2DTranspose(4, 3, 2, output_padding=1, name="t"),
            layers.MaxPooling2D(name="p"),
            layers.UpSampling2D(name="u"),
        ]
    )
    ticket = ticket_of(model)
    config = _changed(ticket.config, name, **changes)
    with pytest.raises((mpt.TicketError, UnsupportedLayerError)):
        lower(dataclasses.replace(ticket, config=config))


def test_models_with_dictionaries():
    one, two = keras.Input(_MAP, name="b"), keras.Input(_MAP, name="a")
    inner = keras.Model({"b": one, "a": two}, {"z": one, "c": two - one})

    def network(x):
        results = inner({"b": x, "a": layers.ReLU()(x)})
        return layers.Subtract()([results["z"], results["c"]])

    check(functional(_MAP, network))


def test_elementwise_steps_keep_the_order_of_keras():
    plan = checked(
        _MAP,
        layers.Conv2D(3, 1, activation="relu"),
        layers.BatchNormalization(),
    )
    assert kinds(plan) == ["Convolution", *["Elementwise"] * 3]
    bias, relu, norm = plan.operations[1:]
    assert isinstance(bias, Elementwise)
    assert bias.steps.scale is None
    assert relu.steps.rectifier
    assert relu.steps.offset is None
    assert norm.steps.scale.shape == norm.steps.offset.shape == (3,)


def test_weights_that_a_seed_prunes_or_keeps():
    frozen = {"frozen_pruned": 0.3, "frozen_kept": 0.2}
    checked(
        (6, 6, 2),
        mpt.MPTConv2D(5, 3, seed=0, **frozen),
        layers.Flatten(),
        mpt.MPTDense(4, seed=1, binarize=False, **frozen),
    )
