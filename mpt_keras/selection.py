"""Exact selection: which weights a sparsity keeps, by the size of their scores.

The largest `abs(scores)` are kept. Entries that are equal are told apart by
their position (pruned first: the earlier one), so that constant, half
precision or freshly decayed scores still keep exactly the number asked for.
The order is that of `numpy.argsort(abs(scores), kind="stable")`.
"""

import math
from typing import Any

import numpy as np
from keras import ops

from mpt_keras import compilation, value_checks
from mpt_keras.sparsity import pruned_count
from mpt_keras.threshold import count_reaching, magnitude_keys, threshold

__all__ = ["select", "top_mask"]


@compilation.jitted
def top_mask(scores: Any, kept: Any) -> Any:
    """Marks the `kept` entries of largest magnitude: exactly that many.

    Args:
        scores: Float tensor of any shape (float32, bfloat16 or float16).
        kept: Scalar int32 tensor, at least 1 and at most the size.

    Returns:
        Boolean tensor of the same shape.
    """
    flat = ops.reshape(scores, (-1,))
    key, surplus = threshold(magnitude_keys(flat), kept)
    # From the scores again, so that nobody need hold their keys meanwhile.
    mask = ops.cond(
        surplus > 0,
        lambda: _mask_among_ties(magnitude_keys(flat), key, kept),
        lambda: magnitude_keys(flat) >= key,
    )
    return ops.reshape(mask, scores.shape)


def top_mask_of_array(scores: np.ndarray, kept: int) -> np.ndarray:
    """`top_mask` of a NumPy array, for which nothing is compiled."""
    magnitudes = np.abs(scores.astype("float32", copy=False)).ravel()
    pruned = magnitudes.size - kept
    lowest_kept = np.partition(magnitudes, pruned)[pruned]
    mask = magnitudes > lowest_kept
    tied = np.flatnonzero(magnitudes == lowest_kept)
    mask[tied[np.count_nonzero(mask) - kept :]] = True
    return mask.reshape(scores.shape)


def _mask_among_ties(keys, key, kept):
    """Mask of what exceeds a key, and of the last ones that equal it."""
    above = count_reaching(keys, key + 1)
    positions = ops.arange(1, keys.shape[0] + 1, dtype="int32")
    tied_positions = ops.where(keys == key, positions, 0)
    first_kept, _ = threshold(tied_positions, kept - above)
    return ops.logical_or(keys > key, tied_positions >= first_kept)


def select(scores: Any, sparsity: float) -> Any:
    """Returns the mask that a sparsity leaves of some scores, layer-wise.

    `pruned = floor(sparsity * n)` entries of smallest `abs(score)` are False,
    the others True; ties are broken by position.

    Args:
        scores: Float array or tensor of any shape, the layer's scores;
            compared as float32.
        sparsity: Python number in [0, 1), the fraction of weights pruned.

    Returns:
        Boolean tensor of the shape of `scores`.

    Raises:
        ValueError: If `sparsity` is outside [0, 1) or a score is NaN (which
            nobody can know inside of a function that is being compiled).

    Example:

    >>> mask = mpt_keras.selection.select([0.1, -0.9, 0.5, 0.2], sparsity=0.5)
    >>> keras.ops.convert_to_numpy(mask).tolist()
    [False, True, True, False]

    Reference:
        Diffenderfer and Kailkhura, "Multi-Prize Lottery Ticket Hypothesis",
        ICLR 2021 (the authors' code sorts, and keeps the same entries).
    """
    scores = ops.convert_to_tensor(scores)
    value_checks.check_no_nan(scores)
    size = math.prod(scores.shape)
    kept = size - pruned_count(sparsity, size)
    return top_mask(scores, ops.convert_to_tensor(kept, "int32"))
