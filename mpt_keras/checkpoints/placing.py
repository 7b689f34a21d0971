"""Giving a network the arrays of a checkpoint, and the masks they stand for."""

import dataclasses
import typing

import keras
import numpy as np

from mpt_keras.checkpoints.reading import GLOBAL, CheckpointError
from mpt_keras.layers.masked import MaskedLayer

# Counts batches, where PyTorch averages over all of them; theirs does not.
_IGNORED = "num_batches_tracked"


@dataclasses.dataclass(frozen=True)
class _Place:
    """A variable, and how an array of the authors' layout becomes its value."""

    variable: typing.Any
    shape: tuple
    converted: typing.Callable = np.asarray


def place(checkpoint, sites):
    """Gives every array its variable; all of them, or none.

    Raises:
        CheckpointError: If a name has no place or a place no array, if a
            shape is another one, or a number is none. All are named.
    """
    places = {}
    ignored = set()
    for site in sites:
        kinds = _places(site)
        places |= {f"{site.prefix}.{kind}": at for kind, at in kinds.items()}
        if "running_mean" in kinds:
            ignored.add(f"{site.prefix}.{_IGNORED}")
    arrays = {
        name: array
        for name, array in checkpoint.arrays.items()
        if name not in ignored
    }
    _check(checkpoint.arch, arrays, places)
    for name, array in arrays.items():
        at = places[name]
        at.variable.assign(at.converted(array.astype("float32")))


def _places(site):
    layer = site.layer
    if isinstance(layer, keras.layers.BatchNormalization):
        variables = {
            "running_mean": layer.moving_mean,
            "running_var": layer.moving_variance,
            "weight": layer.gamma,
            "bias": layer.beta,
        }
        return {
            kind: _Place(variable, tuple(variable.shape))
            for kind, variable in variables.items()
            if variable is not None
        }
    is_masked = isinstance(layer, MaskedLayer)
    kernels = {"weight": layer.kernel}
    if is_masked:
        kernels["scores"] = layer.scores
    places = {
        kind: _kernel_place(variable, site.grid)
        for kind, variable in kernels.items()
    }
    if layer.use_bias:
        places["bias"] = _Place(layer.bias, tuple(layer.bias.shape))
    return places


def _kernel_place(variable, grid):
    """Their kernels are output, input, height, width."""
    shape = tuple(variable.shape)
    if len(shape) == 4:
        height, width, inputs, outputs = shape
        return _Place(
            variable,
            (outputs, inputs, height, width),
            lambda array: array.transpose(2, 3, 1, 0),
        )
    inputs, outputs = shape
    height, width, channels = grid or (1, 1, inputs)

    def unflattened(array):
        array = array.reshape(outputs, channels, height, width)
        return array.transpose(2, 3, 1, 0).reshape(inputs, outputs)

    return _Place(variable, (outputs, inputs, 1, 1), unflattened)


def _check(arch, arrays, places):
    problems = {
        "names without a place in it": sorted(arrays.keys() - places.keys()),
        "places without an array": sorted(places.keys() - arrays.keys()),
        "arrays of another shape": [
            f"{name} {arrays[name].shape} instead of {places[name].shape}"
            for name in sorted(arrays.keys() & places.keys())
            if arrays[name].shape != places[name].shape
        ],
        "arrays with numbers that are not finite": sorted(
            name
            for name, array in arrays.items()
            if not np.isfinite(array).all()
        ),
    }
    found = "; ".join(
        f"{problem}: {', '.join(names)}"
        for problem, names in problems.items()
        if names
    )
    if found:
        raise CheckpointError(
            f"its arrays are not those of a whole {arch}. Received {found}"
        )


# --- Masks ------------------------------------------------------------------


def select(checkpoint, sites):
    """Sets the sparsities, so that the masks are those of the authors' code."""
    layers = [s.layer for s in sites if isinstance(s.layer, MaskedLayer)]
    if checkpoint.conv_type == GLOBAL:
        _select_globally(layers, checkpoint.keep)
    elif checkpoint.is_masked:
        for layer in layers:
            _select(layer, checkpoint.keep)


def _select(layer, keep):
    (masked,) = layer.masked_kernels
    pruned = int((1 - keep) * masked.size)  # to the float artefact as theirs
    layer.sparsity = pruned / masked.size
    divisor = int(keep * masked.size)
    if layer.binarize and divisor:
        # They divide the gain by a count that may miss the weights kept.
        scale = (masked.size - pruned) / divisor
        layer.kernel.assign(np.float32(scale) * _array(layer.kernel))


def _select_globally(layers, keep):
    scores = [np.abs(_array(layer.scores)).ravel() for layer in layers]
    ascending = np.sort(np.concatenate(scores))
    pruned = int((1 - keep) * ascending.size)
    threshold = ascending[pruned - 1] if pruned else -1.0
    for layer, own in zip(layers, scores, strict=True):
        below = int(np.count_nonzero(own <= threshold))
        if below == own.size:
            raise CheckpointError(
                f"one threshold over all layers leaves no weight in "
                f"'{layer.name}', and the authors' code computes no numbers "
                "from there on."
            )
        layer.sparsity = below / own.size


def _array(variable):
    return keras.ops.convert_to_numpy(variable)
