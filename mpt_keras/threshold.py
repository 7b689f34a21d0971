"""The k-th largest magnitude of millions, exactly, by counting.

Scores are compared by magnitude. A non-negative float32 orders like the
integer with the same bits, so everything here works on `int32` keys and is
exact: no tolerance, no rounding.
"""

import math

from keras import ops

from mpt_keras import compilation

_HIGHEST_KEY = 2**31 - 1
_MANTISSA_BITS = 23
# Enough to place the first guess within a few percent of the scores.
_SAMPLE_SIZE = 2**8
# Secants arrive in about five steps, or not at all.
_SECANT_STEPS = 10
# Counts are added up in 8 bits down to a sixteenth of the length, which takes
# a third of the time of a sum of 32 bits. XLA fuses that with what is counted
# (not so a whole sum, on CPUs), and compiles parts of a split faster than
# slices.
_LANES = 16


def as_bits(scores):
    """Returns the bits of scores as float32, int32 of the same shape."""
    return ops.view(ops.cast(scores, "float32"), "int32")


def magnitude_keys(bits):
    """Returns int32 keys that order like the magnitudes; without the sign."""
    return ops.bitwise_and(bits, _HIGHEST_KEY)


def threshold(bits, kept, guess=None):
    """Finds the key of the entry of the `kept`-th largest magnitude.

    It is searched between bounds, by counting the entries that reach a guess.
    The later guesses follow from the counts at the earlier ones. Five reads of
    the entries are enough as a rule (one, if the guess is right), and all
    shapes are static.

    Args:
        bits: int32 tensor of shape `(n,)`, from `as_bits`.
        kept: Scalar int32 tensor in [1, n].
        guess: Scalar int32 tensor, the key to try first. By default that of a
            sample of the entries. The result is the same in what reaches it.

    Returns:
        `(key, surplus, mask)`: int32 scalars, a key that at least `kept`
        entries reach, and how many more than `kept` reach it (other than 0
        only where entries tie at the threshold; then it is their key); and,
        if there is no surplus, a boolean tensor of shape `(n,)`, true at the
        entries that reach the key.
    """
    if compilation.sorts_faster_than_it_counts():
        return _threshold_by_sorting(bits, kept)
    guess = _key_of_sample(bits, kept) if guess is None else guess
    return _search(bits, kept, guess)


def _threshold_by_sorting(bits, kept):
    keys = magnitude_keys(bits)
    key = ops.take(ops.sort(keys), bits.shape[0] - kept)
    mask = keys >= key
    return key, _count(mask) - kept, mask


def _key_of_sample(bits, kept):
    """The entry of a sample whose rank there is nearest to the threshold's."""
    size = bits.shape[0]
    # Odd, so that no channel of a kernel is left out.
    sample = magnitude_keys(bits[:: size // _SAMPLE_SIZE | 1])
    reaching = ops.cast(sample[:, None] >= sample[None, :], "int32")
    rank = _float(kept) * (sample.shape[0] / size)
    distance = ops.abs(_float(ops.sum(reaching, axis=0)) - rank)
    return ops.take(sample, ops.argmin(distance))


def _search(bits, kept, guess):
    """`threshold` by secant steps from a guess, then by bisection.

    A secant goes through the last two keys tried and their counts. Where the
    entries lie too unevenly for it, as with ties, bisection ends the search.
    """
    size = bits.shape[0]
    reaches = _reaching(bits)
    # Keys from one entry to the next, until there are two keys for a secant:
    # those of a logistic distribution over the octaves of the scores.
    spacing = 2.0**_MANTISSA_BITS * size
    spacing /= _float(kept) * _float(size - kept + 1)

    # At least `kept` entries reach `low`, fewer reach `high`.
    def narrow(
        step, key, low, high, reaching_low, last_key, last_reaching, spacing, _
    ):  # fmt: skip
        key = ops.clip(key, low + 1, high - 1)
        # Written, because who counts it and who masks with it would otherwise
        # read the bits, which are four times as long.
        mask = reaches(key)
        reaching = _count(mask)
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
            step < _SECANT_STEPS, key + move, low + (high - low) // 2
        )
        return (
            step + 1, next_key, low, high, reaching_low, key, reaching, spacing,
            mask,
        )  # fmt: skip

    def unfinished(step, key, low, high, reaching_low, *_):
        return ops.logical_and(high - low > 1, reaching_low != kept)

    start = [0, guess, 0, _HIGHEST_KEY, size, guess, 0]
    all_of_them = ops.ones((size,), "bool")
    _, _, low, _, reaching_low, *_, mask = ops.while_loop(
        unfinished, narrow, (*map(_int, start), spacing, all_of_them)
    )
    return low, reaching_low - kept, mask


def count_reaching(bits, key):
    """How many entries of a vector reach a key."""
    return _count(_reaching(bits)(key))


def _reaching(bits):
    """A function of a key: which entries reach it."""
    if not compilation.fuses():
        keys = magnitude_keys(bits)  # once
        return lambda key: keys >= key
    # At every read, and so that it seems to depend on the key: what does not,
    # XLA would take out of the loop, and write the keys of all entries.
    return lambda key: (
        ops.bitwise_and(bits, ops.maximum(key, _HIGHEST_KEY)) >= key
    )


def _count(mask):
    size = mask.shape[0]
    whole = size // _LANES * _LANES
    parts = [mask[whole:]] if whole < size else []
    if whole:
        lanes = ops.split(mask[:whole], _LANES)
        lanes = [ops.cast(lane, "int8") for lane in lanes]
        parts.append(compilation.add_up(lanes))
    return sum(ops.sum(ops.cast(part, "int32")) for part in parts)


def first_kept(bits, key, surplus):
    """Where the entries that equal a key begin to be kept.

    Args:
        bits: int32 tensor of shape `(n,)`.
        key: Scalar int32 tensor.
        surplus: Scalar int32 tensor, how many of those that equal the key are
            dropped, the earliest ones; fewer than there are.

    Returns:
        Scalar int32 tensor, the position of the next one.
    """
    size = bits.shape[0]
    width = math.isqrt(size - 1) + 1
    rows = ops.pad(bits, [[0, -size % width]], constant_values=-1)
    rows = ops.reshape(rows, (-1, width))
    ties = ops.sum(ops.cast(magnitude_keys(rows) == key, "int32"), axis=1)
    through_row = ops.cumsum(ties)
    row = ops.sum(ops.cast(through_row <= surplus, "int32"))
    before = ops.take(through_row, row) - ops.take(ties, row)
    in_row = magnitude_keys(ops.take(rows, row, axis=0)) == key
    through_entry = before + ops.cumsum(ops.cast(in_row, "int32"))
    column = ops.sum(ops.cast(through_entry <= surplus, "int32"))
    return row * width + column


def _int(value):
    return ops.convert_to_tensor(value, "int32")


def _float(value):
    return ops.cast(value, "float32")


@compilation.fused
def fused_threshold(bits, kept, guess=None):
    """`threshold`, which XLA compiles on its own."""
    return threshold(bits, kept, guess)


@compilation.fused
def fused_key(bits, kept, guess=None):
    """Key and surplus of `threshold`, which are found faster alone."""
    return threshold(bits, kept, guess)[:2]
