"""Masks in bytes: short, the same on every machine, never a crash."""

import hashlib
import math
import subprocess
import sys

import numpy as np
import pytest
import slow_mask_decoder
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from mpt_keras.ticket import (
    logarithms,
    mask_codec,
    mask_model,
    mask_weights,
    range_coder,
)
from mpt_keras.ticket.mask_codec import decode_mask, encode_mask
from mpt_keras.ticket.start import (
    Start,
    draw_quantiles,
    quantiles_by_rank,
    quantiles_of_raw,
)

SHAPES = [
    (1,),
    (7,),
    (1, 1),
    (300, 1),
    (1, 300),
    (3, 3, 16, 1),
    (3, 3, 3, 8),
    (5, 4, 3, 2, 2),
    (64, 10),
    (130, 50),
]


def bound(kept, size):
    """Bytes of a mask of which nothing is known."""
    share = kept / size
    if share in (0, 1):
        return 0
    entropy = -share * math.log2(share) - (1 - share) * math.log2(1 - share)
    return size * entropy / 8


def a_start(shape, seed, kernel=True):
    rng = np.random.default_rng(seed)
    return Start(
        rng.integers(0, 1 << 16, shape, "uint16"),
        rng.standard_normal(shape, "float32") if kernel else None,
    )


def searched(start, share, seed, noise=0.1):
    """A mask as training makes it: scores move by |w| times a gradient."""
    rng = np.random.default_rng(seed)
    rows, columns = start.quantiles.shape
    gradients = rng.standard_normal((rows, columns))
    gradients *= noise * rng.gamma(1, 1, (rows, 1)) * rng.gamma(2, 0.5, columns)
    gradients += noise * rng.standard_normal(columns)
    scores = start.quantiles / 65536 + start.kernel * gradients
    kept = max(1, round(share * scores.size))
    return scores >= np.sort(scores, axis=None)[-kept]


@settings(deadline=None, max_examples=examples(50))
@given(
    weights=st.lists(
        st.integers(1, 2**24 - 1)
        | st.sampled_from([1, 2**23 - 1, 2**23, 2**23 + 1, 2**24 - 1]),
        max_size=400,
    ),
    seed=st.integers(0, 2**32),
)
def test_the_range_coder_is_what_the_document_says(weights, seed):
    bits = np.random.default_rng(seed).random(len(weights)) < 0.5
    coder = range_coder.Encoder()
    coder.encode(bits, range_coder.zero_weights_to_floats(weights))
    data = coder.finish()
    slow = slow_mask_decoder.RangeDecoder(data)
    assert [slow.bit(z) for z in weights] == bits.tolist()
    assert slow.is_at_its_end()


@pytest.mark.parametrize("known", ["nothing", "scores", "start", "base", "all"])
@pytest.mark.parametrize("shape", [(1, 5), (3, 3, 6, 1), (40, 30), (2, 17, 11)])
def test_the_model_is_what_the_document_says(shape, known):
    rows, columns = math.prod(shape[:-1]), shape[-1]
    start = a_start((rows, columns), 0)
    mask = searched(start, 0.3, 1, noise=0.3).reshape(shape)
    base = searched(start, 0.3, 1, noise=0.2).reshape(shape)
    base = base if known in ("base", "all") else None
    start = Start(start.quantiles, start.kernel if known != "scores" else None)
    start = start if known in ("scores", "start", "all") else None
    kept = int(np.count_nonzero(mask))
    rows, _ = mask_codec._matrix(shape)
    for offsets in [(), (1,), (rows - 1, 1, 1, 2)]:
        if not all(0 < offset < rows for offset in offsets):
            continue
        by_weight = known in ("start", "all")
        chosen = mask_weights.Settings(140, by_weight, offsets)
        data = mask_codec._encode_modelled(mask, kept, chosen, start, base)
        arrays = [start and start.quantiles, start and start.kernel, base]
        flat = [None if a is None else a.ravel().tolist() for a in arrays]
        slow = slow_mask_decoder.decode(data, shape, kept, *flat)
        assert slow == mask.ravel().tolist()


