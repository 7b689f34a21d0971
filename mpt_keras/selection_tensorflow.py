"""The histogram form of `selection.threshold`, for TensorFlow without XLA.

Two counting passes find the exact key: one over the upper half of every
float's bits, one over the lower half of the few entries that share the upper
half of the threshold. The number of those entries is known only at run time,
which is why this form needs dynamic shapes.
"""

import tensorflow as tf
from tensorflow.python.ops import control_flow_util

_HALF = 16
_BINS = 1 << _HALF
_SIGN = 1 << (_HALF - 1)
_ROW = 1 << (_HALF // 2)


def compiled_by_xla() -> bool:
    """Whether the graph under construction is going to be compiled by XLA."""
    if tf.executing_eagerly():
        return False
    graph = tf.compat.v1.get_default_graph()
    return control_flow_util.GraphOrParentsInXlaContext(graph)


def threshold(scores, kept):
    """See `selection.threshold`."""
    bits = [
        tf.bitcast(tf.reshape(tf.cast(s, tf.float32), [-1]), tf.uint32)
        for s in scores
    ]
    # Sign and upper bits together: one shift, and the two halves of the
    # histogram are folded afterwards, so abs() costs nothing.
    upper = [
        tf.bitcast(tf.bitwise.right_shift(b, _HALF), tf.int32) for b in bits
    ]
    counts = tf.add_n([_histogram(u) for u in upper])
    counts = counts[:_SIGN] + counts[_SIGN:]
    upper_key, reaching, above = _bin_of_kth(counts, kept)

    lower = [
        tf.boolean_mask(
            b, tf.logical_or(u == upper_key, u == upper_key + _SIGN)
        )
        for b, u in zip(bits, upper, strict=True)
    ]
    lower = tf.bitcast(tf.concat(lower, 0), tf.int32) & (_BINS - 1)
    lower_key, reaching, _ = _bin_of_kth(_histogram(lower), kept - above)
    return (
        upper_key * _BINS + lower_key,
        above + reaching - kept,
    )


def _histogram(values):
    return tf.raw_ops.DenseBincount(
        input=values, size=_BINS, weights=tf.constant([], tf.int32)
    )


def _bin_of_kth(counts, kept):
    """The bin of the `kept`-th largest value; entries in it or above; above.

    First the row of bins, then the bin in the row: a running sum over all
    bins at once would take longer than the counting.
    """
    rows = tf.reshape(counts, [-1, _ROW])
    row, _, above = _last_reaching(tf.reduce_sum(rows, 1), kept, 0)
    column, reaching, above = _last_reaching(rows[row], kept, above)
    return row * _ROW + column, reaching, above


def _last_reaching(counts, kept, above):
    reaching = tf.cumsum(counts, reverse=True) + above
    index = tf.reduce_sum(tf.cast(reaching >= kept, tf.int32)) - 1
    return index, reaching[index], reaching[index] - counts[index]
