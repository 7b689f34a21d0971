"""Layers that move entries, and compute nothing."""

import math

import numpy as np

from mpt_keras.runtime.calls import Rule, Unfinished
from mpt_keras.runtime.operations import Concatenate
from mpt_keras.runtime.tensors import Tensor, planes_shape


def _unchanged(call):
    return call.tensor


def _flatten(call):
    tensor = call.tensor
    places = tensor.all_places
    if call.channels_first and places.ndim > 1:
        places = np.moveaxis(places, 0, -1)
    return _flat_or(tensor, places.ravel())


def _flat_or(tensor, places):
    """A tensor of places, which may be those of the value as it is."""
    value = tensor.value
    is_vector = places.ndim == 1 and value.shape == (places.size, 1, 1)
    if is_vector and np.array_equal(places, np.arange(places.size)):
        return Tensor(value, places.shape, False)
    return tensor.at(places)


def _reshaped(tensor, shape):
    if -1 in shape:
        others = -math.prod(shape)
        shape = [tensor.size // others if n == -1 else n for n in shape]
    return _flat_or(tensor, tensor.all_places.reshape(shape))


def _reshape_layer(call):
    return _reshaped(call.tensor, call.config["target_shape"])


def _reshape_operation(call):
    batch, *shape = call.config["newshape"]
    size = math.prod(shape)
    if batch not in (-1, None) or (size > 0 and size != call.tensor.size):
        call.refuse(f"newshape={call.config['newshape']}")
    if batch == -1 and size < 0:
        call.refuse(f"newshape={call.config['newshape']}")
    return _reshaped(call.tensor, shape)


def _permute(call):
    axes = [axis - 1 for axis in call.config["dims"]]
    return call.tensor.at(call.tensor.all_places.transpose(axes))


def _transpose(call):
    axes = call.config["axes"]
    if axes is None or axes[0] != 0:
        call.refuse(f"axes={axes}")
    axes = [axis % len(axes) - 1 for axis in axes[1:]]
    return call.tensor.at(call.tensor.all_places.transpose(axes))


def _of_pixels(call, setting):
    """Pairs of a setting for each of Keras' axes, (0, 0) for the channels."""
    sizes = call.config[setting]
    if sizes and isinstance(sizes[0], int):
        sizes = [sizes]
    if len(call.tensor.shape) != len(sizes) + 1:
        call.refuse(f"an input of the shape {(None, *call.tensor.shape)}")
    # The 1D layers know no data format but that of steps before channels.
    first = "data_format" in call.config and call.channels_first
    none = [(0, 0)]
    return [*none, *sizes] if first else [*sizes, *none]


def _zero_padding(call):
    pads = _of_pixels(call, "padding")
    _check_padded(call, pads)
    places = np.pad(call.tensor.all_places, pads, constant_values=-1)
    return call.tensor.at(places)


def _check_padded(call, pads):
    shape = call.tensor.shape
    call.check_size(
        *(size + sum(pad) for size, pad in zip(shape, pads, strict=True))
    )


def _pad(call):
    config = call.config
    value = call.kwargs.get("constant_values")
    if config["mode"] != "constant" or value not in (None, 0, -math.inf):
        call.refuse(f"mode={config['mode']!r} with constant_values={value!r}")
    batch, *pads = config["pad_width"]
    if any(batch) or len(pads) != len(call.tensor.shape):
        call.refuse(f"pad_width={config['pad_width']}")
    _check_padded(call, pads)
    tensor = call.tensor
    if value:  # where -1 is no zero, there are to be no zeros
        first = tensor.channels_first
        tensor = Tensor(call.planes(tensor, first), tensor.shape, first)
    padded = tensor.at(np.pad(tensor.all_places, pads, constant_values=-1))
    return Unfinished("padding with -inf", padded) if value else padded


def _cropping(call):
    places = call.tensor.all_places
    for axis, (begin, end) in enumerate(_of_pixels(call, "cropping")):
        call.check_size(begin, end)
        places = np.take(places, range(begin, places.shape[axis] - end), axis)
    if not places.size:
        call.refuse("an output without entries")
    return call.tensor.at(places)


def _up_sampling(call):
    if call.config.get("interpolation", "nearest") != "nearest":
        call.refuse(f"interpolation={call.config['interpolation']!r}")
    sizes = call.config["size"]
    sizes = [sizes] if isinstance(sizes, int) else sizes
    if len(call.tensor.shape) != len(sizes) + 1:
        call.refuse(f"an input of the shape {(None, *call.tensor.shape)}")
    first = "data_format" in call.config and call.channels_first
    call.check_size(call.tensor.size, *sizes)
    places = call.tensor.all_places
    for axis, size in enumerate(sizes, int(first)):
        places = np.repeat(places, size, axis)
    return call.tensor.at(places)


def _repeat_vector(call):
    call.check_size(call.tensor.size, call.config["n"])
    places = call.tensor.all_places
    return call.tensor.at(np.repeat(places[None], call.config["n"], 0))


def _squeeze(call):
    axes = call.config["axis"]
    axes = [axes] if isinstance(axes, int) else axes
    if not axes:
        call.refuse(f"axis={axes}")
    places = call.tensor.all_places
    axes = tuple(axis % (places.ndim + 1) - 1 for axis in axes)
    if -1 in axes or places.ndim == len(axes):
        call.refuse(f"axis={call.config['axis']}")
    return _flat_or(call.tensor, places.squeeze(axes))


def _expand(call):
    axes = call.config["axis"]
    axes = [axes] if isinstance(axes, int) else axes
    places = call.tensor.all_places
    rank = places.ndim + 1 + len(axes)
    axes = tuple(axis % rank - 1 for axis in axes)
    if -1 in axes:
        call.refuse(f"axis={call.config['axis']}")
    return call.tensor.at(np.expand_dims(places, axes))


def _get_item(call):
    """Slices of all but the batch."""
    _, key = call.args
    batch, *others = key if isinstance(key, (list, tuple)) else [key]
    places = call.tensor.all_places
    if batch is Ellipsis:
        used = sum(one is not None for one in others)
        others = [slice(None)] * (places.ndim - used) + others
        has_batch = used <= places.ndim
    else:
        has_batch = batch == slice(None)
    allowed = (slice, int, type(None), type(Ellipsis))
    if not has_batch or not all(isinstance(one, allowed) for one in others):
        call.refuse(f"the slice {key}")
    places = places[tuple(others)]
    if not places.size or not places.ndim:
        call.refuse(f"the slice {key}")
    return _flat_or(call.tensor, places)


def _concatenate(call):
    inputs = call.inputs
    rank = len(inputs[0].shape)
    axis = call.config["axis"] % (rank + 1)
    if axis == 0 or any(len(one.shape) != rank for one in inputs):
        call.refuse(f"axis={call.config['axis']}")
    if rank <= 3 and axis in (1, rank):
        first = axis == 1 and rank > 1
        if first == inputs[0].channels_first or rank == 1:
            return _channels_joined(call, inputs, first)
    # One after another as vectors, of which the result's entries are some.
    vectors = [one.at(one.all_places.ravel()) for one in inputs]
    joined = _channels_joined(call, vectors, False)
    begins = np.cumsum([0] + [one.size for one in inputs])
    places = np.concatenate(
        [
            np.arange(begin, begin + one.size, dtype="int32").reshape(one.shape)
            for begin, one in zip(begins[:-1], inputs, strict=True)
        ],
        axis - 1,
    )
    return Tensor(joined.value, places.shape, False, places)


def _channels_joined(call, inputs, first):
    values = [call.planes(one, first) for one in inputs]
    if len({value.kind for value in values}) > 1:
        values = [call.floats(value) for value in values]
    channels = sum(value.shape[0] for value in values)
    _, *pixels = values[0].shape
    shape = inputs[0].shape
    shape = (channels, *shape[1:]) if first else (*shape[:-1], channels)
    if any(
        planes_shape(one.shape, first)[1:] != tuple(pixels) for one in inputs
    ):
        call.refuse(f"inputs of the shapes {[one.shape for one in inputs]}")
    value = call.add(Concatenate, values, (channels, *pixels), values[0].kind)
    return Tensor(value, shape, first)


_NOTHING = {
    "Identity": (),
    "Dropout": ("rate", "noise_shape"),
    "SpatialDropout1D": ("rate",),
    "SpatialDropout2D": ("rate", "data_format"),
    "AlphaDropout": ("rate", "noise_shape"),
    "GaussianDropout": ("rate",),
    "GaussianNoise": ("stddev",),
    "ActivityRegularization": ("l1", "l2"),
}
_RANDOM = {
    "RandomFlip": ("mode",),
    "RandomRotation": ("factor", "fill_mode", "interpolation", "fill_value"),
    "RandomTranslation": (
        *("height_factor", "width_factor"),
        *("fill_mode", "interpolation", "fill_value"),
    ),
    "RandomZoom": (
        *("height_factor", "width_factor"),
        *("fill_mode", "interpolation", "fill_value"),
    ),
    "RandomContrast": ("factor", "value_range"),
    "RandomBrightness": ("factor", "value_range"),
}

RULES = {
    **{
        kind: Rule(_unchanged, frozenset(settings))
        for kind, settings in _NOTHING.items()
    },
    **{
        kind: Rule(
            _unchanged, frozenset({*settings, "data_format"}), is_random=True
        )
        for kind, settings in _RANDOM.items()
    },
    "Flatten": Rule(_flatten, frozenset({"data_format"})),
    "Reshape": Rule(_reshape_layer, frozenset({"target_shape"})),
    "Permute": Rule(_permute, frozenset({"dims"})),
    **{
        f"ZeroPadding{rank}D": Rule(
            _zero_padding, frozenset({"padding", "data_format"})
        )
        for rank in (1, 2)
    },
    **{
        f"Cropping{rank}D": Rule(
            _cropping, frozenset({"cropping", "data_format"})
        )
        for rank in (1, 2)
    },
    **{
        f"UpSampling{rank}D": Rule(
            _up_sampling, frozenset({"size", "data_format", "interpolation"})
        )
        for rank in (1, 2)
    },
    "RepeatVector": Rule(_repeat_vector, frozenset({"n"})),
    "Concatenate": Rule(_concatenate, frozenset({"axis"})),
    "ops.Concatenate": Rule(_concatenate, frozenset({"axis"})),
    "ops.Reshape": Rule(_reshape_operation, frozenset({"newshape"})),
    "ops.Transpose": Rule(_transpose, frozenset({"axes"})),
    "ops.Pad": Rule(_pad, frozenset({"pad_width", "mode"})),
    "ops.Squeeze": Rule(_squeeze, frozenset({"axis"})),
    "ops.ExpandDims": Rule(_expand, frozenset({"axis"})),
    "ops.GetItem": Rule(_get_item),
}