@pytest.mark.parametrize("known", ["nothing", "scores", "start", "base", "all"])
@pytest.mark.parametrize("shape", [(1, 5), (3, 3, 6, 1), (40, 30), (2, 17, 11)])
def test_frozen_weights_are_what_the_document_says(shape, known):
    rows, columns = math.prod(shape[:-1]), shape[-1]
    start = a_start((rows, columns), 0)
    mask = searched(start, 0.3, 1, noise=0.3).reshape(shape)
    base = searched(start, 0.3, 1, noise=0.2).reshape(shape)
    base = base if known in ("base", "all") else None
    start = Start(start.quantiles, start.kernel if known != "scores" else None)
    start = start if known in ("scores", "start", "all") else None
    free = np.random.default_rng(2).random(shape) < 0.6
    mask.flat[np.flatnonzero(free)[:2]] = True, False
    kept = int(np.count_nonzero(mask & free))
    arrays = [start and start.quantiles, start and start.kernel, base, free]
    flat = [None if a is None else a.ravel().tolist() for a in arrays]
    expected = [
        int(bit) if is_free else None
        for bit, is_free in zip(mask.flat, free.flat, strict=True)
    ]
    rows, _ = mask_codec._matrix(shape)
    encoded = [mask_codec._encode_plain(mask[free], kept)]
    for offsets in [(), (1,), (rows - 1, 1, 1, 2)]:
        if all(0 < offset < rows for offset in offsets):
            chosen = mask_weights.Settings(140, known == "start", offsets)
            encoded.append(
                mask_codec._encode_modelled(
                    mask, kept, chosen, start, base, free
                )
            )
    for data in encoded:
        assert slow_mask_decoder.decode(data, shape, kept, *flat) == expected
        found = decode_mask(data, shape, kept, start, base, free)
        np.testing.assert_array_equal(found, mask & free)
    # Whatever is said of the others, it costs nothing.
    data = encode_mask(mask, start, base, free)
    assert encode_mask(mask & free, start, base, free) == data
    np.testing.assert_array_equal(
        decode_mask(data, shape, kept, start, base, free), mask & free
    )


def test_a_few_free_weights_of_many():
    # Of so many, the encoder looks at every fourth column alone.
    free = np.zeros((600, 1000), bool)
    free[[7, 100, 500], [1, 2, 3]] = True
    mask = np.zeros_like(free)
    mask[100, 2] = True
    draw = np.random.default_rng(0)
    quantiles = draw.integers(1 << 16, size=free.shape).astype("uint16")
    for start in (None, Start(quantiles, None)):
        data = encode_mask(mask, start, None, free)
        found = decode_mask(data, mask.shape, 1, start, None, free)
        np.testing.assert_array_equal(found, mask)


@settings(deadline=None, max_examples=examples(60))
@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    share=st.floats(0, 1),
    free_share=st.floats(0, 1),
    known=st.sets(st.sampled_from(["start", "kernel", "base"])),
    seed=st.integers(0, 2**32),
)
def test_masks_of_free_weights_come_back(shape, share, free_share, known, seed):
    rng = np.random.default_rng(seed)
    start = a_start(shape, seed, kernel="kernel" in known)
    start = start if "start" in known else None
    base = rng.random(shape) < share if "base" in known else None
    mask = rng.random(shape) < share
    free = rng.random(shape) < free_share
    free.flat[rng.integers(free.size)] = True
    data = encode_mask(mask, start, base, free)
    kept = int(np.count_nonzero(mask & free))
    np.testing.assert_array_equal(
        decode_mask(data, shape, kept, start, base, free), mask & free
    )


def test_frozen_weights_take_no_bytes():
    start = a_start((200, 300), 0)
    mask = searched(start, 0.5, 1)
    whole = len(encode_mask(mask, start))
    free = np.random.default_rng(1).random(mask.shape) < 0.3
    assert len(encode_mask(mask, start, free=free)) < 0.34 * whole


def test_tables_are_what_the_document_says():
    assert logarithms.MANTISSAS.tolist() == slow_mask_decoder.LOG2
    assert logarithms.ZERO_WEIGHTS.tolist() == [
        *slow_mask_decoder.ZEROS.values()
    ]
    assert mask_model.CHANGES.tolist() == slow_mask_decoder.FIRST


def test_one_probability_is_the_same_as_many():
    bits = np.arange(1000) % 3 == 0
    float_ = range_coder.zero_weights_to_floats(11_000_000)
    one, many = range_coder.Encoder(), range_coder.Encoder()
    one.encode(bits, float_)
    many.encode(bits, np.full(1000, float_))
    assert one.finish() == many.finish()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("known", ["nothing", "start", "scores", "base", "all"])
