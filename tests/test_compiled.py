"""Compiled code that reads tickets gives what NumPy gives, to the bit."""

import contextlib
import math

import golden_tickets
import numpy as np
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from mpt_keras import compiled
from mpt_keras.drawing import Draw
from mpt_keras.runtime import library, processor
from mpt_keras.ticket import mask_codec
from mpt_keras.ticket.mask_codec import decode_mask, encode_mask
from mpt_keras.ticket.mask_weights import Settings
from mpt_keras.ticket.start import Start, draw_quantiles

LEVELS = sorted({processor.levels()[0], processor.levels()[-1]})
WORD = st.integers(0, 2**64 - 1)
KNOWN = ("nothing", "scores", "start", "base", "scores base", "start base")


@pytest.fixture(params=LEVELS, scope="module")
def both(request):
    """Computes something by NumPy and by compiled code."""
    kernels = library.load(request.param)
    if kernels is None:
        pytest.skip("no compiler")

    def compute(function, *arguments):
        with by(None):
            expected = function(*arguments)
        with by(kernels.function):
            return function(*arguments), expected

    return compute


@contextlib.contextmanager
def by(find):
    before = compiled._find
    compiled.use(find)
    try:
        yield
    finally:
        compiled.use(before)


def assert_same_bits(pair):
    found, expected = pair
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert found.tobytes() == expected.tobytes()


@settings(deadline=None, max_examples=examples(100))
@given(
    distribution=st.sampled_from(
        ["kaiming_normal", "signed_constant", "kaiming_uniform"]
    ),
    seed=WORD,
    stream=WORD,
    size=st.integers(0, 40) | st.integers(2**15 - 3, 2**15 + 3),
    fan_in=st.floats(0.5, 1e6),
)
def test_draws(both, distribution, seed, stream, size, fan_in):
    draw = Draw(distribution, seed, stream, fan_in)
    assert_same_bits(both(draw.values, (size,)))
    assert_same_bits(both(draw_quantiles, seed, stream, size))


def known_of_a_mask(known, shape, rng):
    start = base = None
    if "scores" in known or "start" in known:
        kernel = rng.standard_normal(shape, "float32")
        start = Start(
            rng.integers(0, 2**16, shape, "uint16"),
            kernel if "start" in known else None,
        )
    if "base" in known:
        base = rng.random(shape) < rng.random()
    return start, base


def a_mask(start, base, shape, rng):
    """Like what is known of it."""
    mask = rng.random(shape) < rng.random()
    if start is not None:
        mask = start.quantiles > 2**16 * rng.random()
    if base is not None:
        mask = base
    return mask ^ (rng.random(shape) < rng.choice([0.0, 0.02, 0.3]))


@settings(deadline=None, max_examples=examples(150))
@given(
    shape=st.lists(st.integers(1, 40), max_size=2).map(tuple)
    | st.tuples(*[st.integers(1, 7)] * 4),
    known=st.sampled_from(KNOWN),
    scale=st.sampled_from([-2048, -7, 0, 140, 2048]),
    offsets=st.lists(st.integers(1, 40), max_size=4),
    seed=st.integers(0, 2**32),
    damage=st.none() | st.integers(0, 2**32),
)
def test_masks(both, shape, known, scale, offsets, seed, damage):
    rng = np.random.default_rng(seed)
    start, base = known_of_a_mask(known, shape, rng)
    mask = a_mask(start, base, shape, rng)
    kept = int(np.count_nonzero(mask))
    rows, _ = mask_codec._matrix(shape)
    chosen = Settings(
        scale,
        "start" in known and bool(seed % 2),
        tuple(offset for offset in offsets if offset < rows),
    )
    if kept in (0, mask.size):
        return
    for data in (
        mask_codec._encode_plain(mask, kept),
        mask_codec._encode_modelled(mask, kept, chosen, start, base),
    ):
        if damage is not None:
            data = damaged(data, damage)
        assert_alike(both(outcome, data, shape, kept, start, base))


def damaged(data, damage):
    data = bytearray(data)
    data[damage % len(data)] ^= 1 + damage // len(data) % 255
    return bytes(data) + bytes(damage % 3 * 4)


def outcome(*arguments):
    """The mask, or why there is none."""
    try:
        return decode_mask(*arguments)
    except ValueError as error:
        return str(error)


def assert_alike(pair):
    if isinstance(pair[1], str):
        assert pair[0] == pair[1]
    else:
        assert_same_bits(pair)


@settings(deadline=None, max_examples=examples(100))
@given(
    data=st.binary(max_size=100),
    kept=st.integers(0, 120),
    kind=st.integers(1, 2),
)
def test_any_bytes(both, data, kept, kind):
    start = Start(np.arange(120, dtype="uint16") * 546)
    data = bytes([kind]) + data
    assert_alike(both(outcome, data, (10, 12), kept, start))


@pytest.mark.parametrize("shape", [(3, 3, 64, 96), (2000, 1), (1, 3000)])
def test_large_masks_and_what_an_encoder_chooses(both, shape):
    rng = np.random.default_rng(0)
    start = Start(
        draw_quantiles(3, 1, math.prod(shape)).reshape(shape),
        rng.standard_normal(shape, "float32"),
    )
    moved = start.kernel * rng.standard_normal(shape[-1]) * 9000
    moved += start.quantiles
    mask = moved > np.quantile(moved, 0.75)
    data = encode_mask(mask, start)
    kept = int(np.count_nonzero(mask))
    found, _ = pair = both(decode_mask, data, shape, kept, start)
    assert_same_bits(pair)
    np.testing.assert_array_equal(found, mask)


@pytest.mark.parametrize(
    "name", sorted(path.name for path in golden_tickets.FOLDER.glob("*.ticket"))
)
def test_golden_tickets(both, name):
    digests = both(lambda: golden_tickets.digests(golden_tickets.read(name)))
    assert digests[0] == digests[1]


def test_compiled_code_is_used_where_there_is_some(both):
    """What does not compute at all would agree with itself."""
    called = []

    def find(name):
        called.append(name)
        return library.load().function(name)

    mask = np.arange(600).reshape(20, 30) % 7 == 0
    start = Start(np.arange(600, dtype="uint16").reshape(20, 30))
    data = mask_codec._encode_modelled(
        mask, mask.sum(), Settings(0), start, None
    )
    with by(find):
        Draw("kaiming_normal", 0, 0, 1.0).values((5,))
        draw_quantiles(0, 1, 5)
        decode_mask(data, mask.shape, mask.sum(), start)
        decode_mask(
            mask_codec._encode_plain(mask, mask.sum()), mask.shape, mask.sum()
        )
    assert set(called) == {
        *("draw_from_table", "draw_quantiles", "decode_plain_mask"),
        *("modelled_mask_bytes", "decode_modelled_mask"),
    }
