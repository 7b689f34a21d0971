"""Scores among which those of frozen weights come first or last.

Whoever selects by magnitude then prunes or keeps these weights for ever,
whatever the scores of the others are.
"""

import numpy as np
from keras import ops

from mpt_keras import compilation
from mpt_keras.threshold import as_bits, magnitude_keys

_INFINITY = 0x7F800000
# The smallest normal number: what is smaller, some processors take for 0.
_SMALLEST = 0x00800000
_HIGHEST_KEY = _INFINITY - 1 - _SMALLEST
# Magnitudes from here on are equal.
HIGHEST = np.int32(_HIGHEST_KEY).view("float32")


@compilation.fused
def in_order(scores, positions=None):
    """Numbers that order as the magnitudes of scores do.

    Of free weights they are positive and finite; 0 of weights that are pruned
    for ever, and infinite of those kept for ever. (Magnitudes of 1.7e38 and
    more are equal.) Only numbers of this function compare with each other.

    Args:
        scores: Float tensor.
        positions: int8 tensor of the same shape, as of
            `FrozenPart.positions`; None if all weights are free.

    Returns:
        float32 tensor of the same shape, without a gradient.
    """
    bits = magnitude_keys(as_bits(scores))
    # Of positive numbers, the bits order as the numbers do.
    bits = ops.minimum(bits, _HIGHEST_KEY) + _SMALLEST
    if positions is not None:
        outside = ops.where(positions > 0, _INFINITY, 0)
        bits = ops.where(positions == 0, bits, ops.cast(outside, "int32"))
    return ops.view(bits, "float32")
