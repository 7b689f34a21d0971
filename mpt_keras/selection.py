"""Exact selection: which weights a sparsity keeps, by the size of their scores.

Scores are compared by magnitude. A non-negative float32 orders like the
integer with the same bits, so everything here works on `int32` keys and is
exact: no tolerance, no rounding. Entries with equal keys are told apart by
their position (pruned first: the earlier one), so that constant, half
precision or freshly decayed scores still keep exactly the number asked for.
The order is that of `numpy.argsort(abs(scores), kind="stable")`.
"""

import math
import numbers

import numpy as np
from keras import ops

from mpt_keras import _fusion, value_checks

_KEY_BITS = 31
_MANTISSA_BITS = 23
# Large enough to place the first guesses within a percent of the scores.
_SAMPLE_SIZE = 2**13
# Secants arrive in about seven steps, or not at all.
_SECANT_STEPS = 10
# So few scores are counted in no time, however it is done.
_SMALL = 2**16
# The largest relative error of a float32 product of two float32 factors that
# were themselves rounded once.
_FLOAT32_RESOLUTION = 2.0**-23


def check_sparsity(sparsity, where="") -> float:
    """Returns `sparsity` as a Python float.

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
    return float(sparsity)


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


def traced_pruned_count(sparsity, pruned, size: int):
    """`pruned_count` inside a compiled step, for values held in variables.

    Float32 is too coarse to name one weight among millions, so the exact
    count travels beside the sparsity: it is used as long as it agrees with
    `sparsity` as far as float32 can tell, and computed anew where somebody
    assigned another sparsity.

    Args:
        sparsity: Scalar float32 tensor.
        pruned: Scalar integer tensor, the exact count for some sparsity.
        size: Number of weights, a Python integer.

    Returns:
        Scalar int32 tensor in [0, size - 1].
    """
    product = ops.cast(sparsity, "float32") * float(size)
    error = product * _FLOAT32_RESOLUTION
    exact = ops.cast(pruned, "float32")
    agrees = ops.logical_and(
        exact <= product + error, product - error < exact + 1.0
    )
    # From half a weight on, the error is no artefact to be guarded against.
    computed = ops.floor(product + ops.minimum(error, 0.25))
    computed = ops.cast(computed, "int32")
    count = ops.where(agrees, ops.cast(pruned, "int32"), computed)
    return ops.clip(count, 0, size - 1)


def magnitude_keys(scores):
    """Returns int32 keys that order like `abs(scores)`, same shape."""
    bits = ops.view(ops.cast(scores, "float32"), "int32")
    return ops.bitwise_and(bits, 2**_KEY_BITS - 1)  # without the sign


def threshold(keys, kept, guess=None):
    """Finds the key of the `kept`-th largest entry.

    It is searched between bounds, by counting the entries that reach a guess.
    The later guesses follow from the counts at the earlier ones. Seven reads
    of the keys are enough as a rule, nothing of their size is written, and
    all shapes are static.

    Args:
        keys: int32 tensor of shape `(n,)`, from `magnitude_keys`.
        kept: Scalar int32 tensor in [1, n].
        guess: Scalar int32 tensor, the key to try first. By default that of a
            sample of the entries. The result does not depend on it.

    Returns:
        `(key, surplus)`, int32 scalars: a key that at least `kept` entries
        reach, and how many more than `kept` reach it (other than 0 only where
        entries tie at the threshold; then it is their key).
    """
    size = keys.shape[0]
    # Odd, so that no channel of a kernel is left out of the sample.
    stride = size // _SAMPLE_SIZE | 1
    if stride == 1 or guess is not None:
        return _search(keys, kept, guess)
    sample = keys[::stride]
    sample_size = sample.shape[0]
    rank = ops.cast(_float(kept) * (sample_size / size), "int32")
    guess, _ = _search(sample, ops.clip(rank, 1, sample_size))
    return _search(keys, kept, guess)


def _search(keys, kept, guess=None):
    """`threshold` by secant steps from a guess, then by bisection.

    A secant goes through the last two keys tried and their counts. Where the
    entries lie too unevenly for it, as with ties, bisection ends the search.
    """
    size = keys.shape[0]
    lowest, highest = 0, 2**_KEY_BITS - 1
    secant_steps = 0 if guess is None else _SECANT_STEPS
    first_key = _middle(lowest, highest) if guess is None else guess
    # Keys from one entry to the next, until there are two keys for a secant:
    # those of a logistic distribution over the octaves of the scores.
    spacing = 2.0**_MANTISSA_BITS * size
    spacing /= _float(kept) * _float(size - kept + 1)

    # At least `kept` entries reach `low`, fewer reach `high`.
    def narrow(
        step, key, low, high, reaching_low, last_key, last_reaching, spacing
    ):
        key = ops.clip(key, low + 1, high - 1)
        reaching = _reaching(keys, key)
        enough = reaching >= kept
        low = ops.where(enough, key, low)
        high = ops.where(enough, high, key)
        reaching_low = ops.where(enough, reaching, reaching_low)

        between = _float(last_reaching - reaching)
        known = ops.logical_and(step > 0, between != 0.0)
        secant = _float(key - last_key) / ops.where(known, between, 1.0)
        spacing = ops.where(known, secant, spacing)
        move = (_float(reaching - kept) + 0.5) * spacing
        move = ops.cast(ops.clip(move, -(2.0**30), 2.0**30), "int32")
        next_key = ops.where(
            step < secant_steps, key + move, _middle(low, high)
        )
        return (
            step + 1, next_key, low, high, reaching_low, key, reaching, spacing
        )  # fmt: skip

    def unfinished(step, key, low, high, reaching_low, *_):
        return ops.logical_and(high - low > 1, reaching_low != kept)

    start = [0, first_key, lowest, highest, size, first_key, 0]
    _, _, low, _, reaching_low, *_ = ops.while_loop(
        unfinished, narrow, (*map(_int, start), spacing)
    )
    return low, reaching_low - kept


def _middle(low, high):
    return low + (high - low) // 2


def _reaching(keys, key):
    """How many entries of a vector reach a key."""

    def reaches(part):
        return ops.cast(part >= key, "int8")

    if keys.shape[0] > _SMALL:
        counts = _fusion.sum_in_lanes(reaches, keys)
    else:
        counts = reaches(keys)
    return ops.sum(ops.cast(counts, "int32"))


@_fusion.jitted
def top_mask(scores, kept):
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


def _mask_among_ties(keys, key, kept):
    """Mask of what exceeds a key, and of the last ones that equal it."""
    above = _reaching(keys, key + 1)
    positions = ops.arange(1, keys.shape[0] + 1, dtype="int32")
    tied_positions = ops.where(keys == key, positions, 0)
    first_kept, _ = threshold(tied_positions, kept - above)
    return ops.logical_or(keys > key, tied_positions >= first_kept)


def _int(value):
    return ops.convert_to_tensor(value, "int32")


def _float(value):
    return ops.cast(value, "float32")


def select(scores, sparsity):
    """Returns the mask that a sparsity leaves of some scores, layer-wise.

    `pruned = floor(sparsity * n)` entries of smallest `abs(score)` are False,
    the others True; ties are broken by position.

    Args:
        scores: Float array or tensor of any shape, the layer's scores.
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


