"""Sums over vectors in one pass over memory, for XLA to fuse.

XLA does not fuse a chain of elementwise operations into the reduction of a
whole vector (on CPUs). Sums are written here as elementwise sums of a few
slices, which it does.
"""

import functools

from keras import ops

# Enough to make what is left over small, few enough to fit an int8 and the
# processor's prefetching (8 and 32 are slower).
_LANES = 16
# A block that is read to its end before the next one is begun.
_ROWS, _COLUMNS = 8, 1024


def sum_in_lanes(term, vector):
    """Adds up a term over a vector, down to a sixteenth of its length.

    Args:
        term: Elementwise function of (slices of) the vector.
        vector: Tensor of shape `(n,)`.

    Returns:
        Tensor of shape `(ceil(n / 16),)` and the term's dtype: entry `j` is
        the sum over `i` of `term(vector)[i * ceil(n / 16) + j]`.
    """
    size = vector.shape[0]
    width = -(-size // _LANES)
    lanes = [
        term(vector[start : start + width]) for start in range(0, size, width)
    ]
    missing = width * len(lanes) - size
    if missing:
        lanes[-1] = ops.pad(lanes[-1], [[0, missing]])
    return functools.reduce(ops.add, lanes)


def sum_in_blocks(term, *vectors):
    """Sums a term over vectors, reading each of them once and in order.

    `sum_in_lanes` reads sixteen places at a time, which is right for what is
    in the cache; this is right for what is not.

    Args:
        term: Elementwise function of (parts of) the vectors.
        vectors: Tensors of shape `(n,)`.

    Returns:
        Scalar tensor of the term's dtype.
    """
    size = vectors[0].shape[0]
    whole = size // (_ROWS * _COLUMNS) * (_ROWS * _COLUMNS)
    total = 0.0
    if whole:
        blocks = [
            ops.reshape(vector[:whole], (-1, _ROWS, _COLUMNS))
            for vector in vectors
        ]
        rows = [term(*(b[:, row] for b in blocks)) for row in range(_ROWS)]
        total = ops.sum(functools.reduce(ops.add, rows))
    if whole < size:
        total = total + ops.sum(term(*(vector[whole:] for vector in vectors)))
    return total
