"""One common threshold for several tensors of scores."""

import math

from keras import ops

from mpt_keras import compilation
from mpt_keras.threshold import (
    as_bits,
    count_reaching,
    fused_key,
)


def shares_of_global_selection(scores, kept, minimum=1, guess=None):
    """Splits `kept` weights over several tensors by one common threshold.

    Ties at the threshold are broken by position, earlier tensors before
    later ones, as if all scores stood in one vector.

    Args:
        scores: List of float tensors of any shapes.
        kept: Scalar int32 tensor, the number of weights kept in all.
        minimum: Weights that each tensor keeps at least (all of them where
            it has fewer), one number for all or a sequence. A tensor that
            falls below is filled up; the others then keep their share, so
            the total exceeds `kept`.
        guess: Scalar int32 tensor, a key to try first, such as the one of the
            last step: what is near is found sooner.

    Returns:
        `(shares, raw_shares, key)`: int32 tensors of shape `(len(scores),)`,
        the weights kept in each tensor with and without the minimum; and the
        common threshold's key, an int32 scalar.
    """
    bits = [ops.reshape(as_bits(tensor), (-1,)) for tensor in scores]
    key, surplus = fused_key(ops.concatenate(bits), kept, guess)
    counts = ops.stack([_reaching_and_above(part, key) for part in bits])
    reaching, above = counts[:, 0], counts[:, 1]
    ties = reaching - above
    # The first `surplus` ties in the common order are the ones dropped.
    before = ops.cumsum(ties) - ties
    shares = above + ties - ops.clip(surplus - before, 0, ties)
    if isinstance(minimum, int):
        minimum = [minimum] * len(scores)
    least = [
        min(number, math.prod(tensor.shape))
        for number, tensor in zip(minimum, scores, strict=True)
    ]
    least = ops.convert_to_tensor(least, "int32")
    return ops.maximum(shares, least), shares, key


@compilation.fused
def _reaching_and_above(bits, key):
    return ops.stack([count_reaching(bits, key), count_reaching(bits, key + 1)])
