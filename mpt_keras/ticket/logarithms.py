"""Logarithms and logistic functions in integers, the same on every machine.

Logarithms to base 2, in units of 1/32. All tables come from integer
arithmetic, and nothing else is computed than sums and look-ups.
"""

import math

import numpy as np

UNIT = 32  # of a factor of 2
_CELLS = 256
CERTAIN = 20 * UNIT  # odds of 2**20, beyond which nothing is surer


def _powers():
    """floor(2**(60 + i / UNIT)) for i = 0 ... UNIT - 1, by square roots."""
    bits = UNIT.bit_length() - 1
    roots = []  # 2**(1/2), 2**(1/4), ... with 200 binary digits
    root = 2 << 400
    for _ in range(bits):
        root = math.isqrt(root)
        roots.append(root)
        root <<= 200
    powers = []
    for i in range(UNIT):
        power = 1 << 200
        for bit, root in enumerate(roots):
            if i >> (bits - 1 - bit) & 1:
                power = power * root >> 200
        powers.append(power >> 140)
    return powers


_POWERS = _powers()


def _mantissas():
    """round(UNIT * log2(1 + (i + 1/2) / 256)), by comparing with powers."""
    table = []
    halves = [
        math.isqrt(a * b)
        for a, b in zip(_POWERS, [*_POWERS[1:], 2 << 60], strict=True)
    ]
    for i in range(_CELLS):
        middle = (2 * _CELLS + 2 * i + 1) << 60
        table.append(sum(middle > half * 2 * _CELLS for half in halves))
    return np.array(table, "int32")


MANTISSAS = _mantissas()


def log2(values):
    """UNIT * log2 of positive integers below 2**53, to about one unit.

    A number `2**e * (1 + f)` gives `UNIT * e + table[floor(256 * f)]`.

    Args:
        values: Integer array, at least 1.

    Returns:
        int32 array.
    """
    bits = np.asarray(values).astype("float64").view("int64")
    exponents = (bits >> 52).astype("int32") - 1023
    return exponents * UNIT + MANTISSAS[bits >> 44 & 255]


def _zero_weights():
    """Of 2**24, the weight of a 0 where the odds of a 1 are 2**(i / UNIT)."""
    weights = []
    for i in range(-CERTAIN, CERTAIN + 1):
        whole, part = divmod(i, UNIT)
        odds = _POWERS[part] << (60 + whole)  # 120 binary digits
        weights.append((1 << 144) // ((1 << 120) + odds))
    return np.array(weights, "int64")


ZERO_WEIGHTS = _zero_weights()
