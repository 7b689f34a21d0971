"""Which weights of a kernel its seed prunes, or keeps, for ever.

A search is left to choose among the others, the free ones. NumPy alone:
readers of tickets draw the same positions from the seed.
"""

import dataclasses
import math
import numbers

import numpy as np

from mpt_keras.drawing import blocks_of_raw_numbers
from mpt_keras.sparsity import as_written, pruned_count

# Beyond those of kernels and scores, of which it is independent.
_FIRST_STREAM = 2**63


@dataclasses.dataclass(frozen=True)
class FrozenPart:
    """The weights of a kernel that are pruned or kept for ever.

    They follow from the seed: in the order of the upper 32 bits of the
    stream's raw numbers, equal ones by position, the first `pruned` weights
    are pruned and the last `kept` are kept. docs/ticket_format.md says so.

    Attributes:
        seed, stream: Integers in [0, 2**64), which numbers are drawn.
        pruned, kept: Numbers of weights, together fewer than there are.
    """

    seed: int
    stream: int
    pruned: int
    kept: int

    def positions(self, shape) -> np.ndarray:
        """Returns what is frozen: -1 where pruned, 1 where kept, else 0.

        Args:
            shape: Shape tuple of the kernel.

        Returns:
            int8 array of this shape.
        """
        size = math.prod(shape)
        numbers = np.empty(size, "uint32")
        for part, raw in blocks_of_raw_numbers(self.seed, self.stream, size):
            numbers[part] = raw >> np.uint64(32)
        positions = np.ones(size, "int8")
        positions -= _lowest(numbers, size - self.kept)
        positions -= _lowest(numbers, self.pruned)
        return positions.reshape(shape)


def _lowest(numbers, count):
    """Boolean array, True at the `count` lowest, the earlier of equal ones."""
    if not count:
        return np.zeros(numbers.size, bool)
    highest = np.partition(numbers, count - 1)[count - 1]
    lowest = numbers < highest
    equal = np.flatnonzero(numbers == highest)
    lowest[equal[: count - np.count_nonzero(lowest)]] = True
    return lowest


def frozen_part(fractions, size, seed, number) -> FrozenPart | None:
    """Returns the frozen part of a kernel, None if there is nothing in it.

    Args:
        fractions: Of the weights, that pruned and that kept for ever; of each
            `floor(fraction * size)` are.
        size: Number of weights.
        seed: Integer, the layer's.
        number: Integer, which kernel of the layer it is.
    """
    pruned, kept = (pruned_count(fraction, size) for fraction in fractions)
    kept = min(kept, size - pruned - 1)  # where rounding says more
    if not pruned and not kept:
        return None
    return FrozenPart(seed, _FIRST_STREAM + number, pruned, kept)


def check_fractions(pruned, kept, where="") -> tuple[float, float]:
    """Returns the fractions pruned and kept for ever as Python floats.

    Raises:
        ValueError: If one is not in [0, 1), or together they are not.
    """
    for name, fraction in (("frozen_pruned", pruned), ("frozen_kept", kept)):
        is_number = isinstance(fraction, numbers.Real)
        is_number = is_number and not isinstance(fraction, bool)
        if not is_number or not 0.0 <= fraction < 1.0:
            raise ValueError(
                f"Invalid value for argument `{name}`. Expected a number in "
                "[0, 1), a fraction of the kernel's weights. Received: "
                f"{name}={fraction!r}{where}"
            )
    pruned, kept = as_written(pruned), as_written(kept)
    if not pruned + kept < 1.0:
        raise ValueError(
            "Expected `frozen_pruned` and `frozen_kept` to leave weights "
            "among which scores choose, so that they add up to less than 1. "
            f"Received: frozen_pruned={pruned!r}, frozen_kept={kept!r}{where}"
        )
    return pruned, kept
