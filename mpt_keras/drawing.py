"""Random weights from a seed, to the bit: NumPy alone, and no distributions.

All numbers come from the raw 64-bit stream of NumPy's Philox counter-based
generator, which NumPy keeps stable across versions and platforms, and from
arithmetic that IEEE 754 defines to the bit. Files of tickets rely on these
functions (docs/ticket_format.md defines them): what a seed gives must not
change. Another distribution is another name.
"""

import ctypes
import dataclasses
import functools
import math
import statistics

import numpy as np

from mpt_keras import compiled

QUANTILES = 2**15
# As many numbers at a time as stay in a processor's cache.
_BLOCK = 2**15
# Bytes; where an array begins whose memory a backend can take over.
_ALIGNMENT = 64


def blocks_of_raw_numbers(seed, stream, size):
    """Yields the raw numbers of a stream of a seed, in blocks, in order.

    Args:
        seed: Integer in [0, 2**64).
        stream: Integer in [0, 2**64).
        size: How many numbers.

    Yields:
        Pairs of a slice of `range(size)` and its numbers, uint64.
    """
    generator = np.random.Philox(key=seed | stream << 64)
    for start in range(0, size, _BLOCK):
        part = slice(start, min(start + _BLOCK, size))
        yield part, generator.random_raw(part.stop - part.start)


@dataclasses.dataclass(frozen=True)
class Draw:
    """What a weight's values are a function of.

    Attributes:
        distribution: A name in `DISTRIBUTIONS`.
        seed, stream: Integers in [0, 2**64), which numbers are drawn.
        fan_in: Positive number, how many inputs an output sees and counts.
        slope: Number, of `"kaiming_uniform"` alone: the negative slope of the
            rectifier that follows.
    """

    distribution: str
    seed: int
    stream: int
    fan_in: float
    slope: float = 0.0

    def values(self, shape) -> np.ndarray:
        """Returns the float32 values of a shape, row by row."""
        values = _aligned(math.prod(shape))
        table = signed_table(self)
        if table is not None and _draw_compiled(self, table, values):
            return values.reshape(shape)
        transform = DISTRIBUTIONS[self.distribution](self)
        blocks = blocks_of_raw_numbers(self.seed, self.stream, values.size)
        for part, raw in blocks:
            values[part] = transform(raw)
        return values.reshape(shape)


def _aligned(size):
    """An empty float32 vector that backends need not copy."""
    memory = np.empty(4 * size + _ALIGNMENT, "uint8")
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + 4 * size].view("float32")


@functools.cache
def half_normal_quantiles():
    """The middles of 2**15 equally probable parts of |N(0, 1)|, variance 1.

    A table instead of a formula, because logarithms and cosines differ in
    their last bit from one processor to the next.
    """
    normal = statistics.NormalDist()
    table = np.array(
        [
            normal.inv_cdf(0.5 + (i + 0.5) / (2 * QUANTILES))
            for i in range(QUANTILES)
        ]
    )
    table /= math.sqrt(math.fsum(table**2) / QUANTILES)
    return table.astype("float32").astype("float64")


def kaiming_normal(draw):
    """Normal weights of standard deviation `sqrt(2 / fan_in)`."""
    return _from_table(signed_table(draw))


def signed_constant(draw):
    """Weights `+-sqrt(2 / fan_in)`."""
    return _from_table(signed_table(draw))


def signed_table(draw):
    """The values among which a draw chooses, by bits of raw numbers.

    Returns:
        float32 array, in its first half the negative values, in its second
        half the positive ones, which are taken if a number's highest bit is
        set. Its lowest bits say which. None for `"kaiming_uniform"`.
    """
    deviation = math.sqrt(2.0 / draw.fan_in)
    if draw.distribution == "kaiming_normal":
        magnitudes = (half_normal_quantiles() * deviation).astype("float32")
    elif draw.distribution == "signed_constant":
        magnitudes = np.array([deviation], "float32")
    else:
        return None
    return np.concatenate([-magnitudes, magnitudes])


def kaiming_uniform(draw):
    """Uniform numbers in `+-sqrt(6 / ((1 + slope**2) * fan_in))`."""
    bound = math.sqrt(6.0 / ((1.0 + draw.slope**2) * draw.fan_in))

    def transform(raw):
        # 53 random bits in the middle of their cells: never 0, never +-1.
        unit = ((raw >> np.uint64(11)).astype("float64") + 0.5) * 2.0**-53
        return (2.0 * unit - 1.0) * bound

    return transform


def _draw_compiled(draw, table, values):
    """Fills an array, if there is compiled code for it; returns if it did."""
    compute = compiled.function(
        "draw_from_table",
        *(ctypes.c_uint64, ctypes.c_uint64, ctypes.c_int64, ctypes.c_void_p),
        *(ctypes.c_void_p, ctypes.c_int64),
    )
    if compute is None:
        return False
    compute(
        *(draw.seed, draw.stream, values.size, compiled.address(values)),
        *(compiled.address(table), len(table) // 2),
    )
    return True


def _from_table(table):
    half = np.uint64(len(table) // 2)

    def transform(raw):
        index = raw >> np.uint64(63)
        index *= half
        index |= raw & (half - np.uint64(1))
        return table.take(index.view("int64"))

    return transform


# Functions of a `Draw`, which return one from raw numbers to its values.
DISTRIBUTIONS = {
    function.__name__: function
    for function in (kaiming_normal, signed_constant, kaiming_uniform)
}