def test_masks_come_back(shape, known):
    rng = np.random.default_rng(len(shape))
    size = math.prod(shape)
    start = a_start(shape, 1, kernel=known != "scores")
    start = None if known in ("nothing", "base") else start
    for kept in {0, 1, size // 5, size - 1, size}:
        mask = np.zeros(size, bool)
        mask[rng.permutation(size)[:kept]] = True
        mask = mask.reshape(shape)
        base = mask ^ (rng.random(shape) < 0.1) if known in "base all" else None
        data = encode_mask(mask, start, base)
        assert np.array_equal(decode_mask(data, shape, kept, start, base), mask)
        assert len(data) <= 1.01 * bound(kept, size) + 64
        if kept == size:
            assert len(data) == 1


@settings(deadline=None, max_examples=examples(40))
@given(
    rows=st.integers(1, 60),
    columns=st.integers(1, 60),
    share=st.floats(0, 1),
    noise=st.sampled_from([0, 0.01, 0.3, 30]),
    seed=st.integers(0, 2**32),
)
def test_any_mask_comes_back_below_the_bound(rows, columns, share, noise, seed):
    start = a_start((rows, columns), seed)
    mask = searched(start, share, seed, noise)
    kept = int(np.count_nonzero(mask))
    data = encode_mask(mask, start)
    assert len(data) <= 1.01 * bound(kept, mask.size) + 64
    assert np.array_equal(decode_mask(data, mask.shape, kept, start), mask)


@pytest.mark.parametrize("share", [1e-5, 0.1, 0.5, 0.8])
def test_a_random_mask_costs_its_entropy(share):
    shape = (500, 400)
    mask = np.random.default_rng(0).random(shape) < share
    data = encode_mask(mask, a_start(shape, 1))
    assert len(data) <= 1.01 * bound(np.count_nonzero(mask), mask.size) + 64


def test_what_is_known_makes_masks_shorter():
    start = a_start((400, 300), 0)
    mask = searched(start, 0.5, 1)
    scores_only = Start(start.quantiles)
    changed = mask.copy()
    changed[7, :20] ^= True
    sizes = [
        len(encode_mask(mask, start, changed)),
        len(encode_mask(mask, None, changed)),
        len(encode_mask(mask, start)),
        len(encode_mask(mask, scores_only)),
        len(encode_mask(mask)),
    ]
    assert max(sizes[:2]) < 120
    assert sizes[2:] == sorted(sizes[2:])
    assert sizes[2] < 0.6 * sizes[4]


def test_rows_and_columns_of_their_own_make_a_mask_alone_shorter():
    rng = np.random.default_rng(0)
    share = rng.beta(0.3, 1, (300, 1)) * rng.beta(1, 1, 100)
    mask = rng.random((300, 100)) < share
    assert len(encode_mask(mask)) < 0.9 * bound(mask.sum(), mask.size)


def test_rows_whose_changes_are_alike_help():
    rng = np.random.default_rng(0)
    start = a_start((640, 64), 0)
    gradients = np.repeat(rng.standard_normal((10, 64)), 64, 0).reshape(
        10, 64, 64
    )
    gradients = gradients.transpose(1, 0, 2).reshape(
        640, 64
    )  # alike: 10 rows on

    def size(order):
        scores = start.quantiles / 65536 + 0.2 * start.kernel * gradients[order]
        return len(encode_mask(scores > np.median(scores), start))

    assert size(np.arange(640)) < 0.9 * size(rng.permutation(640))


GOLDEN = {
    "nothing": (753, "fd3f2433d551cca8"),
    "scores": (553, "e1b32485e4c68a59"),
    "start": (421, "cb38dac07ffd8093"),
    "base": (593, "cdb4c03bad33bdae"),
    "all": (441, "b6cce3e641a6168c"),
}


@pytest.mark.parametrize("known", GOLDEN)
def test_bytes_never_change(known):
    """What was written once must be read for ever, on every machine."""
    kernel = draw_quantiles(3, 0, 6000).astype("float32")
    kernel = (kernel * np.float32(2**-16) - np.float32(0.5)).reshape(100, 60)
    quantiles = draw_quantiles(3, 1, 6000).reshape(100, 60)
    rows, columns = np.ogrid[:100, :60]
    gradients = (rows % 20 * 7 + columns * 5) % 31 - 12
    moved = quantiles + 2**13 * kernel * gradients
    mask, base = moved > np.median(moved), quantiles > 2**15
    start = Start(quantiles, kernel if known != "scores" else None)
    start = start if known in ("scores", "start", "all") else None
    base = base if known in ("base", "all") else None
    data = encode_mask(mask, start, base)
    assert (len(data), hashlib.sha256(data).hexdigest()[:16]) == GOLDEN[known]


def test_quantiles_of_raw_numbers_are_those_of_their_scores():
    raw = np.random.Philox(key=5 | 1 << 64).random_raw(70_000)
    scores = ((raw >> 11).astype("float64") + 0.5) * 2.0**-52 - 1
    expected = np.floor(np.abs(scores) * 2**16)
    assert np.array_equal(quantiles_of_raw(raw), expected)
    assert np.array_equal(draw_quantiles(5, 1, 70_000), expected)


def test_quantiles_by_rank():
    values = np.array([[0.5, -3.0], [-0.5, 0.0]])
    expected = [[1 << 14, 3 << 14], [2 << 14, 0]]
    assert quantiles_by_rank(values).tolist() == expected


def test_logarithms():
    values = np.random.default_rng(0).integers(1, 2**52, 10_000)
    values = np.concatenate([values, np.arange(1, 1000)])
    difference = logarithms.log2(values) - 32 * np.log2(values)
    assert np.abs(difference).max() < 0.6


def test_cells_are_all_weights_once():
    for shape in [(1, 1), (1, 9), (9, 1), (27, 64), (100, 3)]:
        settings_ = mask_weights.Settings(0)
        model = mask_model.MaskModel(shape, 1, settings_)
        seen = np.zeros(shape, int)
        for rows, column_class in model.cells():
            seen[rows, column_class :: mask_weights.CLASSES] += 1
        assert np.all(seen == 1)


# --- Bad input ---------------------------------------------------------------


def check_refused_or_right(data, shape, kept, start):
    """Either `ValueError`, or a mask of the shape that keeps as many."""
    try:
        mask = decode_mask(data, shape, kept, start)
    except ValueError:
        return False
    assert mask.shape == shape
    assert np.count_nonzero(mask) == kept
    return True


@settings(deadline=None, max_examples=examples(300))
@given(data=st.binary(max_size=80), kept=st.integers(0, 120))
def test_any_bytes_are_refused_or_a_mask(data, kept):
    start = a_start((10, 12), 0)
    for kind in range(3):
        check_refused_or_right(bytes([kind]) + data, (10, 12), kept, start)
    check_refused_or_right(data, (10, 12), kept, None)


def test_truncated_and_flipped_records():
    start = a_start((40, 30), 0)
    mask = searched(start, 0.5, 1)
    kept = int(np.count_nonzero(mask))
    data = encode_mask(mask, start)
    assert data[0] == 2
    for end in range(len(data)):
        if end % 4 != len(data) % 4:
            assert not check_refused_or_right(
                data[:end], mask.shape, kept, start
            )
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        check_refused_or_right(bytes(flipped), mask.shape, kept, start)
    assert not check_refused_or_right(data + bytes(8), mask.shape, kept, start)


@pytest.mark.parametrize(
    ("data", "kept", "reason"),
    [
        (b"", 5, "kind None"),
        (b"\x07abcd", 5, "kind 7"),
        (b"\x00", 5, "all weights or none"),
        (b"\x00\x00", 100, "one byte"),
        (b"\x01abc", 5, "3 bytes"),
        (b"\x01abcd", 0, "0 of 100 kept"),
        (b"\x01abcd", 101, "between 0 and 100"),
        (b"\x01" + b"\xff" * 400, 50, "no encoder"),
        (b"\x01" + bytes(400), 50, "more words"),
        (b"\x02", 5, "at least 5 bytes"),
        (b"\x02\x00\x70\x00\x00", 5, "scale"),
        (b"\x02\x00\x00\x02\x00", 5, "units.*Received: 2"),
        (b"\x02\x00\x00\x00\x05" + bytes(20), 5, "5 offsets"),
        (b"\x02\x00\x00\x00\x01\x0a\x00\x00\x00", 5, "within 10 rows"),
        (b"\x02\x00\x00\x00\x01\x00\x00\x00\x00", 5, "within 10 rows"),
        (b"\x02\x00\x00\x00\x02\x01\x00\x00\x00", 5, "2 offsets in 9 by"),
    ],
)
def test_errors_say_what_is_wrong(data, kept, reason):
    with pytest.raises(ValueError, match=reason):
        decode_mask(data, (10, 10), kept, a_start((10, 10), 0))


def test_arrays_that_do_not_fit_are_refused():
    mask = np.ones((3, 4), bool)
    quantiles = np.zeros((3, 4), "uint16")
    kernel = np.zeros((3, 4), "float32")
    with pytest.raises(ValueError, match="boolean array"):
        encode_mask(np.ones((3, 4)))
    with pytest.raises(ValueError, match="at least one weight"):
        encode_mask(mask[:0])
    with pytest.raises(ValueError, match=r"start\.quantiles.*12 of int64"):
        encode_mask(mask, Start(quantiles.astype("int64")))
    with pytest.raises(ValueError, match=r"start\.kernel.*9 of float32"):
        encode_mask(mask, Start(quantiles, kernel[:, :3]))
    with pytest.raises(ValueError, match="`base`"):
        decode_mask(b"\x00", (3, 4), 12, base=mask[:2])


def test_the_codec_needs_no_keras():
    code = (
        "import sys, mpt_keras.ticket.mask_codec; "
        "assert 'keras' not in sys.modules; assert 'scipy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
