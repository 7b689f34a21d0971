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

import keras
import numpy as np
from keras import ops

# The other backends need no more than the portable form below.
if keras.backend.backend() == "tensorflow":
    from mpt_keras import selection_tensorflow
else:
    selection_tensorflow = None

_KEY_BITS = 31
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


def threshold(scores, kept):
    """Finds the key of the `kept`-th largest score over one or more tensors.

    Args:
        scores: List of float tensors of any shapes.
        kept: Scalar int32 tensor, at least 1 and at most the number of
            entries in all tensors together.

    Returns:
        `(key, surplus)`, int32 scalars: the largest key that at least `kept`
        entries reach, and how many entries more than `kept` reach it (other
        than 0 only where scores tie at the threshold).
    """
    if selection_tensorflow and not selection_tensorflow.compiled_by_xla():
        return selection_tensorflow.threshold(scores, kept)
    return threshold_by_bisection(scores, kept)


def threshold_by_bisection(scores, kept):
    """`threshold` with static shapes only: compiles under XLA, runs on TPUs.

    Bisects the 31 bits of the key; each step is one read of the scores, and
    the search ends as soon as a key splits off exactly `kept` entries.
    """
    keys = [magnitude_keys(tensor) for tensor in scores]

    def entries_reaching(key):
        counts = [ops.sum(ops.cast(k >= key, "int32")) for k in keys]
        return sum(counts[1:], counts[0])

    # Invariant: at least `kept` entries reach `low`, fewer reach `high`.
    def halve(low, high, reaching):
        middle = low + (high - low) // 2
        count = entries_reaching(middle)
        enough = count >= kept
        return (
            ops.where(enough, middle, low),
            ops.where(enough, high, middle),
            ops.where(enough, count, reaching),
        )

    low, _, reaching = ops.while_loop(
        lambda low, high, reaching: ops.logical_and(
            high - low > 1, reaching != kept
        ),
        halve,
        (
            ops.convert_to_tensor(0, "int32"),
            ops.convert_to_tensor(2**_KEY_BITS - 1, "int32"),
            ops.convert_to_tensor(
                sum(math.prod(k.shape) for k in keys), "int32"
            ),
        ),
    )
    return low, reaching - kept


def top_mask(scores, kept):
    """Marks the `kept` entries of largest magnitude: exactly that many.

    Args:
        scores: Float tensor of any shape (float32, bfloat16 or float16).
        kept: Scalar int32 tensor, at least 1 and at most the size.

    Returns:
        Boolean tensor of the same shape.
    """
    key, surplus = threshold([scores], kept)
    keys = magnitude_keys(scores)
    reaching = keys >= key

    def without_first_ties():
        ties = ops.reshape(keys == key, (-1,))
        position = ops.cumsum(ops.cast(ties, "int32"))
        dropped = ops.logical_and(ties, position <= surplus)
        return ops.logical_and(
            reaching, ops.logical_not(ops.reshape(dropped, keys.shape))
        )

    return ops.cond(surplus > 0, without_first_ties, lambda: reaching)


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
        ValueError: If `sparsity` is outside [0, 1) or a score is NaN.

    Example:

    >>> mask = mpt_keras.selection.select([0.1, -0.9, 0.5, 0.2], sparsity=0.5)
    >>> mask.numpy().tolist()
    [False, True, True, False]

    Reference:
        Diffenderfer and Kailkhura, "Multi-Prize Lottery Ticket Hypothesis",
        ICLR 2021 (the authors' code sorts, and keeps the same entries).
    """
    scores = ops.convert_to_tensor(scores)
    check_no_nan(scores)
    size = math.prod(scores.shape)
    kept = size - pruned_count(sparsity, size)
    return top_mask(scores, ops.convert_to_tensor(kept, "int32"))


def shares_of_global_selection(scores, kept, minimum=1):
    """Splits `kept` weights over several tensors by one common threshold.

    Ties at the threshold are broken by position, earlier tensors before
    later ones, as if all scores stood in one vector.

    Args:
        scores: List of float tensors of any shapes.
        kept: Scalar int32 tensor, the number of weights kept in all.
        minimum: Weights that each tensor keeps at least (all of them where
            it has fewer). A tensor that falls below is filled up; the others
            then keep their share, so the total exceeds `kept`.

    Returns:
        `(shares, raw_shares)`, int32 tensors of shape `(len(scores),)`: the
        weights kept in each tensor, with and without the minimum.
    """
    key, surplus = threshold(scores, kept)
    keys = [magnitude_keys(tensor) for tensor in scores]
    above = ops.stack([ops.sum(ops.cast(k > key, "int32")) for k in keys])
    ties = ops.stack([ops.sum(ops.cast(k == key, "int32")) for k in keys])
    # The first `surplus` ties in the common order are the ones dropped.
    before = ops.cumsum(ties) - ties
    shares = above + ties - ops.clip(surplus - before, 0, ties)
    sizes = ops.convert_to_tensor(
        [min(minimum, math.prod(tensor.shape)) for tensor in scores], "int32"
    )
    return ops.maximum(shares, sizes), shares


def check_no_nan(values, where="", what="scores"):
    """Raises `ValueError` if a concrete tensor holds a NaN."""
    values = np.asarray(ops.convert_to_numpy(values), "float32")
    count = int(np.isnan(values).sum())
    if count:
        raise ValueError(
            f"Expected numbers, because {what} are ranked or kept as they "
            f"are. Received {count} NaN of {values.size} {what}{where}. If "
            "training made "
            "them, lower the learning rate or clip the gradients "
            "(`clipnorm`), and stop early with "
            "`keras.callbacks.TerminateOnNaN`."
        )
