"""Which random weights make way for others, as pure functions of NumPy arrays.

Scores say which weights of a layer matter. Weights that do not can be given
another value, so that the search has more to choose from.
"""

from collections.abc import Sequence

import numpy as np

from mpt_keras.sparsity import as_written, pruned_count

__all__ = ["SOURCES", "recycled", "redrawn"]

# Where replaced weights take their values from.
SOURCES = ("highest", "next_lowest", "random")


def check_fraction(fraction, source="highest") -> float:
    """Returns the fraction of weights to replace as a Python float.

    Raises:
        ValueError: If `source` is none of `SOURCES`, or `fraction` is outside
            (0, 0.5] or, for `"random"`, (0, 1].
    """
    if source not in SOURCES:
        raise ValueError(
            "Invalid value for argument `source`. Expected one of "
            f"{', '.join(SOURCES)}. Received: source={source!r}"
        )
    highest = 1.0 if source == "random" else 0.5
    try:
        fits = 0.0 < fraction <= highest
    except TypeError:
        fits = False
    if not fits:
        raise ValueError(
            f"Invalid value for argument `fraction`. Expected a number in "
            f"(0, {highest:g}], the fraction of a layer's weights to replace"
            + (
                "; beyond one half the weights copied would be replaced "
                "themselves"
                if source != "random"
                else ""
            )
            + f". Received: fraction={fraction!r}"
        )
    return as_written(fraction)


def recycled(
    kernel: np.ndarray,
    scores: np.ndarray,
    fraction: float,
    source: str = "highest",
) -> np.ndarray:
    """Returns a kernel whose least important weights are copies of others.

    With `n` weights in the order of `abs(scores)`, ties by position, and
    `c = floor(fraction * n)`::

        kernel[order[:c]] = kernel[order[-c:]]      source="highest"
        kernel[order[:c]] = kernel[order[c : 2*c]]  source="next_lowest"

    The i-th least important weight receives the value of the i-th least
    important of those copied, which keep their own.

    Args:
        kernel: Float array, the random weights.
        scores: Float array of the same shape.
        fraction: Number in (0, 0.5], of all weights, kept ones included.
        source: `"highest"`, or the ablation `"next_lowest"`.

    Returns:
        A new array of the shape and type of `kernel`.

    Raises:
        ValueError: If `fraction` or `source` is none.

    Example:

    >>> recycled(np.array([1, 2, 3, 4]), np.array([0.3, 0.1, 0.9, 0.2]), 0.25)
    array([1, 3, 3, 4])

    Reference:
        Gorbett and Whitley, "Randomly Initialized Subnetworks with Iterative
        Weight Recycling", 2023, and its code.
    """
    if source == "random":
        raise ValueError(
            "Random weights are no copies of others. Expected source='highest' "
            "or 'next_lowest', or `redrawn`. Received: source='random'"
        )
    count = pruned_count(check_fraction(fraction, source), scores.size)
    order = np.argsort(np.abs(scores), axis=None, kind="stable")
    copied = order[-count:] if source == "highest" else order[count : 2 * count]
    result = kernel.copy()
    if count:
        result.ravel()[order[:count]] = kernel.ravel()[copied]
    return result


def redrawn(
    kernel: np.ndarray,
    mask: np.ndarray,
    fraction: float,
    drawn: np.ndarray,
    seed: Sequence[int],
) -> np.ndarray:
    """Returns a kernel in which some of the pruned weights are drawn anew.

    `where(mask | ~b, kernel, drawn)` with `b` true for each weight with the
    probability `fraction`, independently.

    Args:
        kernel: Float array, the random weights.
        mask: Boolean array of the same shape, True at the weights kept.
        fraction: Number in (0, 1], a probability.
        drawn: Float array of the same shape, new draws of the initializer.
        seed: Sequence of integers from 0 on, which `b` is a function of.

    Returns:
        A new array of the shape and type of `kernel`.

    Example:

    >>> zeros = np.zeros(4, "float32")
    >>> mask = np.array([True, False, True, False])
    >>> redrawn(zeros, mask, 1.0, zeros + 7, seed=(0,))
    array([0., 7., 0., 7.], dtype=float32)

    Reference:
        Iterative randomization (IteRand): Chijiwa et al., "Pruning Randomly
        Initialized Neural Networks with Iterative Randomization", NeurIPS
        2021.
    """
    key = np.random.SeedSequence(seed).generate_state(2, "uint64")
    raw = np.random.Philox(key=key).random_raw(kernel.size)
    # 53 bits, as many as a double holds.
    chosen = (raw >> np.uint64(11)) * 2.0**-53 < fraction
    stays = mask | ~chosen.reshape(kernel.shape)
    return np.where(stays, kernel, drawn).astype(kernel.dtype)
