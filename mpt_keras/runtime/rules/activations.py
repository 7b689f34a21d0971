"""Activations: functions of single entries, and softmax."""

import math

import numpy as np

from mpt_keras.runtime.calls import Call, Rule, Unfinished
from mpt_keras.runtime.operations import (
    Elementwise,
    Function,
    Merge,
    Rectifier,
    Softmax,
    Steps,
)
from mpt_keras.runtime.tensors import Tensor

_SELU_ALPHA = 1.6732632423543772
_SELU_SCALE = 1.0507009873554805


def activated(
    call: Call, tensor: Tensor, entry: dict | str | None
) -> "Tensor | Unfinished":
    """What an activation, as it is serialized, makes of a tensor.

    It is named, or a layer or model of its own.
    """
    if entry is None:
        return tensor
    name = entry
    if isinstance(entry, dict):
        if entry["class_name"] != "function":
            return call.apply(entry, tensor)
        name = entry["config"]
        # Of Keras' operations not all that have this name are the same.
        if entry.get("module") != "keras.activations":
            name = f"{entry.get('module')}.{name}"
    if name not in _BY_NAME:
        call.refuse(f"the function {name!r}")
    return _BY_NAME[name](call, tensor)


def rectified(
    call: Call,
    tensor: Tensor,
    slope: float = 0.0,
    high: float | None = None,
    threshold: float = 0.0,
) -> Tensor:
    """Keras' `relu`."""
    slope, threshold = float(slope or 0), float(threshold or 0)
    if threshold < 0 or (high is not None and high < 0):
        call.refuse(f"threshold={threshold!r} with max_value={high!r}")
    high = math.inf if high is None else float(high)
    rectifier = Rectifier(slope, threshold, high)
    return call.steps(tensor, rectifier=rectifier)


def clipped(call: Call, tensor: Tensor, low: float, high: float) -> Tensor:
    """`min(max(v, low), high)`, exact where `low <= 0 <= high`."""
    if not low <= 0 <= high:
        call.refuse(f"a clip to {low}..{high}, which leaves out 0,")

    def of(value):
        above = _steps(call, value, rectifier=Rectifier(high=high))
        if low == 0:
            return above
        below = Rectifier(high=-low)
        below = _steps(call, value, scale=-1.0, rectifier=below)
        return _merge(call, "subtract", above, below)

    return call.entries(tensor, of)


def function(call: Call, tensor: Tensor, name: str) -> Tensor:
    """One of `FUNCTIONS` of each entry."""
    return call.entries(tensor, lambda value: _function(call, value, name))


def softmax(call: Call, tensor: Tensor, axis: int = -1) -> Tensor:
    """Of the channels, which are those of an axis."""
    first = call.channel_axis(tensor, axis)
    value = call.floats(call.planes(tensor, first))
    value = call.add(Softmax, [value], value.shape)
    return Tensor(value, tensor.shape, first)


def _function(call, value, name):
    return call.add(Function, [call.floats(value)], value.shape, name=name)


def _merge(call, how, *values, **steps):
    channels = values[0].shape[0]
    steps = {
        name: np.full(channels, number, "float32")
        for name, number in steps.items()
    }
    return call.add(
        Merge, values, values[0].shape, how=how, steps=Steps(**steps)
    )


def _steps(call, value, **fields):
    channels = value.shape[0]
    fields = {
        name: field
        if name == "rectifier"
        else np.full(channels, field, "float32")
        for name, field in fields.items()
    }
    return call.add(Elementwise, [value], value.shape, steps=Steps(**fields))


def _elu_of(call, value, alpha=1.0, scale=1.0):
    """`scale * (v if v > 0 else alpha * (exp(v) - 1))`."""
    result = _function(call, value, "elu")
    if alpha != 1:
        above = _steps(call, value, rectifier=Rectifier())
        below = _merge(call, "subtract", result, above, scale=alpha)
        result = _merge(call, "add", above, below)
    return result if scale == 1 else _steps(call, result, scale=scale)


def elu(call: Call, tensor: Tensor, alpha: float = 1.0) -> Tensor:
    """Keras' `elu`."""
    return call.entries(tensor, lambda value: _elu_of(call, value, alpha))


def _selu(call, tensor):
    return call.entries(
        tensor, lambda value: _elu_of(call, value, _SELU_ALPHA, _SELU_SCALE)
    )


def _hard_sigmoid_of(call, value):
    value = _steps(call, value, offset=3, rectifier=Rectifier(high=6.0))
    return _steps(call, value, scale=1 / 6)


def _hard_sigmoid(call, tensor):
    return call.entries(tensor, lambda value: _hard_sigmoid_of(call, value))


def _hard_silu(call, tensor):
    return call.entries(
        tensor,
        lambda value: _merge(
            call, "multiply", value, _hard_sigmoid_of(call, value)
        ),
    )


def _mish(call, tensor):
    def mish(value):
        softplus = _function(call, value, "softplus")
        tanh = _function(call, softplus, "tanh")
        return _merge(call, "multiply", value, tanh)

    return call.entries(tensor, mish)


