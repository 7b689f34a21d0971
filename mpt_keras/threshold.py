"""The k-th largest magnitude of millions, exactly, by counting.

Scores are compared by magnitude. A non-negative float32 orders like the
integer with the same bits, so everything here works on `int32` keys and is
exact: no tolerance, no rounding.
"""

from keras import ops

from mpt_keras import compilation, sums

_KEY_BITS = 31
_MANTISSA_BITS = 23
# Large enough to place the first guesses within a percent of the scores.
_SAMPLE_SIZE = 2**13
# Secants arrive in about seven steps, or not at all.
_SECANT_STEPS = 10
# So few scores are counted in no time, however it is done.
_SMALL = 2**16


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
    ):  # fmt: skip
        key = ops.clip(key, low + 1, high - 1)
        reaching = count_reaching(keys, key)
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


def count_reaching(keys, key):
    """How many entries of a vector reach a key."""

    def reaches(part):
        return ops.cast(part >= key, "int8")

    if keys.shape[0] > _SMALL:
        counts = sums.sum_in_lanes(reaches, keys, ops)
    else:
        counts = reaches(keys)
    return ops.sum(ops.cast(counts, "int32"))


def _int(value):
    return ops.convert_to_tensor(value, "int32")


def _float(value):
    return ops.cast(value, "float32")


@compilation.fused
def threshold_of_scores(scores, kept, guess=None):
    """`threshold` of a flat float tensor."""
    return threshold(magnitude_keys(scores), kept, guess)
