"""A decoder of masks, written from docs/ticket_format.md alone.

Plain integers, one weight after the other, no NumPy: for the tests to compare
with, and for those who write a decoder in another language.
"""

import itertools
import math
import struct
from decimal import Decimal, localcontext

FIRST = [
    *(29996, 29499, 28918, 28242, 27458, 26555, 25520, 24341),
    *(23009, 21520, 19875, 18081, 16157, 14134, 12055, 9977),
    *(7966, 6096, 4435, 3038, 1937, 1134, 600, 282),
    *(114, 39, 11, 2, 1, 1, 1, 1),
]

with localcontext() as context:
    context.prec = 50
    LOG2 = [
        int(
            (
                32 * (1 + Decimal(2 * i + 1) / 512).ln() / Decimal(2).ln()
            ).to_integral_value()
        )
        for i in range(256)
    ]
    ZEROS = {
        t: int(2**24 / (1 + Decimal(2) ** (Decimal(t) / 32)))
        for t in range(-640, 641)
    }


def log2(v):
    e = v.bit_length() - 1
    return 32 * e + LOG2[256 * v // 2**e - 256]


def exponent(number):
    (bits,) = struct.unpack("<I", struct.pack("<f", number))
    return bits >> 20 & 0x7FF


def clip(x, low, high):
    return min(max(x, low), high)


class RangeDecoder:
    def __init__(self, data):
        self.words = [word for (word,) in struct.iter_unpack("<I", data)]
        self.low, self.width = 0, 2**64 - 1
        self.point = 2**32 * self.word() + self.word()

    def word(self):
        return self.words.pop(0) if self.words else 0

    def bit(self, z):
        unit = self.width // 2**24
        bit = (self.point - self.low) % 2**64 // unit >= z
        if bit:
            self.low = (self.low + unit * z) % 2**64
            self.width = unit * (2**24 - z)
        else:
            self.width = unit * z
        if self.width < 2**32:
            self.width *= 2**32
            self.low = self.low * 2**32 % 2**64
            self.point = self.point * 2**32 % 2**64 + self.word()
        return int(bit)

    def is_at_its_end(self):
        ahead = (self.point - self.low) % 2**64
        return not self.words and ahead < 2**33 - 1


def decode(
    data, shape, kept, quantiles=None, weights=None, base=None, free=None
):
    """Returns the bits of a mask as a flat list.

    Args:
        data: Bytes, a record.
        shape: Tuple of integers.
        kept: Integer.
        quantiles, weights, base, free: Flat lists, or None. The bits of
            weights that are not free are None.
    """
    if free is None:
        free = [True] * math.prod(shape)
    n = sum(free)
    if data[0] == 0:
        return [int(kept > 0) if is_free else None for is_free in free]
    if data[0] == 1:
        coder = RangeDecoder(data[1:])
        z = clip((2**25 * (n - kept) + n) // (2 * n), 1, 2**24 - 1)
        bits = [coder.bit(z) if is_free else None for is_free in free]
    else:
        scale, by_weight, count = struct.unpack_from("<hBB", data, 1)
        offsets = struct.unpack_from(f"<{count}I", data, 5)
        coder = RangeDecoder(data[5 + 4 * count :])
        known = quantiles, weights, base, free
        matrix = Matrix(shape, kept, *known, by_weight)
        bits = matrix.decode(coder, scale, offsets)
    assert coder.is_at_its_end()
    return bits


class Line:
    """What is counted of a row or a column."""

    def __init__(self):
        self.coded = self.changed = self.surprise = self.variance = 0

    def push(self, factor):
        return clip(factor * self.surprise // (self.variance + 4096), -640, 640)


class Matrix:
    def __init__(self, shape, kept, quantiles, weights, base, free, by_weight):
        n = math.prod(shape)
        self.free, self.n = free, sum(free)
        last_but_one = len(shape) > 1 and shape[-1] == 1
        self.C = shape[-2] if last_but_one else shape[-1]
        self.R = n // self.C
        self.sign = [1] * n
        if weights is not None:
            self.sign = [int(math.copysign(1, w)) for w in weights]
        self.guess, self.d, self.moved = (
            [int(2 * kept > self.n)] * n,
            [0] * n,
            [0] * n,
        )
        if quantiles is not None:
            T = 65536 * (self.n - kept) // self.n
            self.guess = [int(q >= T) for q in quantiles]
            units = map(exponent, weights) if by_weight else [1016] * n
            self.d = [
                exponent(2 * abs(q - T) + 1) - unit
                for q, unit in zip(quantiles, units, strict=True)
            ]
        self.rows = [Line() for _ in range(self.R)]
        self.columns = [Line() for _ in range(self.C)]
        self.S, self.X = [0] * n, [0] * n
        if base is not None:
            if quantiles is not None:
                self.moved = [
                    (a ^ b) * is_free
                    for a, b, is_free in zip(
                        base, self.guess, free, strict=True
                    )
                ]
                self.X = [32 * moved for moved in self.moved]
                self.S = [
                    x * sign * (1 if bit else -1)
                    for x, sign, bit in zip(
                        self.X, self.sign, base, strict=True
                    )
                ]
                for place, moved in enumerate(self.moved):
                    i, j = divmod(place, self.C)
                    for line in (self.rows[i], self.columns[j]):
                        line.coded += free[place]
                        line.changed += moved
            self.guess = base
        first = [FIRST, [65536 - p for p in FIRST]] * 2
        self.ones = [16 * p for part in first for p in part]
        self.zeros = [16 * 65536 - ones for ones in self.ones]

    def cells(self):
        classes = [[], [], [], []]
        for i in range(self.R):
            x = i * 0x9E3779B1 % 2**32
            x ^= x >> 15
            classes[(x * 0x85EBCA77 >> 30) % 4].append(i)
        first = True
        for turn in range(4):
            for k in range(4):
                rows = classes[k]
                columns = range((k + turn) % 4, self.C, 4)
                if not rows or not columns:
                    continue
                ends = [0, len(rows)]
                if first:
                    ends[1:1] = [len(rows) >> s for s in (4, 3, 2, 1)]
                    first = False
                for begin, end in itertools.pairwise(ends):
                    if begin < end:
                        yield [(i, j) for i in rows[begin:end] for j in columns]

    def beside(self, i):
        for o in self.offsets:
            for other in (i - o, i + o):
                if 0 <= other < self.R:
                    yield other

    def scale(self, line, beside=None):
        A = sum(row.coded for row in self.rows)
        B = sum(row.changed for row in self.rows)
        if A == 0:
            return 0
        if not self.offsets or beside is None:
            a, b = line.coded, line.changed
            return log2((b + 4) * A) - log2(a * B + 4 * A) >> 2
        b = sum(self.rows[i].changed for i in beside)
        a = sum(self.rows[i].coded for i in beside)
        k = 256 * 12 * ((b + 3) * A) // (a * B + 3 * A)
        actual = (256 * line.changed + k) * A
        expected = (line.coded * B + 12 * A) * 256
        return log2(actual) - log2(expected) >> 2

    def decode(self, coder, scale, offsets):
        self.offsets = offsets
        bits = [None] * len(self.free)
        for cell in self.cells():
            cell = [(i, j) for i, j in cell if self.free[i * self.C + j]]
            row_scales = {
                i: self.scale(self.rows[i], list(self.beside(i)))
                for i in {i for i, _ in cell}
            }
            column_scales = {
                j: self.scale(self.columns[j]) for j in {j for _, j in cell}
            }
            learned = []
            for i, j in cell:
                place = i * self.C + j
                near = aside = 0
                if offsets:
                    others = [o * self.C + j for o in self.beside(i)]
                    change = sum(self.X[o] for o in others)
                    surprise = sum(self.S[o] for o in others)
                    near = log2(abs(change) + 200) - log2(200) >> 2
                    near = -near if change < 0 else near
                    V = sum(row.variance for row in self.rows)
                    V = 2 * len(offsets) * V // self.n
                    aside = surprise * (133120 // (V + 560)) >> 8
                distance = self.d[place] + 28 - scale - near
                distance -= row_scales[i] + column_scales[j]
                context = clip(distance >> 1, 0, 31)
                context += 32 * self.guess[place] + 64 * self.moved[place]
                odds = log2(self.ones[context]) - log2(self.zeros[context])
                odds = clip(odds, -640, 640)
                push = self.rows[i].push(92) + self.columns[j].push(185) + aside
                t = clip(odds + self.sign[place] * push, -640, 640)
                bits[place] = coder.bit(ZEROS[t])
                learned.append((i, j, context, odds))
            for i, j, context, odds in learned:
                self.learn(i, j, context, odds, bits[i * self.C + j])
        return bits

    def learn(self, i, j, context, odds, bit):
        place = i * self.C + j
        N = 2**24 - ZEROS[odds]
        changed = bit != self.guess[place]
        S = (64 * bit - (N + 2**17 >> 18)) * self.sign[place]
        self.S[place] = S
        self.X[place] = abs(S) if changed else -abs(S)
        (self.ones if bit else self.zeros)[context] += 65536
        for line in (self.rows[i], self.columns[j]):
            line.coded += 1
            line.changed += changed
            line.surprise += S
            line.variance += ZEROS[odds] * N >> 40
