"""What a mask's model has counted of each row and of each column."""

import numpy as np

from mpt_keras.ticket.logarithms import CERTAIN, log2
from mpt_keras.ticket.mask_weights import beside

# How many changes of its own outweigh what a row or column is thought to be.
_UNKNOWN = 4
_UNKNOWN_BESIDE = 3  # where that is the mean of the rows beside
_KNOWN_BESIDE = 12
_CALM = 4096  # variance added to what was seen: little of it pushes little


class Totals:
    """What was coded of each row, or of each column."""

    def __init__(self, size):
        self.coded, self.changed, self.surprise, self.variance = np.zeros(
            (4, size), "int64"
        )

    def count(self, where, axis, changed, free=None):
        self.coded[where] += (
            changed.shape[axis]
            if free is None
            else np.count_nonzero(free, axis=axis)
        )
        self.changed[where] += np.count_nonzero(changed, axis=axis)

    def add(self, where, axis, changed, surprise, variance, free=None):
        self.count(where, axis, changed, free)
        self.surprise[where] += surprise.sum(axis, dtype="int64")
        self.variance[where] += variance.sum(axis, dtype="int64")

    def scales(self, where, offsets=()):
        """Eighths of log2 of the changes over those expected; int16."""
        all_coded = int(self.coded.sum())
        if not all_coded:
            return np.zeros_like(self.coded[where], "int16")
        all_changed = int(self.changed.sum())

        def over_expected(changed, coded, unknown):
            actual = (changed + unknown) * all_coded
            return actual, coded * all_changed + unknown * all_coded

        changed, coded = self.changed[where], self.coded[where]
        if offsets:
            rate = over_expected(
                _sum_beside(self.changed, where, offsets),
                _sum_beside(self.coded, where, offsets),
                _UNKNOWN_BESIDE,
            )
            believed = 256 * _KNOWN_BESIDE * rate[0] // rate[1]
            actual = (256 * changed + believed) * all_coded
            expected = coded * all_changed + _KNOWN_BESIDE * all_coded
            expected *= 256
        else:
            actual, expected = over_expected(changed, coded, _UNKNOWN)
        return (log2(actual) - log2(expected) >> 2).astype("int16")

    def pushes(self, where, strength):
        """Logarithmic odds for weights that are positive; int16."""
        push = strength * self.surprise[where]
        push //= self.variance[where] + _CALM
        return np.clip(push, -CERTAIN, CERTAIN).astype("int16")


def _sum_beside(values, rows, offsets):
    values = np.append(values, 0)
    return sum(values[i] for i in beside(rows, offsets, len(values) - 1))
