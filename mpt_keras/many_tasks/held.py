"""What is held of a task while the model holds another."""

import dataclasses
import weakref
import zlib

import numpy as np
from keras import ops

from mpt_keras.ticket.loading import scores_that_select, see_selected

# So that sums of scores are finite.
_LARGEST_SCORE = 2.0**100


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """Of one kernel of a task, what training continues with."""

    scores: np.ndarray
    pruned: int

    @property
    def nbytes(self):
        return self.scores.nbytes

    @property
    def kept(self):
        return self.scores.size - self.pruned

    def put(self, masked, start):
        """Into the model; `start` are the scores at which the search began."""
        masked.scores.assign(self.scores)
        masked.pruned.assign(self.pruned)


@dataclasses.dataclass(frozen=True, eq=False)
class Bits:
    """Of one kernel of a task, what predictions need."""

    bits: np.ndarray
    shape: tuple[int, ...]

    @classmethod
    def of(cls, mask):
        return cls(np.packbits(mask), mask.shape)

    @property
    def nbytes(self):
        return self.bits.nbytes

    @property
    def kept(self):
        return int(np.count_nonzero(self.mask))

    @property
    def mask(self):
        size = int(np.prod(self.shape))
        return np.unpackbits(self.bits, count=size).reshape(self.shape) > 0

    def put(self, masked, start):
        mask = self.mask
        first = start.scores.astype("float32")
        first = first.clip(-_LARGEST_SCORE, _LARGEST_SCORE)
        scores = scores_that_select(first, mask, masked.free())
        masked.scores.assign(scores)
        masked.pruned.assign(mask.size - int(np.count_nonzero(mask)))
        see_selected(masked, mask)


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """All that a task has of its own."""

    sparsities: list[float | tuple[float, ...]]  # of the layers
    kernels: list[Scores | Bits]
    others: list[np.ndarray]
    optimizer: weakref.ref | None = None
    optimizer_state: list[np.ndarray] | None = None

    @property
    def is_packed(self):
        return all(isinstance(kernel, Bits) for kernel in self.kernels)


def as_array(variable):
    array = np.asarray(ops.convert_to_numpy(variable))
    # bfloat16 is not NumPy's.
    return array if array.dtype.kind in "biuf" else array.astype("float32")


def are_the_same(array, other):
    is_alike = array.shape == other.shape and array.dtype == other.dtype
    return is_alike and array.tobytes() == other.tobytes()


def checksum(variables):
    found = 0
    for variable in variables:
        found = zlib.crc32(as_array(variable).tobytes(), found)
    return found