def shares_of_global_selection(scores, kept, minimum=1, guess=None):
    """Splits `kept` weights over several tensors by one common threshold.

    Ties at the threshold are broken by position, earlier tensors before
    later ones, as if all scores stood in one vector.

    Args:
        scores: List of float tensors of any shapes.
        kept: Scalar int32 tensor, the number of weights kept in all.
        minimum: Weights that each tensor keeps at least (all of them where
            it has fewer). A tensor that falls below is filled up; the others
            then keep their share, so the total exceeds `kept`.
        guess: Scalar int32 tensor, a key to try first, such as the one of the
            last step: what is near is found sooner.

    Returns:
        `(shares, raw_shares, key)`: int32 tensors of shape `(len(scores),)`,
        the weights kept in each tensor with and without the minimum; and the
        common threshold's key, an int32 scalar.
    """
    scores = [ops.reshape(tensor, (-1,)) for tensor in scores]
    key, surplus = threshold_of_scores(ops.concatenate(scores), kept, guess)
    counts = ops.stack([_reaching_and_above(part, key) for part in scores])
    reaching, above = counts[:, 0], counts[:, 1]
    ties = reaching - above
    # The first `surplus` ties in the common order are the ones dropped.
    before = ops.cumsum(ties) - ties
    shares = above + ties - ops.clip(surplus - before, 0, ties)
    sizes = ops.convert_to_tensor(
        [min(minimum, math.prod(tensor.shape)) for tensor in scores], "int32"
    )
    return ops.maximum(shares, sizes), shares, key


@_fusion.fused
def threshold_of_scores(scores, kept, guess=None):
    """`threshold` of a flat float tensor."""
    return threshold(magnitude_keys(scores), kept, guess)


@_fusion.fused
def _reaching_and_above(scores, key):
    keys = magnitude_keys(scores)
    return ops.stack([_reaching(keys, key), _reaching(keys, key + 1)])
