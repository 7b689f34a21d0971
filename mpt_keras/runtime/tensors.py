"""Keras' tensors of one image, as entries of values in planes.

A tensor has Keras' shape, without the batch. Flattening, reshaping, padding,
cropping and the like only say anew where its entries stand: an array of
places, in the flat value, from which an operation is made if one is needed.
"""

import dataclasses
import math

import numpy as np

from mpt_keras.runtime.operations import Value


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of one image.

    Attributes:
        value: `Value` that holds its entries.
        shape: Keras' shape, without the batch.
        channels_first: Whether the channels are its first axis rather than
            its last, where `places` is None.
        places: int32 array of `shape`: where each entry stands in the flat
            value, -1 for a zero. None if the tensor is the value as it is.
    """

    value: Value
    shape: tuple[int, ...]
    channels_first: bool
    places: np.ndarray | None = None

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    @property
    def all_places(self) -> np.ndarray:
        """`places`, also where they are those of the value as it is."""
        if self.places is not None:
            return self.places
        places = np.arange(self.value.size, dtype="int32")
        places = places.reshape(self.value.shape)
        return from_planes(places, len(self.shape), self.channels_first)

    def at(self, places: np.ndarray) -> "Tensor":
        """Other entries of the same value."""
        return Tensor(self.value, places.shape, self.channels_first, places)


def to_planes(array: np.ndarray, channels_first: bool) -> np.ndarray:
    """From Keras' axes, at most three, to `(channels, height, width)`."""
    if array.ndim == 1:
        return array[:, None, None]
    if not channels_first:
        array = np.moveaxis(array, -1, 0)
    return array[:, None] if array.ndim == 2 else array


def from_planes(
    planes: np.ndarray, rank: int, channels_first: bool
) -> np.ndarray:
    """From `(channels, height, width)` to as many of Keras' axes."""
    if rank == 1:
        return planes[:, 0, 0]
    array = planes[:, 0] if rank == 2 else planes
    return array if channels_first else np.moveaxis(array, 0, -1)


def planes_shape(shape: tuple, channels_first: bool) -> tuple[int, int, int]:
    """Keras' shape in planes."""
    if len(shape) == 1:
        return (*shape, 1, 1)
    channels, *others = shape if channels_first else (shape[-1], *shape[:-1])
    return (channels, *[1] * (2 - len(others)), *others)


def padding_of(places: np.ndarray, shape: tuple) -> tuple[int, int] | None:
    """How far zeros surround a value.

    Args:
        places: Array in planes.
        shape: Of the value, in planes.

    Returns:
        Rows above and columns to the left; None if there is more to it than
        zeros around the value as it is.
    """
    channels, height, width = shape
    if places.shape[0] != channels:
        return None
    inside = np.argwhere(places[0] >= 0)
    if not len(inside):
        return None
    top, left = inside.min(0)
    around = np.full_like(places, -1)
    if top + height > places.shape[1] or left + width > places.shape[2]:
        return None
    around[:, top : top + height, left : left + width] = np.arange(
        math.prod(shape)
    ).reshape(shape)
    return (int(top), int(left)) if np.array_equal(places, around) else None
