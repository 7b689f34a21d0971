"""How many weights a sparsity prunes."""

import math
import numbers

import numpy as np


def check_sparsity(sparsity, where="") -> float:
    """Returns `sparsity` as a Python float.

    What NumPy holds in fewer bits counts as the number that it is written as:
    `np.float32(0.29)` is 0.29.

    Args:
        sparsity: Number in [0, 1), the fraction of weights pruned.
        where: Text that tells the reader of an error where the value came
            from, such as `" (layer 'conv_3')"`.

    Raises:
        ValueError: If `sparsity` is not a number in [0, 1).
    """
    is_number = isinstance(sparsity, numbers.Real)
    is_number = is_number and not isinstance(sparsity, bool)
    if not is_number or not 0.0 <= sparsity < 1.0:
        raise ValueError(
            "Invalid value for argument `sparsity`. Expected a number in "
            "[0, 1), the fraction of weights pruned (0.8 keeps one weight in "
            f"five). Received: sparsity={sparsity!r}{where}"
        )
    return as_written(sparsity)


def as_written(number) -> float:
    """A Python float; NumPy's float32 0.29 is 0.29, as it is written."""
    return float(str(number) if isinstance(number, np.floating) else number)


def pruned_count(sparsity, size: int) -> int:
    """Returns how many of `size` weights a sparsity prunes.

    `floor(sparsity * size)`, where a product that misses a whole number by
    float artefacts alone counts as that number (0.29 of 100 is 29, although
    `0.29 * 100 = 28.999...96`). One weight always stays.

    Args:
        sparsity: Python number in [0, 1), the fraction of weights pruned.
        size: Number of weights, at least 1.

    Raises:
        ValueError: If `sparsity` is outside [0, 1).

    Example:

    >>> pruned_count(0.29, 100)
    29
    """
    product = check_sparsity(sparsity) * size
    artefact = 4 * np.finfo("float64").eps * max(product, 1.0)
    return min(math.floor(product + artefact), size - 1)
