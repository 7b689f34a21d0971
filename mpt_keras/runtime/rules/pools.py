"""Pools: the largest entry or the mean of a window, or of a plane."""

from mpt_keras.runtime.calls import Rule
from mpt_keras.runtime.operations import FLOAT, Pool, Window
from mpt_keras.runtime.rules.windows import pair, place_window
from mpt_keras.runtime.tensors import Tensor


def _pooled(call, value, window, out, mean):
    if mean:
        value = call.floats(value)
    kind = FLOAT if mean else value.kind
    shape = (value.shape[0], *out)
    return call.add(Pool, [value], shape, kind, window=window, mean=mean)


def _pool_layer(call, mean):
    tensor, config = call.tensor, call.config
    rank, first = len(config["pool_size"]), call.channels_first
    if len(tensor.shape) != rank + 1:
        call.refuse(f"an input of the shape {(None, *tensor.shape)}")
    if config["padding"] not in ("same", "valid"):
        call.refuse(f"padding={config['padding']!r}")
    value = call.planes(tensor, first)
    window, out = place_window(
        config["padding"],
        value.shape[1:],
        taps=pair(config["pool_size"]),
        strides=pair(config["strides"]),
    )
    value = _pooled(call, value, window, out, mean)
    channels, *others = value.shape
    others = others[2 - rank :]
    shape = (channels, *others) if first else (*others, channels)
    return Tensor(value, shape, first)


def global_pool(call, tensor, first, keepdims, mean):
    """The largest entry, or the mean, of each plane."""
    value = call.planes(tensor, first)
    window = Window(value.shape[1:])
    value = _pooled(call, value, window, (1, 1), mean)
    rank = len(tensor.shape)
    shape = (value.shape[0],)
    if keepdims:
        ones = (1,) * (rank - 1)
        shape = (*shape, *ones) if first else (*ones, *shape)
    return Tensor(value, shape, first)


def _global_layer(call, mean):
    rank = 2 if call.layer.kind.endswith("2D") else 1
    tensor = call.tensor
    if len(tensor.shape) != rank + 1:
        call.refuse(f"an input of the shape {(None, *tensor.shape)}")
    first, keepdims = call.channels_first, call.config["keepdims"]
    return global_pool(call, tensor, first, keepdims, mean)


def _reduced(call, mean):
    """`keras.ops.mean` and `max`, of all pixels."""
    tensor, config = call.tensor, call.config
    rank = len(tensor.shape)
    axes = config["axis"]
    axes = [axes] if isinstance(axes, int) else axes or []
    axes = {axis % (rank + 1) for axis in axes}
    for first in (tensor.channels_first, not tensor.channels_first):
        pixels = range(2, rank + 1) if first else range(1, rank)
        if rank > 1 and axes == set(pixels):
            return global_pool(call, tensor, first, config["keepdims"], mean)
    call.refuse(f"axis={config['axis']}")


_SETTINGS = frozenset({"pool_size", "strides", "padding", "data_format"})
_GLOBAL = frozenset({"data_format", "keepdims"})

RULES = {
    **{
        f"{name}Pooling{rank}D": Rule(
            lambda call, mean=mean: _pool_layer(call, mean), _SETTINGS
        )
        for name, mean in (("Max", False), ("Average", True))
        for rank in (1, 2)
    },
    **{
        f"Global{name}Pooling{rank}D": Rule(
            lambda call, mean=mean: _global_layer(call, mean), _GLOBAL
        )
        for name, mean in (("Max", False), ("Average", True))
        for rank in (1, 2)
    },
    "ops.Mean": Rule(
        lambda call: _reduced(call, True), frozenset({"axis", "keepdims"})
    ),
    "ops.Max": Rule(
        lambda call: _reduced(call, False), frozenset({"axis", "keepdims"})
    ),
}
