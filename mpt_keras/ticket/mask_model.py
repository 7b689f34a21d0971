"""How likely each weight of a kernel is kept, given what is known of it.

Training moves a score by the product of its weight and of a gradient. So a
weight changes sides where its initial score is near the threshold, in units of
|w|; more often in rows (inputs) and columns (outputs) whose gradients are
large, and beside other changes; and in the direction that the gradients there
have for the sign of the weight. All of it is learned from the bits that were
coded before, in integers; docs/ticket_format.md defines every number.
"""

import numpy as np

from mpt_keras.ticket.logarithms import CERTAIN, ZERO_WEIGHTS, log2
from mpt_keras.ticket.mask_totals import Totals
from mpt_keras.ticket.mask_weights import (
    CLASSES,
    FURTHEST,
    Plane,
    classes_of_rows,
)
from mpt_keras.ticket.range_coder import PRECISION, zero_weights_to_floats

BINS = 32  # of distances from the threshold, quarters of a factor of 2

# Before anything is coded: 2**15 * exp(-2**((bin - 14) / 4)) of 2**16 weights
# of a bin have changed sides.
CHANGES = np.array(
    [
        *(29996, 29499, 28918, 28242, 27458, 26555, 25520, 24341),
        *(23009, 21520, 19875, 18081, 16157, 14134, 12055, 9977),
        *(7966, 6096, 4435, 3038, 1937, 1134, 600, 282),
        *(114, 39, 11, 2, 1, 1, 1, 1),
    ],
    "int64",
)
_CHANGES_WEIGHT = 16  # as many weights as in one bin of those coded before

# Units of logarithmic odds, of surprises in 64ths over variances in 256ths:
# 32 * 4 / log(2), and half of it and more where experience says so.
_PUSH_OF_COLUMNS, _PUSH_OF_ROWS, _PUSH_BESIDE = 185, 92, 520
_CALM_BESIDE = 560  # variance added to what was seen
_STEADY = 200  # changes beside, in 64ths, that double the expected distance

_ODDS = zero_weights_to_floats(ZERO_WEIGHTS)
_ONES = (1 << PRECISION) - ZERO_WEIGHTS
# How likely a 1 is, in 64ths, and the variance of the bit, in 256ths.
SHARES = (_ONES + (1 << 17) >> 18).astype("int16")
VARIANCES = (ZERO_WEIGHTS * _ONES >> 40).astype("uint8")


def _distances_beside():
    """What changes beside a weight, in 64ths, take off its distance."""
    sums = np.arange(-FURTHEST, FURTHEST + 1)
    ratio = log2(np.abs(sums) + _STEADY) - log2([_STEADY])
    return (np.sign(sums) * (ratio >> 2)).astype("int16")


_DISTANCES_BESIDE = _distances_beside()


