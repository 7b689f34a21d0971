"""What a seed gives, by the words of docs/ticket_format.md."""

import hashlib
import math

import numpy as np
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from mpt_keras import drawing
from mpt_keras.drawing import Draw

WORD = 2**64


def slow_philox(seed, stream, count):
    """Philox4x64-10 in plain integers."""
    numbers = []
    block = 0
    while len(numbers) < count:
        block += 1  # the first block is the one of the counter 1
        a, b, c, d = block, 0, 0, 0
        key, other_key = seed, stream
        for _ in range(10):
            one = a * 0xD2E7470EE14C6C93
            two = c * 0xCA5A826395121157
            a, b, c, d = (
                two // WORD ^ b ^ key,
                two % WORD,
                one // WORD ^ d ^ other_key,
                one % WORD,
            )
            key = (key + 0x9E3779B97F4A7C15) % WORD
            other_key = (other_key + 0xBB67AE8584CAA73B) % WORD
        numbers += [a, b, c, d]
    return numbers[:count]


@settings(max_examples=examples(100))
@given(
    seed=st.integers(0, WORD - 1),
    stream=st.integers(0, WORD - 1),
    size=st.integers(1, 13),
)
def test_raw_numbers_are_philoxs(seed, stream, size):
    blocks = drawing.blocks_of_raw_numbers(seed, stream, size)
    raw = np.concatenate([numbers for _, numbers in blocks])
    assert raw.tolist() == slow_philox(seed, stream, size)


def test_blocks_make_one_stream():
    size = 3 * 2**15 + 5
    parts, numbers = zip(
        *drawing.blocks_of_raw_numbers(7, 1, size), strict=True
    )
    assert [part.start for part in parts] == [0, 2**15, 2**16, 3 * 2**15]
    whole = np.random.Philox(key=7 + 2**64).random_raw(size)
    np.testing.assert_array_equal(np.concatenate(numbers), whole)


def test_the_quantiles_are_those_of_the_normal_distribution():
    table = drawing.half_normal_quantiles()
    assert len(table) == 2**15
    digest = hashlib.sha256(table.astype("<f4").tobytes()).hexdigest()
    # docs/ticket_format.md says so too.
    assert digest == (
        "e230179c3827e615b4f063e99741aa697a3a8925635cf89f6dddf2f8182450ef"
    )
    for i in (0, 1, 1000, 2**14, 30000, 2**15 - 2):
        share = math.erf(table[i] / math.sqrt(2))
        assert share == pytest.approx((i + 0.5) / 2**15, abs=3e-5)
    assert math.fsum(table**2) / 2**15 == pytest.approx(1, abs=1e-7)
    assert (np.diff(table) > 0).all()


def slow_value(draw, raw):
    """One weight, from its raw number, in Python's float64."""
    sign = 1.0 if raw >= 2**63 else -1.0
    if draw.distribution == "kaiming_normal":
        quantile = float(drawing.half_normal_quantiles()[raw % 2**15])
        return sign * (quantile * math.sqrt(2.0 / draw.fan_in))
    if draw.distribution == "signed_constant":
        return sign * math.sqrt(2.0 / draw.fan_in)
    bound = math.sqrt(6.0 / ((1.0 + draw.slope**2) * draw.fan_in))
    return (2.0 * ((raw // 2**11 + 0.5) * 2.0**-53) - 1.0) * bound


@settings(max_examples=examples(100))
@given(
    distribution=st.sampled_from(sorted(drawing.DISTRIBUTIONS)),
    seed=st.integers(0, WORD - 1),
    stream=st.integers(0, 3),
    fan_in=st.floats(0.1, 1e6),
    slope=st.floats(0.0, 5.0),
)
def test_values_are_those_of_the_formulas(
    distribution, seed, stream, fan_in, slope
):
    draw = Draw(distribution, seed, stream, fan_in, slope)
    expected = [slow_value(draw, raw) for raw in slow_philox(seed, stream, 15)]
    values = draw.values((3, 5))
    assert values.dtype == np.float32
    np.testing.assert_array_equal(
        values, np.array(expected, "float32").reshape(3, 5)
    )
