"""Pools: the largest entry or the mean of a window, or of a plane."""

from mpt_keras.runtime.calls import Rule, Unfinished
from mpt_keras.runtime.operations import FLOAT, Pool, Window
from mpt_keras.runtime.rules.windows import pair, place_window
from mpt_keras.runtime.tensors import Tensor, padding_of, to_planes


def _pooled(call, value, window, out, mean):
    if mean:
        value = call.floats(value)
    kind = FLOAT if mean else value.kind
    shape = (value.shape[0], *out)
    return call.add(Pool, [value], shape, kind, window=window, mean=mean)


def _pool_layer(call, mean):
    tensor, config = call.tensor, call.config
    rank, first = len(config["pool_size"]), call.channels_first
    is_padded = isinstance(tensor, Unfinished)
    if is_padded:
        tensor = _padded(call, tensor)
    if len(tensor.shape) != rank + 1:
        call.refuse(f"an input of the shape {(None, *tensor.shape)}")
    if config["padding"] not in ("same", "valid"):
        call.refuse(f"padding={config['padding']!r}")
    if is_padded:
        value, size, outside = _inside(call, tensor, first)
    else:
        value, outside = call.planes(tensor, first), (0, 0)
        size = value.shape[1:]
    window, out = place_window(
        config["padding"],
        size,
        taps=pair(config["pool_size"]),
        strides=pair(config["strides"]),
        zeros=outside,
    )
    if not _sees_everywhere(window, value, out):
        call.refuse("a window in the midst of a padding")
    value = _pooled(call, value, window, out, mean)
    channels, *others = value.shape
    others = others[2 - rank :]
    shape = (channels, *others) if first else (*others, channels)
    return Tensor(value, shape, first)


def _padded(call, unfinished):
    if unfinished.what != "padding with -inf":
        call.refuse(f"what it is called with, {unfinished.what} of x,")
    return unfinished.of


def _inside(call, tensor, first):
    """What a padding surrounds; the size with it; what is above and left."""
    places = to_planes(tensor.places, first)
    outside = padding_of(places, tensor.value.shape)
    if outside is None:
        call.refuse("a padding of channels")
    return tensor.value, places.shape[1:], outside


def _sees_everywhere(window, value, out):
    """Whether there is an entry of the value wherever a window looks."""
    return all(
        before < taps and (count - 1) * stride - before < n
        for before, taps, stride, count, n in zip(
            window.before,
            window.size,
            window.strides,
            out,
            value.shape[1:],
            strict=True,
        )
    )


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
            lambda call, mean=mean: _pool_layer(call, mean),
            _SETTINGS,
            takes_unfinished=not mean,
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
