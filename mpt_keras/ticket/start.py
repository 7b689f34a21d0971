"""What is known of a mask before it is read: how its search began."""

import ctypes
import dataclasses

import numpy as np

from mpt_keras import compiled
from mpt_keras.drawing import blocks_of_raw_numbers

QUANTILES = 1 << 16


@dataclasses.dataclass(frozen=True)
class Start:
    """The initial scores of a kernel, and the kernel, flat or in its shape.

    Args:
        quantiles: uint16 array, where each initial `|score|` lies among those
            that were possible: `floor(2**16 * P(|s| < |score|))`. From
            `quantiles_of_raw` for `KaimingUniform` scores, from
            `quantiles_by_rank` for any others.
        kernel: float32 array, the frozen kernel; or None where it is not
            known before the mask is.
    """

    quantiles: np.ndarray
    kernel: np.ndarray | None = None


def quantiles_of_raw(raw):
    """Quantiles of `KaimingUniform` scores from the numbers that made them.

    A score is `bound * (2 * u - 1)` with `u` from the highest 53 bits, so its
    highest 17 bits `v` give the quantile: `v - 2**16`, or `2**16 - 1 - v`
    below the middle.

    Args:
        raw: uint64 array, raw numbers of Philox.

    Returns:
        uint16 array of the same shape.
    """
    low = (raw >> np.uint64(47)).astype("uint16")
    below_middle = (raw >> np.uint64(63)).astype("uint16") - np.uint16(1)
    return low ^ below_middle


def draw_quantiles(seed, stream, size):
    """Quantiles of the `KaimingUniform` scores that a stream of a seed gives.

    Args:
        seed: Integer in [0, 2**64).
        stream: Integer in [0, 2**64), 1 for the scores of a layer's kernel.
        size: Number of weights.

    Returns:
        uint16 array of shape `(size,)`.
    """
    quantiles = np.empty(size, "uint16")
    compute = compiled.function(
        "draw_quantiles",
        *(ctypes.c_uint64, ctypes.c_uint64, ctypes.c_int64, ctypes.c_void_p),
    )
    if compute is not None:
        compute(seed, stream, size, compiled.address(quantiles))
        return quantiles
    for part, raw in blocks_of_raw_numbers(seed, stream, size):
        quantiles[part] = quantiles_of_raw(raw)
    return quantiles


def quantiles_by_rank(values):
    """Quantiles of any numbers by rank of magnitude, equal ones in order.

    Args:
        values: Array of numbers, none of them NaN.

    Returns:
        uint16 array of the same shape, `floor(2**16 * rank / size)`.
    """
    values = np.asarray(values)
    order = np.argsort(np.abs(values), axis=None, kind="stable")
    ranks = np.arange(values.size, dtype="int64") * QUANTILES
    quantiles = np.empty(values.size, "uint16")
    quantiles[order] = ranks // max(values.size, 1)
    return quantiles.reshape(values.shape)
