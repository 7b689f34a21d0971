"""How likely each weight of a kernel is kept, given what is known of it.

Training moves a score by the product of its weight and of a gradient. So a
weight changes sides where its initial score is near the threshold, in units of
|w|; more often in rows (inputs) and columns (outputs) whose gradients are
large, and beside other changes; and in the direction that the gradients there
have for the sign of the weight. All of it is learned from the bits that were
coded before, in integers; docs/ticket_format.md defines every number.
"""

import dataclasses

import numpy as np

from mpt_keras.ticket.logarithms import CERTAIN, ZERO_WEIGHTS, log2
from mpt_keras.ticket.range_coder import PRECISION, zero_weights_to_floats

CLASSES = 4  # of rows and of columns, which make 16 cells
BINS = 32  # of distances from the threshold, quarters of a factor of 2
NEAREST = 14  # the bin of distance 1
LARGEST_SCALE = 1 << 11
MOST_OFFSETS = 4

# Before anything is coded: 2**15 * exp(-2**((bin - 14) / 4)) of 2**16 weights
# of a bin have changed sides.
CHANGES = np.array(
    [
        *(29996, 29499, 28918, 28242, 27458, 26555, 25520, 24341),
        *(23009, 21520, 19875, 18081, 16157, 14134, 12055, 9977),
        *(7966, 6096, 4435, 3038, 1937, 1134, 600, 282),
        *(114, 39, 11, 2, 1, 1, 1, 1),
    ]
)
_CHANGES_WEIGHT = 16  # as many weights as in one bin of those coded before

# How many changes of its own outweigh what a row or column is thought to be.
_UNKNOWN = 4
_UNKNOWN_BESIDE = 3  # where that is the mean of the rows beside
_KNOWN_BESIDE = 12
# Units of logarithmic odds, of surprises in 64ths over variances in 256ths:
# 32 * 4 / log(2), and half of it and more where experience says so.
_PUSH_OF_COLUMNS, _PUSH_OF_ROWS, _PUSH_BESIDE = 185, 92, 520
# Variances that outweigh no push.
_CALM, _CALM_BESIDE = 4096, 560
_STEADY = 200  # changes beside, in 64ths, that double the expected distance

_ODDS = zero_weights_to_floats(ZERO_WEIGHTS)
_ONES = (1 << PRECISION) - ZERO_WEIGHTS
# How likely a 1 is, in 64ths, and the variance of the bit, in 256ths.
_SHARES = (_ONES + (1 << 17) >> 18).astype("int16")
_VARIANCES = (ZERO_WEIGHTS * _ONES >> 40).astype("uint8")

_FURTHEST = 8 * 64 + 1


def _distances_beside():
    """What changes beside a weight, in 64ths, take off its distance."""
    sums = np.arange(-_FURTHEST, _FURTHEST + 1)
    ratio = log2(np.abs(sums) + _STEADY) - log2([_STEADY])
    return (np.sign(sums) * (ratio >> 2)).astype("int16")


_DISTANCES_BESIDE = _distances_beside()


def columns_of(shape):
    """Columns of the matrix as which a mask of a shape is coded.

    The last dimension, or the last but one if the last is 1.
    """
    if len(shape) > 1 and shape[-1] == 1:
        return shape[-2]
    return shape[-1] if shape else 1


def threshold_of(kept, size):
    """The quantile above which `kept` of `size` initial scores lie."""
    return (1 << 16) * (size - kept) // size


def distances(quantiles, kernel, threshold):
    """Eighths of log2 of the distance from the threshold, over |w|; int16.

    The logarithms are the exponents and the three highest bits of the
    mantissas of `float32(2 * |quantile - threshold| + 1)` and of `w`.
    """
    away = quantiles.astype("int32")
    away -= threshold
    np.abs(away, out=away)
    away *= 2
    away += 1
    result = _exponents(away.astype("float32"))
    result -= 127 << 3 if kernel is None else _exponents(kernel)
    return result


