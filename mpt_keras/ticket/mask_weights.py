"""What a mask's model knows of each weight, column class by column class."""

import dataclasses

import numpy as np

CLASSES = 4  # of rows and of columns, which make 16 cells
NEAREST = 14  # the bin of distance 1, of which a change of sides is likely
LARGEST_SCALE = 1 << 11
MOST_OFFSETS = 4
FURTHEST = 2 * MOST_OFFSETS * 64 + 1  # more than any sum beside a weight


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


def beside(rows, offsets, last):
    """The rows before and after by each offset; `last` where there is none."""
    for offset in offsets:
        yield np.where(rows >= offset, rows - offset, last)
        yield np.minimum(rows + offset, last)


def classes_of_rows(rows):
    """Row numbers of each class, as good as random."""
    mixed = np.arange(rows, dtype="uint64") * np.uint64(0x9E3779B1)
    mixed &= np.uint64(0xFFFFFFFF)
    mixed ^= mixed >> np.uint64(15)
    mixed *= np.uint64(0x85EBCA77)
    classes = mixed >> np.uint64(30) & np.uint64(CLASSES - 1)
    return [np.flatnonzero(classes == number) for number in range(CLASSES)]


class Plane:
    """What is known of every fourth column."""

    def __init__(
        self, shape, column_class, kept, settings, start, base, free=None
    ):
        rows, columns = shape
        size = rows * columns if free is None else int(np.count_nonzero(free))

        def part(array):
            array = array.reshape(rows, columns)
            return np.ascontiguousarray(array[:, column_class::CLASSES])

        width = len(range(column_class, columns, CLASSES))
        shape = rows, width
        self.free = None if free is None else part(free)
        self.negative = np.zeros(shape, bool)
        self.moved = None
        # Of the weights coded; a row of zeros at the end.
        self.surprise = np.zeros((rows + 1, width), "int8")
        self.change = np.zeros((rows + 1, width), "int8")
        if start is None:
            self.distances = np.zeros(shape, "int16")
            likely = 2 * kept > size
            self.guess = np.full(shape, likely)
        else:
            quantiles = part(start.quantiles)
            threshold = threshold_of(kept, size)
            unit = None
            if start.kernel is not None:
                kernel = part(start.kernel)
                self.negative = np.signbit(kernel)
                unit = kernel if settings.by_weight else None
            self.distances = distances(quantiles, unit, threshold)
            self.guess = quantiles >= threshold
        if base is not None:
            base = part(base)
            if start is not None:
                # Half of what the base changed speaks for further changes.
                self.moved = base != self.guess
                if free is not None:
                    self.moved &= self.free
                self.change[:-1] = self.moved * np.int8(32)
                self.surprise[:-1] = self.change[:-1]
                down = base == self.negative
                pushed = self.surprise[:-1]
                np.negative(pushed, out=pushed, where=down)
            self.guess = base
        self.distances += np.int16(2 * NEAREST - settings.scale)

    def sums_beside(self, rows, offsets):
        """Sums of surprises and changes, as indices of tables."""
        last = len(self.surprise) - 1
        shape = len(rows), self.surprise.shape[1]
        surprises = np.full(shape, FURTHEST, "int16")
        changes = surprises.copy()
        for others in beside(rows, offsets, last):
            surprises += self.surprise[others]
            changes += self.change[others]
        return surprises, changes
