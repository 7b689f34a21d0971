"""Convolutions of all kinds, and dense layers."""

import numpy as np

from mpt_keras.runtime.calls import Call, Rule
from mpt_keras.runtime.operations import Convolution, Value, Window
from mpt_keras.runtime.rules.activations import activated
from mpt_keras.runtime.rules.windows import (
    check_positive,
    pair,
    place_window,
    without_zeros,
)
from mpt_keras.runtime.tensors import Tensor
from mpt_keras.runtime.weights import Kernel


def _quantized(call):
    """The input behind the quantizer that masked layers may have."""
    quantizer = call.config.get("input_quantizer")
    if quantizer is None:
        return call.tensor
    return activated(call, call.tensor, quantizer)


def _finished(call, value, shape, channels_first, filters):
    """Bias and activation."""
    tensor = Tensor(value, shape, channels_first)
    if call.config["use_bias"]:
        bias = call.variable("bias", filters)
        tensor = call.steps(tensor, channels_first, offset=bias)
    return activated(call, tensor, call.config["activation"])


class _Geometry:
    """What a convolution says of its window."""

    def __init__(self, call: Call, tensor: Tensor):
        config = call.config
        rank = len(config["kernel_size"])
        if len(tensor.shape) != rank + 1:
            call.refuse(f"an input of the shape {(None, *tensor.shape)}")
        self.rank = rank
        self.channels_first = call.channels_first
        self.taps = pair(config["kernel_size"])
        self.strides = pair(config["strides"])
        self.dilation = pair(config["dilation_rate"])
        self.padding = config["padding"]
        if self.padding not in ("same", "valid", "causal"):
            call.refuse(f"padding={self.padding!r}")
        check_positive(*self.taps, *self.strides, *self.dilation)

    def shape(self, value: Value) -> tuple:
        """Keras' shape of a value."""
        channels, *others = value.shape
        others = others[2 - self.rank :]
        if self.channels_first:
            return (channels, *others)
        return (*others, channels)

    def convolved(
        self, call: Call, tensor: Tensor, kernel: Kernel, groups: int
    ) -> Value:
        """A convolution with a kernel of four axes, without bias."""
        value, size, zeros = without_zeros(call, tensor, self.channels_first)
        window, out = place_window(
            self.padding,
            size,
            taps=self.taps,
            strides=self.strides,
            dilation=self.dilation,
            zeros=zeros,
        )
        return _convolution(call, value, kernel, window, out, groups)


def _convolution(call, value, kernel, window, out, groups=1):
    return call.add(
        Convolution,
        [value],
        (kernel.weights.shape[-1], *out),
        kernel=np.ascontiguousarray(kernel.weights),
        gain=float(kernel.gain),
        window=window,
        groups=groups,
    )


def _reshaped(kernel, *shape):
    return Kernel(kernel.weights.reshape(shape), kernel.gain)


def _channels(tensor, channels_first):
    return tensor.shape[0 if channels_first else -1]


def _convolution_layer(call):
    tensor = _quantized(call)
    geometry = _Geometry(call, tensor)
    first, filters = geometry.channels_first, call.config["filters"]
    groups = call.config["groups"]
    channels = _channels(tensor, first) // groups
    if channels * groups != _channels(tensor, first) or filters % groups:
        call.refuse(f"groups={groups} for these channels")
    kernel = call.kernel(
        "kernel", *call.config["kernel_size"], channels, filters
    )
    kernel = _reshaped(kernel, *geometry.taps, channels, filters)
    value = geometry.convolved(call, tensor, kernel, groups)
    return _finished(call, value, geometry.shape(value), first, filters)


def _depthwise(call, tensor, geometry, name):
    channels = _channels(tensor, geometry.channels_first)
    each = call.config["depth_multiplier"]
    kernel = call.kernel(name, *call.config["kernel_size"], channels, each)
    kernel = _reshaped(kernel, *geometry.taps, 1, channels * each)
    return geometry.convolved(call, tensor, kernel, channels)


def _depthwise_layer(call):
    tensor = _quantized(call)
    geometry = _Geometry(call, tensor)
    value = _depthwise(call, tensor, geometry, "kernel")
    shape, filters = geometry.shape(value), value.shape[0]
    return _finished(call, value, shape, geometry.channels_first, filters)


def _separable_layer(call):
    tensor = _quantized(call)
    geometry = _Geometry(call, tensor)
    value = _depthwise(call, tensor, geometry, "depthwise_kernel")
    channels, filters = value.shape[0], call.config["filters"]
    ones = [1] * geometry.rank
    kernel = call.kernel("pointwise_kernel", *ones, channels, filters)
    kernel = _reshaped(kernel, 1, 1, channels, filters)
    value = _convolution(call, value, kernel, Window(), value.shape[1:])
    shape = geometry.shape(value)
    return _finished(call, value, shape, geometry.channels_first, filters)