class MaskModel:
    """Gives probabilities, cell by cell, and learns from each cell's bits.

    Args:
        shape: Rows and columns.
        kept: Number of weights kept.
        settings: `Settings`.
        start: `Start` with arrays of that shape, or None.
        base: Boolean array of that shape, a mask that this one is like; or
            None, for the mask at the start.
        free: Boolean array of that shape, True at the weights that are coded,
            or None for all; `kept` is the number kept among them.
    """

    def __init__(self, shape, kept, settings, start=None, base=None, free=None):
        self.rows, self.columns = shape
        self._settings = settings
        self._size = self.rows * self.columns
        if free is not None:
            self._size = int(np.count_nonzero(free))
        self._planes = [
            Plane(shape, column_class, kept, settings, start, base, free)
            for column_class in range(min(CLASSES, self.columns))
        ]
        self._row_totals = Totals(self.rows)
        self._column_totals = Totals(self.columns)
        for column_class, plane in enumerate(self._planes):
            if plane.moved is not None:
                columns = slice(column_class, None, CLASSES)
                known = plane.moved, plane.free
                self._row_totals.count(slice(None), 1, *known)
                self._column_totals.count(columns, 0, *known)
        contexts = 4 if start is not None and base is not None else 2
        changes = np.tile([CHANGES, (1 << 16) - CHANGES], (contexts // 2, 1))
        self._ones = changes.ravel() * _CHANGES_WEIGHT
        self._zeros = (1 << 16) * _CHANGES_WEIGHT - self._ones

    def cells(self):
        """Pairs of row numbers and a class of columns, in the order coded."""
        row_classes = classes_of_rows(self.rows)
        beginning = True
        for turn in range(CLASSES):
            for number, rows in enumerate(row_classes):
                column_class = (number + turn) % CLASSES
                if not len(rows) or column_class >= len(self._planes):
                    continue
                parts = [rows]
                if beginning:
                    # Little is known yet: in parts, each twice the one before.
                    ends = [len(rows) >> shift for shift in (4, 3, 2, 1)]
                    parts = np.split(rows, ends)
                    beginning = False
                for part in parts:
                    if len(part):
                        yield part, column_class

    def probabilities(self, rows, column_class):
        """float32 array of the cell's free weights, for the range coder."""
        plane = self._planes[column_class]
        columns = slice(column_class, None, CLASSES)
        context = plane.distances[rows]
        row_scales = self._row_totals.scales(rows, self._settings.offsets)
        context -= row_scales[:, None]
        context -= self._column_totals.scales(columns)
        push = self._row_totals.pushes(rows, _PUSH_OF_ROWS)[:, None]
        push = push + self._column_totals.pushes(columns, _PUSH_OF_COLUMNS)
        if self._settings.offsets:
            surprises, changes = plane.sums_beside(rows, self._settings.offsets)
            push += self._pushes_beside()[surprises]
            context -= _DISTANCES_BESIDE[changes]
        context >>= 1
        np.clip(context, 0, BINS - 1, out=context)
        context += plane.guess[rows] * np.int16(BINS)
        if plane.moved is not None:
            context += plane.moved[rows] * np.int16(2 * BINS)
        negative = plane.negative[rows]
        np.negative(push, out=push, where=negative)
        odds = log2(self._ones) - log2(self._zeros)
        odds = np.clip(odds, -CERTAIN, CERTAIN).astype("int16")[context]
        push += odds
        np.clip(push, -CERTAIN, CERTAIN, out=push)
        push += CERTAIN
        odds += CERTAIN
        self._cell = plane, rows, columns, context, odds, negative
        if plane.free is not None:
            push = push[plane.free[rows]]
        return _ODDS[push].ravel()

    def learn(self, bits):
        """Takes the bits of the cell whose probabilities were asked for last.

        Args:
            bits: Integer array of 0 and 1, of the cell's free weights.
        """
        plane, rows, columns, context, odds, negative = self._cell
        free = None if plane.free is None else plane.free[rows]
        if free is None:
            bits = bits.reshape(context.shape).astype("int16")
        else:
            of_free = bits
            bits = plane.guess[rows].astype("int16")  # no other is a change
            bits[free] = of_free
        counted = 2 * context + bits
        counts = np.bincount(
            counted.ravel() if free is None else counted[free],
            minlength=2 * len(self._ones),
        )
        self._zeros += counts[::2] << 16
        self._ones += counts[1::2] << 16
        changed = bits != plane.guess[rows]
        surprise = bits << 6
        surprise -= SHARES[odds]
        change = np.abs(surprise)
        np.negative(change, out=change, where=~changed)
        np.negative(surprise, out=surprise, where=negative)
        variance = VARIANCES[odds]
        if free is not None:
            for learned in (surprise, change, variance):
                learned *= free
        plane.surprise[rows] = surprise
        plane.change[rows] = change
        self._row_totals.add(rows, 1, changed, surprise, variance, free)
        self._column_totals.add(columns, 0, changed, surprise, variance, free)

    def _pushes_beside(self):
        variance = int(self._row_totals.variance.sum())
        variance = 2 * len(self._settings.offsets) * variance // self._size
        factor = (_PUSH_BESIDE << 8) // (variance + _CALM_BESIDE)
        sums = np.arange(-FURTHEST, FURTHEST + 1)
        return (sums * factor >> 8).astype("int16")