def gelu(call: Call, tensor: Tensor, approximate: bool = False) -> Tensor:
    """Keras' `gelu`; as an approximation, `v * sigmoid(2 * polynomial)`."""

    def of(value):
        if not approximate:
            return _function(call, value, "gelu")
        square = _merge(call, "multiply", value, value)
        factor = 2 * math.sqrt(2 / math.pi)
        inner = _steps(call, square, scale=0.044715 * factor, offset=factor)
        inner = _merge(call, "multiply", value, inner)
        sigmoid = _function(call, inner, "sigmoid")
        return _merge(call, "multiply", value, sigmoid)

    return call.entries(tensor, of)


def _unchanged(call, tensor):
    return tensor


def _named(name):
    return lambda call, tensor: function(call, tensor, name)


_BY_NAME = {
    "linear": _unchanged,
    "relu": rectified,
    "relu6": lambda call, tensor: rectified(call, tensor, high=6.0),
    "leaky_relu": lambda call, tensor: rectified(call, tensor, slope=0.2),
    "elu": elu,
    "selu": _selu,
    "gelu": gelu,
    "softmax": softmax,
    "sigmoid": _named("sigmoid"),
    "tanh": _named("tanh"),
    "softplus": _named("softplus"),
    "silu": _named("silu"),
    "swish": _named("silu"),
    "exponential": _named("exp"),
    "hard_sigmoid": _hard_sigmoid,
    "hard_silu": _hard_silu,
    "hard_swish": _hard_silu,
    "mish": _mish,
    "hard_tanh": lambda call, tensor: clipped(call, tensor, -1.0, 1.0),
}


def _activation_layer(call):
    return activated(call, call.tensor, call.config["activation"])


def _relu_layer(call):
    config = call.config
    return rectified(
        call,
        call.tensor,
        config["negative_slope"],
        config["max_value"],
        config["threshold"],
    )


def _leaky_relu(call):
    return rectified(call, call.tensor, call.config["negative_slope"])


def _prelu_layer(call):
    """Slopes of the channels, the same at all pixels."""
    tensor = call.tensor
    rank = len(tensor.shape)
    shared = {axis % (rank + 1) for axis in call.config["shared_axes"] or ()}
    shape = [
        1 if axis in shared else size
        for axis, size in enumerate(tensor.shape, 1)
    ]
    slopes = call.variable("alpha", *shape)
    for channels_first in (tensor.channels_first, not tensor.channels_first):
        own = 0 if channels_first else rank - 1
        if slopes.size == shape[own] or slopes.size == 1:
            slope = np.broadcast_to(slopes.ravel(), (tensor.shape[own],)).copy()
            rectifier = Rectifier(slope)
            return call.steps(tensor, channels_first, rectifier=rectifier)
    call.refuse(
        f"a slope for each pixel, shared_axes={call.config['shared_axes']},"
    )


def _softmax_layer(call):
    axis = call.config["axis"]
    if isinstance(axis, list):
        if len(axis) != 1:
            call.refuse(f"axis={axis}")
        axis = axis[0]
    return softmax(call, call.tensor, axis)


RULES = {
    "Activation": Rule(_activation_layer, frozenset({"activation"})),
    "ReLU": Rule(
        _relu_layer, frozenset({"negative_slope", "max_value", "threshold"})
    ),
    "LeakyReLU": Rule(_leaky_relu, frozenset({"negative_slope"})),
    "PReLU": Rule(_prelu_layer, frozenset({"shared_axes"})),
    "ELU": Rule(
        lambda call: elu(call, call.tensor, call.config["alpha"]),
        frozenset({"alpha"}),
    ),
    "Softmax": Rule(_softmax_layer, frozenset({"axis"})),
    "ops.Relu": Rule(lambda call: rectified(call, call.tensor)),
    "ops.Relu6": Rule(lambda call: rectified(call, call.tensor, high=6.0)),
    "ops.LeakyRelu": Rule(_leaky_relu, frozenset({"negative_slope"})),
    "ops.Elu": Rule(
        lambda call: elu(call, call.tensor, call.config["alpha"]),
        frozenset({"alpha"}),
    ),
    "ops.Gelu": Rule(
        lambda call: gelu(call, call.tensor, call.config["approximate"]),
        frozenset({"approximate"}),
    ),
    "ops.Softmax": Rule(
        lambda call: softmax(call, call.tensor, call.config["axis"]),
        frozenset({"axis"}),
    ),
    **{
        f"ops.{kind}": Rule(
            lambda call, name=name: _BY_NAME[name](call, call.tensor)
        )
        for kind, name in {
            "Sigmoid": "sigmoid",
            "Tanh": "tanh",
            "Softplus": "softplus",
            "Silu": "silu",
            "Exp": "exponential",
            "Selu": "selu",
            "HardSigmoid": "hard_sigmoid",
            "HardSilu": "hard_silu",
            "HardTanh": "hard_tanh",
        }.items()
    },
}
