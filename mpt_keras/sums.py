"""Sums over vectors in one pass over memory, for XLA to fuse.

XLA does not fuse a chain of elementwise operations into the reduction of a
whole vector (on CPUs). Sums are written here as elementwise sums of a few
slices, which it does. Elementwise additions are also the same to the bit in
every backend, compiled or not, and in NumPy: functions take the one that
computes as `numpy`, which is `keras.ops` or NumPy itself.
"""

import functools
import operator

_LANES = 16
# A block that is read to its end before the next one is begun.
_ROWS, _COLUMNS = 8, 1024


def sum_in_blocks(term, *vectors, numpy):
    """Sums a term over vectors, reading each of them once and in order.

    The order of the additions is fixed (docs/ticket_format.md says it): a sum
    of floats is the same everywhere.

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
        width = -(-vector.shape[0] // _LANES)
        lanes = -(-vector.shape[0] // width)
        missing = lanes * width - vector.shape[0]
        if missing:
            vector = numpy.pad(vector, [[0, missing]])
        vector = functools.reduce(operator.add, numpy.split(vector, lanes))
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