def _exponents(values):
    bits = values.view("int32") >> 20
    bits &= 0x7FF
    return bits.astype("int16")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the encoder has chosen and the decoder reads.

    Args:
        scale: Integer, eighths of log2 of the distance at which changes end.
        by_weight: Whether distances are in units of |w|, as gradient descent
            moves scores; without it as Adam does, all alike.
        offsets: Differences of rows whose gradients are alike.
    """

    scale: int
    by_weight: bool = False
    offsets: tuple = ()


class MaskModel:
    """Gives probabilities, cell by cell, and learns from each cell's bits.

    Args:
        shape: Rows and columns.
        kept: Number of weights kept.
        settings: `Settings`.
        start: `Start` with arrays of that shape, or None.
        base: Boolean array of that shape, a mask that this one is like; or
            None, for the mask at the start.
    """

    def __init__(self, shape, kept, settings, start=None, base=None):
        self.rows, self.columns = shape
        self._settings = settings
        self._size = self.rows * self.columns
        self._planes = [
            _Plane(self, kept, start, base, column_class)
            for column_class in range(min(CLASSES, self.columns))
        ]
        self._row_totals = _Totals(self.rows)
        self._column_totals = _Totals(self.columns)
        for column_class, plane in enumerate(self._planes):
            if plane.moved is not None:
                columns = slice(column_class, None, CLASSES)
                self._row_totals.count(slice(None), 1, plane.moved)
                self._column_totals.count(columns, 0, plane.moved)
        contexts = 4 if start is not None and base is not None else 2
        changes = np.tile([CHANGES, (1 << 16) - CHANGES], (contexts // 2, 1))
        self._ones = changes.ravel() * _CHANGES_WEIGHT
        self._zeros = (1 << 16) * _CHANGES_WEIGHT - self._ones

    def cells(self):
        """Pairs of row numbers and a class of columns, in the order coded."""
        row_classes = _classes_of_rows(self.rows)
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
        """float32 array of the cell's shape, for the range coder."""
        plane = self._planes[column_class]
        columns = slice(column_class, None, CLASSES)
        context = plane.distances[rows]
        context -= self._row_totals.scales(rows, self._settings.offsets)[
            :, None
        ]
        context -= self._column_totals.scales(columns)
        push = self._row_totals.pushes(rows, _PUSH_OF_ROWS)[:, None]
        push = push + self._column_totals.pushes(columns, _PUSH_OF_COLUMNS)
        if self._settings.offsets:
            beside, changes = plane.sums_beside(rows, self._settings.offsets)
            push += self._pushes_beside()[beside]
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
        return _ODDS[push]

    def learn(self, bits):
        """Takes the bits of the cell whose probabilities were asked for last.

        Args:
            bits: Integer array of 0 and 1, of the cell's size.
        """
        plane, rows, columns, context, odds, negative = self._cell
        bits = bits.reshape(context.shape).astype("int16")
        counts = np.bincount(
            (2 * context + bits).ravel(), minlength=2 * len(self._ones)
        )
        self._zeros += counts[::2] << 16
        self._ones += counts[1::2] << 16
        changed = bits != plane.guess[rows]
        surprise = bits << 6
        surprise -= _SHARES[odds]
        change = np.abs(surprise)
        np.negative(change, out=change, where=~changed)
        np.negative(surprise, out=surprise, where=negative)
        plane.surprise[rows] = surprise
        plane.change[rows] = change
        variance = _VARIANCES[odds]
        self._row_totals.add(rows, 1, changed, surprise, variance)
        self._column_totals.add(columns, 0, changed, surprise, variance)

    def _pushes_beside(self):
        variance = int(self._row_totals.variance.sum())
        variance = 2 * len(self._settings.offsets) * variance // self._size
        factor = (_PUSH_BESIDE << 8) // (variance + _CALM_BESIDE)
        sums = np.arange(-_FURTHEST, _FURTHEST + 1)
        return (sums * factor >> 8).astype("int16")


class _Plane:
    """What is known of every fourth column."""

    def __init__(self, model, kept, start, base, column_class):
        def part(array):
            array = array.reshape(model.rows, model.columns)
            return np.ascontiguousarray(array[:, column_class::CLASSES])

        width = len(range(column_class, model.columns, CLASSES))
        shape = model.rows, width
        self.negative = np.zeros(shape, bool)
        self.moved = None
        # Of the weights coded; a row of zeros at the end.
        self.surprise = np.zeros((model.rows + 1, width), "int8")
        self.change = np.zeros((model.rows + 1, width), "int8")
        if start is None:
            self.distances = np.zeros(shape, "int16")
            likely = 2 * kept > model.rows * model.columns
            self.guess = np.full(shape, likely)
        else:
            quantiles = part(start.quantiles)
            threshold = threshold_of(kept, model.rows * model.columns)
            unit = None
            if start.kernel is not None:
                kernel = part(start.kernel)
                self.negative = np.signbit(kernel)
                unit = kernel if model._settings.by_weight else None
            self.distances = distances(quantiles, unit, threshold)
            self.guess = quantiles >= threshold
        if base is not None:
            base = part(base)
            if start is not None:
                # Half of what the base changed speaks for further changes.
                self.moved = base != self.guess
                self.change[:-1] = self.moved * np.int8(32)
                self.surprise[:-1] = self.change[:-1]
                down = base == self.negative
                pushed = self.surprise[:-1]
                np.negative(pushed, out=pushed, where=down)
            self.guess = base
        self.distances += np.int16(2 * NEAREST - model._settings.scale)

    def sums_beside(self, rows, offsets):
        """Sums of surprises and changes, as indices of tables."""
        last = len(self.surprise) - 1
        beside = np.full(
            (len(rows), self.surprise.shape[1]), _FURTHEST, "int16"
        )
        changes = beside.copy()
        for others in _beside(rows, offsets, last):
            beside += self.surprise[others]
            changes += self.change[others]
        return beside, changes


class _Totals:
    """What was coded of each row, or of each column."""

    def __init__(self, size):
        self.coded, self.changed, self.surprise, self.variance = np.zeros(
            (4, size), "int64"
        )

    def count(self, where, axis, changed):
        self.coded[where] += changed.shape[axis]
        self.changed[where] += np.count_nonzero(changed, axis=axis)

    def add(self, where, axis, changed, surprise, variance):
        self.count(where, axis, changed)
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
            beside = over_expected(
                _sum_beside(self.changed, where, offsets),
                _sum_beside(self.coded, where, offsets),
                _UNKNOWN_BESIDE,
            )
            believed = 256 * _KNOWN_BESIDE * beside[0] // beside[1]
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


def _beside(rows, offsets, last):
    """The rows before and after by each offset; `last` where there is none."""
    for offset in offsets:
        yield np.where(rows >= offset, rows - offset, last)
        yield np.minimum(rows + offset, last)


def _sum_beside(values, rows, offsets):
    values = np.append(values, 0)
    return sum(values[i] for i in _beside(rows, offsets, len(values) - 1))


def _classes_of_rows(rows):
    """Row numbers of each class, as good as random."""
    mixed = np.arange(rows, dtype="uint64") * np.uint64(0x9E3779B1)
    mixed &= np.uint64(0xFFFFFFFF)
    mixed ^= mixed >> np.uint64(15)
    mixed *= np.uint64(0x85EBCA77)
    classes = mixed >> np.uint64(30) & np.uint64(CLASSES - 1)
    return [np.flatnonzero(classes == number) for number in range(CLASSES)]
