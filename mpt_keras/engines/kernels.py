"""The kernels of a frozen model, and where an engine's file has them."""

import dataclasses
import itertools
from collections.abc import Mapping

import keras
import numpy as np

from mpt_keras.layers.ordinary import largest_by_channel, ordinary_kernels
from mpt_keras.layers.traversal import named_layers, walk

# A few roundings of float32: a gain times the scale of a batch norm, a 127th of
# it times 127.
_ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One kernel of a frozen model.

    Attributes:
        name: As `ordinary_kernels` names it.
        layer: Name of its layer.
        path: That name, behind those of the models that hold the layer.
        kind: Class of its layer.
        values: float32 array, in Keras' order of dimensions.
    """

    name: str
    layer: str
    path: str
    kind: str
    values: np.ndarray

    @property
    def is_ternary(self) -> bool:
        """Whether each output channel holds `{-a, 0, +a}` alone.

        As a multi-prize ticket's, whose `a` is one for all channels until
        batch norms are folded into them.
        """
        magnitudes = np.abs(self.values)
        gains = largest_by_channel(self.values, self.kind, self.name)
        return bool(np.all((magnitudes == 0) | (magnitudes == gains)))


def kernels_of(model: keras.Model) -> tuple[Kernel, ...]:
    """Returns the kernels of a frozen model, in its order.

    Example:

    >>> plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> [kernel.values.shape for kernel in kernels_of(plain)]
    [(4, 2)]
    """
    layers = named_layers(model, keras.layers.Layer)
    paths = {id(layer): path for path, layer in walk(model)}
    found = []
    for name, variable in ordinary_kernels(model, trainable=False).items():
        layer = layers.get(name) or layers[name.rpartition("/")[0]]
        values = keras.ops.convert_to_numpy(variable).astype("float32")
        path, kind = paths[id(layer)], type(layer).__name__
        found.append(Kernel(name, layer.name, path, kind, values))
    return tuple(found)


def only_ternary(model: keras.Model) -> bool:
    """Whether all matrices of a frozen model are kernels of `{-a, 0, +a}`."""
    kernels = kernels_of(model)
    matrices = [weight for weight in model.weights if len(weight.shape) > 1]
    return len(matrices) == len(kernels) and all(
        kernel.is_ternary for kernel in kernels
    )


@dataclasses.dataclass(frozen=True)
class Match:
    """Where a file holds a kernel.

    Attributes:
        tensor: Its key among the arrays searched.
        error: Largest difference from the kernel, as a fraction of its largest
            weight.
        is_scaled: Whether each output channel is the kernel's times a factor,
            as where a batch norm was folded into it.
    """

    tensor: object
    error: float
    is_scaled: bool = False

    @property
    def is_exact(self) -> bool:
        return self.error <= _ROUNDING

    def __str__(self):
        found = "exact" if self.is_exact else f"off by {self.error:.1g}"
        return found + self.is_scaled * ", times a factor per channel"


def find(
    kernel: np.ndarray, arrays: Mapping[object, np.ndarray], limit: float = 0.01
) -> Match | None:
    """Looks for a kernel among arrays, its dimensions in any order.

    Args:
        kernel: float32 array.
        arrays: Key -> array.
        limit: Difference, as a fraction of the largest weight, up to which an
            array is taken for the kernel (8 bits: 0.004).

    Returns:
        The nearest array, or None.

    Example:

    >>> kernel = np.array([[1.0, 0.0], [-1.0, 1.0]], "float32")
    >>> find(kernel, {"weights": kernel.T}).tensor
    'weights'
    """
    matches = []
    for key, array in arrays.items():
        if array.size == kernel.size:
            matches += _matches(kernel, key, array, limit)
            if matches and matches[-1].error == 0 and not matches[-1].is_scaled:
                break
    return min(
        matches,
        key=lambda match: (not match.is_exact, match.is_scaled, match.error),
        default=None,
    )


def _matches(kernel, key, array, limit):
    yield from _ordered_matches(_squeezed(kernel), key, _squeezed(array), limit)
    if kernel.ndim > 2:  # a depthwise one, whose channels are one dimension
        merged = kernel.reshape(*kernel.shape[:-2], -1)
        yield from _ordered_matches(
            _squeezed(merged), key, _squeezed(array), limit
        )


def _squeezed(array):
    return np.reshape(array, [size for size in array.shape if size > 1])


def _ordered_matches(source, key, array, limit):
    largest = np.abs(source).max(initial=0.0) or 1.0
    for order in itertools.permutations(range(source.ndim)):
        ordered = source.transpose(order)
        if ordered.shape != array.shape:
            continue
        error = float(np.abs(ordered - array).max(initial=0.0)) / largest
        if error <= limit:
            yield Match(key, error)
            if error <= _ROUNDING:
                continue
        error = _scaled_error(ordered, array, order)
        if error <= limit:
            yield Match(key, error, is_scaled=True)


def _scaled_error(kernel, array, order):
    """The same, where one factor per output channel lies between the two."""
    kernel, array = kernel.astype("float64"), array.astype("float64")
    largest = np.abs(array).max(initial=0.0) or 1.0
    errors = [np.inf]
    # The last dimension of most kernels, the last two of depthwise ones.
    for count in (1, 2):
        others = tuple(
            place
            for place, axis in enumerate(order)
            if axis < kernel.ndim - count
        )
        if not others:
            continue
        norm = np.sum(kernel * kernel, axis=others, keepdims=True)
        product = np.sum(kernel * array, axis=others, keepdims=True)
        factor = product / np.where(norm > 0, norm, 1.0)
        errors.append(np.abs(kernel * factor - array).max() / largest)
    return float(min(errors))
