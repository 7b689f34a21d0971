"""Layers that scale and move their inputs."""

import numpy as np

from mpt_keras.runtime.calls import Rule

_LEAST_DEVIATION = np.float32(1e-7)  # Keras' epsilon


def _batch_norm(call):
    """`x * s + (beta - mean * s)`, `s = gamma / sqrt(variance + epsilon)`."""
    tensor, config = call.tensor, call.config
    axis = config["axis"]
    if isinstance(axis, list):
        if len(axis) != 1:
            call.refuse(f"axis={axis}")
        axis = axis[0]
    first = call.channel_axis(tensor, axis)
    channels = tensor.shape[0 if first else -1]
    mean = call.variable("moving_mean", channels)
    variance = call.variable("moving_variance", channels)
    with np.errstate(all="ignore"):  # infinities and NaN are as in Keras
        sum_ = variance + np.float32(config["epsilon"])
        scale = (1 / np.sqrt(sum_.astype("float64"))).astype("float32")
        if config["scale"]:
            scale = scale * call.variable("gamma", channels)
        offset = -mean * scale
        if config["center"]:
            offset = call.variable("beta", channels) - mean * scale
    return call.steps(tensor, first, scale=scale, offset=offset)


def _rescaling(call):
    numbers = [np.asarray(call.config[key], "float32") for key in _RESCALING]
    tensor = call.tensor
    channels = tensor.shape[-1]
    each = [number.size > 1 for number in numbers]
    if any(number.shape not in ((), (1,), (channels,)) for number in numbers):
        call.refuse(
            f"scale={call.config['scale']!r} and "
            f"offset={call.config['offset']!r} for {channels} channels"
        )
    if not any(each):
        scale, offset = (float(number.ravel()[0]) for number in numbers)
        return call.steps(tensor, scale=scale, offset=offset)
    if tensor.channels_first:  # what Keras does is a setting of its own
        call.refuse("one scale for each channel with channels first")
    scale, offset = numbers
    return call.steps(tensor, False, scale=scale, offset=offset)


def _normalization(call):
    tensor, config = call.tensor, call.config
    rank = len(tensor.shape)
    axes = config["axis"]
    axes = list(axes) if isinstance(axes, (list, tuple)) else [axes]
    axes = [axis % (rank + 1) for axis in axes if axis is not None]
    if len(axes) > 1:
        call.refuse(f"axis={axes}")
    first, shape = None, ()
    if axes:
        first = call.channel_axis(tensor, axes[0])
        shape = (tensor.shape[0 if first else -1],)
    mean, variance = config["mean"], config["variance"]
    if mean is None:
        mean = call.variable("mean", *shape)
        variance = call.variable("variance", *shape)
    mean, deviation = (
        np.broadcast_to(np.asarray(number, "float32"), shape)
        for number in (mean, np.sqrt(np.asarray(variance, "float32")))
    )
    deviation = np.maximum(deviation, _LEAST_DEVIATION)
    if config["invert"]:
        return call.steps(tensor, first, scale=deviation, offset=mean)
    tensor = call.steps(tensor, first, offset=-mean)
    return call.steps(tensor, first, scale=1 / deviation)


_RESCALING = ("scale", "offset")

RULES = {
    "BatchNormalization": Rule(
        _batch_norm,
        frozenset(
            {
                *("axis", "epsilon", "center", "scale", "momentum"),
                *("synchronized", "renorm", "renorm_clipping"),
                "renorm_momentum",
            }
        ),
    ),
    "Rescaling": Rule(_rescaling, frozenset(_RESCALING)),
    "Normalization": Rule(
        _normalization, frozenset({"axis", "mean", "variance", "invert"})
    ),
}