def _transposed_layer(call):
    """A convolution, with the flipped kernel, of pixels set apart by zeros."""
    tensor = _quantized(call)
    geometry = _Geometry(call, tensor)
    first, filters = geometry.channels_first, call.config["filters"]
    channels = _channels(tensor, first)
    size = call.config["kernel_size"]
    kernel = call.kernel("kernel", *size, filters, channels)
    kernel = _reshaped(kernel, *geometry.taps, filters, channels)
    flipped = kernel.weights[::-1, ::-1].transpose(0, 1, 3, 2)
    if geometry.padding == "causal":
        call.refuse("padding='causal'")
    extra = call.config["output_padding"]
    if extra is None or isinstance(extra, int):
        extra = [extra] * geometry.rank
    extra = extra if len(extra) == 2 else (None, *extra)
    value = call.planes(tensor, first)
    axes = [
        _transposed_axis(geometry.padding, *numbers)
        for numbers in zip(
            value.shape[1:],
            geometry.taps,
            geometry.strides,
            geometry.dilation,
            extra,
            strict=True,
        )
    ]
    out, before = zip(*axes, strict=True)
    value = _spread(call, value, geometry.strides)
    window = Window(geometry.taps, dilation=geometry.dilation, before=before)
    kernel = Kernel(flipped, kernel.gain)
    value = _convolution(call, value, kernel, window, out)
    return _finished(call, value, geometry.shape(value), first, filters)


def _transposed_axis(padding, size, taps, stride, step, extra):
    """Size of the output, and how far the flipped window begins outside."""
    if extra is not None and not 0 <= extra < stride:
        raise ValueError(f"output_padding={extra} with strides={stride}")
    reach = (taps - 1) * step + 1
    whole = (size - 1) * stride + reach
    if padding == "valid":
        if extra is None:
            extra = max(stride - reach, 0)
        return whole + extra, reach - 1
    count = size * stride
    if extra is not None:
        count = (size - 1) * stride + reach % 2 + extra
    return count, reach - 1 - max(whole - count, 0) // 2


def _spread(call, value, strides):
    """Planes with zeros between the pixels."""
    if strides == (1, 1):
        return value
    channels, *size = value.shape
    wide = [
        (n - 1) * stride + 1 for n, stride in zip(size, strides, strict=True)
    ]
    call.check_size(channels, *wide)
    places = np.full((channels, *wide), -1, "int32")
    places[:, :: strides[0], :: strides[1]] = np.arange(value.size).reshape(
        value.shape
    )
    tensor = Tensor(value, places.shape, True, places)
    return call.planes(tensor, True)


def _dense_layer(call):
    tensor = _quantized(call)
    units = call.config["units"]
    inputs = tensor.shape[-1]
    kernel = call.kernel("kernel", inputs, units)
    if len(tensor.shape) > 1:
        value = call.planes(tensor, False)
        kernel = _reshaped(kernel, 1, 1, inputs, units)
        value = _convolution(call, value, kernel, Window(), value.shape[1:])
    else:
        value, kernel = _flat(call, tensor, kernel)
        window = Window(value.shape[1:])
        value = _convolution(call, value, kernel, window, (1, 1))
    return _finished(call, value, (*tensor.shape[:-1], units), False, units)


def _flat(call, tensor, kernel):
    """A value of which a vector consists, and the kernel in its order.

    The dense layer is then a convolution of which the window is the value as
    a whole; what the vector leaves out gets weights of 0.
    """
    value, places = tensor.value, tensor.places
    units = kernel.weights.shape[-1]
    if places is not None:
        is_there = places >= 0
        used = places[is_there]
        if len(np.unique(used)) == len(used):
            rows = np.zeros((value.size, units), kernel.weights.dtype)
            rows[used] = kernel.weights[is_there]
            kernel = Kernel(rows, kernel.gain)
        else:
            value = call.planes(tensor, False)
    planes = kernel.weights.reshape(*value.shape, units)
    return value, Kernel(planes.transpose(1, 2, 0, 3), kernel.gain)


_BASE = {"use_bias", "activation"}
_WINDOW = {
    *("kernel_size", "strides", "padding", "data_format", "dilation_rate"),
}
# Of masked layers; the masks hold what came of sparsity and scores.
_MASKED = {
    *("sparsity", "sparsity_when_drawn", "binarize", "input_quantizer"),
    *("frozen_pruned", "frozen_kept"),
}
_SETTINGS = {
    _convolution_layer: {*_BASE, *_WINDOW, "filters", "groups"},
    _depthwise_layer: {*_BASE, *_WINDOW, "depth_multiplier"},
    _separable_layer: {*_BASE, *_WINDOW, "filters", "depth_multiplier"},
    _transposed_layer: {*_BASE, *_WINDOW, "filters", "output_padding"},
    _dense_layer: {*_BASE, "units"},
}
_KINDS = {
    _convolution_layer: ("Conv1D", "Conv2D"),
    _depthwise_layer: ("DepthwiseConv1D", "DepthwiseConv2D"),
    _separable_layer: ("SeparableConv1D", "SeparableConv2D"),
    _transposed_layer: ("Conv1DTranspose", "Conv2DTranspose"),
    _dense_layer: ("Dense",),
}
_MASKED_KINDS = {
    _convolution_layer: ("MPTConv1D", "MPTConv2D"),
    _depthwise_layer: ("MPTDepthwiseConv1D", "MPTDepthwiseConv2D"),
    _separable_layer: ("MPTSeparableConv1D", "MPTSeparableConv2D"),
    _transposed_layer: ("MPTConv1DTranspose", "MPTConv2DTranspose"),
    _dense_layer: ("MPTDense",),
}

RULES = {
    kind: Rule(lower, frozenset(_SETTINGS[lower]))
    for lower, kinds in _KINDS.items()
    for kind in kinds
} | {
    f"mpt_keras>{kind}": Rule(lower, frozenset(_SETTINGS[lower] | _MASKED))
    for lower, kinds in _MASKED_KINDS.items()
    for kind in kinds
}
