"""Sums over vectors in one pass over memory, for XLA to fuse.

XLA does not fuse a chain of elementwise operations into the reduction of a
whole vector (on CPUs). Sums are written here as elementwise sums of a few
slices, which it does. Elementwise additions are also the same to the bit in
every backend, compiled or not, and in NumPy: functions take the one that
computes as `numpy`, which is `keras.ops` or NumPy itself.
"""

import functools
import operator

# Enough to make what is left over small, few enough to fit an int8 and the
# processor's prefetching (8 and 32 are slower).
_LANES = 16
# A block that is read to its end before the next one is begun.
_ROWS, _COLUMNS = 8, 1024


def sum_in_lanes(term, vector, numpy):
    """Adds up a term over a vector, down to a sixteenth of its length.

    Args:
        term: Elementwise function of (slices of) the vector.
        vector: Tensor of shape `(n,)`.
        numpy: `keras.ops` or `numpy`.

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
        lanes[-1] = numpy.pad(lanes[-1], [[0, missing]])
    return functools.reduce(operator.add, lanes)


def sum_in_blocks(term, *vectors, numpy):
    """Sums a term over vectors, reading each of them once and in order.

    `sum_in_lanes` reads sixteen places at a time, which is right for what is
    in the cache; this is right for what is not. The order of the additions is
    fixed: a sum of floats is the same everywhere.

    Args:
        term: Elementwise function of (parts of) the vectors.
        vectors: Tensors of shape `(n,)`.
        numpy: `keras.ops` or `numpy`.

    Returns:
        Scalar tensor of the term's dtype.
    """
    size = vectors[0].shape[0]
    whole = size // (_ROWS * _COLUMNS) * (_ROWS * _COLUMNS)
    parts = []
    if whole:
        blocks = [
            numpy.reshape(vector[:whole], (-1, _ROWS, _COLUMNS))
            for vector in vectors
        ]
        rows = [term(*(b[:, row] for b in blocks)) for row in range(_ROWS)]
        total = functools.reduce(operator.add, rows)
        parts.append(numpy.reshape(total, (-1,)))
    if whole < size:
        parts.append(term(*(vector[whole:] for vector in vectors)))
    return functools.reduce(
        operator.add, (_sum_in_order(part, numpy) for part in parts)
    )


def _sum_in_order(vector, numpy):
    while vector.shape[0] > 1:
        vector = sum_in_lanes(lambda part: part, vector, numpy)
    return vector[0]


def mean_kept(kernel, mask, kept, numpy):
    """Mean magnitude of the weights kept, the same to the bit everywhere.

    Args:
        kernel: Float32 tensor.
        mask: Boolean tensor of the same shape.
        kept: Float32 scalar, the number of True in it.
        numpy: `keras.ops` or `numpy`.

    Returns:
        Scalar float32 tensor.
    """
    total = sum_in_blocks(
        lambda mask, kernel: numpy.where(mask, numpy.abs(kernel), 0.0),
        numpy.reshape(mask, (-1,)),
        numpy.reshape(kernel, (-1,)),
        numpy=numpy,
    )
    return total / kept
