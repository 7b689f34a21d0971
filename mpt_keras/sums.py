"""Sums over vectors in one pass over memory, for XLA to fuse.

XLA does not fuse a chain of elementwise operations into the reduction of a
whole vector (on CPUs). Sums are written here as elementwise sums of a few
slices, which it does. Elementwise additions are also the same to the bit in
every backend, compiled or not, and in NumPy: functions take the one that
computes as `numpy`, which is `keras.ops` or NumPy itself.

`add_up`, where it is taken, adds tensors one after the other.
"""

import functools
import operator

_LANES = 16
# A block that is read to its end before the next one is begun.
_ROWS, _COLUMNS = 8, 1024


def _added_up(tensors):
    return functools.reduce(operator.add, tensors)


def sum_in_blocks(vector, numpy, add_up=_added_up):
    """Sums a vector in an order that is fixed, reading it once.

    docs/ticket_format.md says the order: a sum of floats is the same
    everywhere.

    Args:
        vector: Tensor of shape `(n,)`.
        numpy: `keras.ops` or `numpy`.
        add_up: Function of a list of tensors.

    Returns:
        Scalar tensor of the dtype of `vector`.
    """
    size = vector.shape[0]
    whole = size // (_ROWS * _COLUMNS) * (_ROWS * _COLUMNS)
    parts = []
    if whole:
        blocks = numpy.reshape(vector[:whole], (-1, _ROWS, _COLUMNS))
        rows = add_up(numpy.split(blocks, _ROWS, axis=1))
        parts.append(numpy.reshape(rows, (-1,)))
    if whole < size:
        parts.append(vector[whole:])
    return _added_up(_sum_in_lanes(part, numpy, add_up) for part in parts)


def _sum_in_lanes(vector, numpy, add_up):
    while vector.shape[0] > 1:
        width = -(-vector.shape[0] // _LANES)
        lanes = -(-vector.shape[0] // width)
        missing = lanes * width - vector.shape[0]
        if missing:
            vector = numpy.pad(vector, [[0, missing]])
        vector = add_up(numpy.split(vector, lanes))
    return vector[0]


def mean_kept(kernel, mask, kept, numpy, add_up=_added_up):
    """Mean magnitude of the weights kept, the same to the bit everywhere.

    Args:
        kernel: Float32 tensor.
        mask: Boolean tensor of the same shape.
        kept: Float32 scalar, the number of True in it.
        numpy: `keras.ops` or `numpy`.
        add_up: Function of a list of tensors.

    Returns:
        Scalar float32 tensor.
    """
    magnitudes = numpy.where(mask, numpy.abs(kernel), 0.0)
    magnitudes = numpy.reshape(magnitudes, (-1,))
    return sum_in_blocks(magnitudes, numpy, add_up) / kept
