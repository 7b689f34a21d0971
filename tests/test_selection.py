import numpy as np
import oracle
import pytest
from backend import FORMS, as_numpy, examples, needs_tensorflow, tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from keras import ops

from mpt_keras import global_selection, selection, threshold
from mpt_keras.sparsity import pruned_count

TOP_MASKS = {name: form(selection.top_mask) for name, form in FORMS.items()}

finite = st.floats(
    width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False
)
# Few distinct values, so that ties are the rule.
tied = st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.0, float("inf")])


def mask_of(scores, sparsity, form="eager"):
    scores = ops.convert_to_tensor(scores)
    size = int(np.prod(scores.shape))
    kept = size - pruned_count(sparsity, size)
    return as_numpy(
        TOP_MASKS[form](scores, ops.convert_to_tensor(kept, "int32"))
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("dtype", "shape", "sparsity"),
    [
        ("float32", (1,), 0.5),
        ("float32", (7,), 0.29),
        ("float32", (3, 3, 8, 16), 0.0),
        ("float32", (3, 3, 8, 16), 0.9),
        ("float32", (1000, 33), 0.5),
        ("float32", (1000, 33), 0.99999),
        *(
            (dtype, shape, sparsity)
            for dtype in ("bfloat16", "float16")
            for shape, sparsity in (((7,), 0.29), ((1000, 33), 0.5))
        ),
    ],
)
def test_mask_is_the_oracles(form, dtype, shape, sparsity, rng):
    scores = ops.cast(rng.standard_normal(shape), dtype)
    expected = oracle.mask(
        ops.convert_to_numpy(ops.cast(scores, "float32")), sparsity
    )
    np.testing.assert_array_equal(mask_of(scores, sparsity, form), expected)


@pytest.mark.parametrize("form", FORMS)
def test_select_in_every_form(form, rng):
    scores = rng.standard_normal(100).astype("float32")
    select = FORMS[form](lambda scores: selection.select(scores, 0.29))
    mask = as_numpy(select(ops.convert_to_tensor(scores)))
    np.testing.assert_array_equal(mask, oracle.mask(scores, 0.29))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [0.0, -1.5, float("inf")])
def test_equal_scores_keep_the_later_positions(form, value):
    mask = mask_of(np.full((4, 5), value, "float32"), 0.75, form)
    np.testing.assert_array_equal(mask.ravel(), np.arange(20) >= 15)


@settings(max_examples=examples(200), deadline=None)
@given(
    scores=hnp.arrays(
        "float32", st.integers(1, 300), elements=st.one_of(finite, tied)
    ),
    sparsity=st.floats(0, 1, exclude_max=True),
)
def test_any_scores_give_the_oracles_mask(scores, sparsity):
    np.testing.assert_array_equal(
        as_numpy(selection.select(scores, sparsity)),
        oracle.mask(scores, sparsity),
    )


# Enough entries that a sample is drawn and that they are counted in lanes.
LARGE = 70_001
LARGE_CASES = {
    "uniform": lambda rng: rng.uniform(-0.02, 0.02, LARGE),
    "normal": lambda rng: rng.standard_normal(LARGE),
    "lognormal": lambda rng: np.exp(3 * rng.standard_normal(LARGE)),
    "few values": lambda rng: rng.integers(-3, 4, LARGE) / 7,
    "mostly zero": lambda rng: (
        rng.standard_normal(LARGE) * (rng.random(LARGE) < 0.1)
    ),
    "two scales": lambda rng: (
        rng.uniform(0.9, 1, LARGE) * np.where(rng.random(LARGE) < 0.5, 1e-3, 1)
    ),
    "sorted": lambda rng: np.sort(rng.standard_normal(LARGE)),
    "equal": lambda rng: np.ones(LARGE),
    "subnormal": lambda rng: rng.uniform(0, 1e-39, LARGE),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", LARGE_CASES)
def test_large_layers_get_the_oracles_mask(form, case, rng):
    scores = LARGE_CASES[case](rng).astype("float32")
    for sparsity in (0.0, 0.05, 0.5, 0.9, 0.9999):
        np.testing.assert_array_equal(
            mask_of(scores, sparsity, form), oracle.mask(scores, sparsity)
        )


def reads_of(bits, kept, monkeypatch, guess=None):
    """How often a search counts entries, and its result."""
    reads = []
    count = threshold._count

    def counted(mask):
        reads.append(mask.shape[0])
        return count(mask)

    with monkeypatch.context() as patched:
        patched.setattr(threshold, "_count", counted)
        found = threshold.threshold(
            bits, ops.convert_to_tensor(kept, "int32"), guess
        )
    return len(reads), found


def test_a_search_takes_few_reads(rng, monkeypatch):
    reads, reads_near = [], []
    for _ in range(20):
        scores = rng.standard_normal(LARGE).astype("float32")
        bits = threshold.as_bits(ops.convert_to_tensor(scores))
        kept = int(rng.integers(1, LARGE))
        count, (key, _, mask) = reads_of(bits, kept, monkeypatch)
        reads.append(count)
        assert reads_of(bits, kept, monkeypatch, key)[0] == 1
        moved = scores * (1 + 1e-3 * rng.standard_normal(LARGE))
        bits = threshold.as_bits(ops.convert_to_tensor(moved, "float32"))
        count, (_, _, mask) = reads_of(bits, kept, monkeypatch, key)
        reads_near.append(count)
        np.testing.assert_array_equal(
            as_numpy(mask),
            selection.top_mask_of_array(moved.astype("float32"), kept),
        )
    assert np.mean(reads) < 10
    assert np.mean(reads_near) < 8


@settings(max_examples=examples(100), deadline=None)
@given(
    scores=hnp.arrays("float32", st.integers(1, 50), elements=tied | finite),
    guess=st.integers(0, 2**31 - 1),
    data=st.data(),
)
def test_a_guess_changes_nothing(scores, guess, data):
    kept = data.draw(st.integers(1, scores.size))
    tensors = [ops.convert_to_tensor(value, "int32") for value in (kept, guess)]
    found, _ = selection.top_mask_near(ops.convert_to_tensor(scores), *tensors)
    expected = selection.top_mask_of_array(scores, kept)
    np.testing.assert_array_equal(as_numpy(found), expected)


@pytest.mark.parametrize("size", [1, 17, 8_191, 8_192, 8_193, 40_000])
@pytest.mark.parametrize("values", [2, 3, 10**9])
def test_sizes_at_which_layers_share_a_function(size, values, xla, rng):
    scores = rng.integers(0, values, size).astype("float32")
    top_mask = FORMS.get("graph", FORMS["eager"])(selection.top_mask)
    for kept in {1, -(-size // 3), size}:
        found = top_mask(
            ops.convert_to_tensor(scores), ops.convert_to_tensor(kept, "int32")
        )
        expected = selection.top_mask_of_array(scores, kept)
        np.testing.assert_array_equal(as_numpy(found), expected)


@settings(max_examples=examples(100), deadline=None)
@given(
    scores=hnp.arrays("float32", st.integers(1, 50), elements=tied | finite),
    data=st.data(),
)
def test_sorting_finds_the_same(scores, data):
    kept = data.draw(st.integers(1, scores.size))
    bits = threshold.as_bits(ops.convert_to_tensor(scores))
    kept = ops.convert_to_tensor(kept, "int32")
    key, surplus, mask = threshold._threshold_by_sorting(bits, kept)
    expected_key, expected_surplus, _ = threshold.threshold(bits, kept)
    assert int(surplus) == int(expected_surplus)
    reaching = as_numpy(threshold.magnitude_keys(bits)) >= int(key)
    np.testing.assert_array_equal(as_numpy(mask), reaching)
    assert reaching.sum() == int(threshold.count_reaching(bits, expected_key))


@settings(max_examples=examples(100), deadline=None)
@given(
    values=st.lists(st.integers(0, 3), min_size=1, max_size=200),
    data=st.data(),
)
def test_where_ties_begin_to_be_kept(values, data):
    key = data.draw(st.sampled_from(values))
    tied = np.flatnonzero(np.array(values) == key)
    surplus = data.draw(st.integers(0, len(tied) - 1))
    found = threshold.first_kept(
        *(ops.convert_to_tensor(x, "int32") for x in (values, key, surplus))
    )
    assert int(found) == tied[surplus]


@settings(max_examples=examples(100), deadline=None)
@given(
    parts=st.lists(
        hnp.arrays("float32", st.integers(1, 40), elements=tied | finite),
        min_size=1,
        max_size=5,
    ),
    sparsity=st.floats(0, 1, exclude_max=True),
)
def test_global_shares_are_those_of_one_long_vector(parts, sparsity):
    mask = oracle.mask(np.concatenate(parts), sparsity)
    bounds = np.cumsum([part.size for part in parts])[:-1]
    expected = [part.sum() for part in np.split(mask, bounds)]
    shares, raw_shares, _ = global_selection.shares_of_global_selection(
        [ops.convert_to_tensor(part) for part in parts],
        ops.convert_to_tensor(int(mask.sum()), "int32"),
    )
    np.testing.assert_array_equal(as_numpy(raw_shares), expected)
    np.testing.assert_array_equal(as_numpy(shares), np.maximum(expected, 1))


@pytest.mark.parametrize(
    ("sparsity", "size", "pruned"),
    [
        (0.29, 100, 29),
        (0.57, 100, 57),
        (0.8, 10, 8),
        (0.9, 10, 9),
        (0.0, 5, 0),
        (0.999, 5, 4),
        (0.5, 1, 0),
        (0.99, 2**24, 16609443),
        (1 / 3, 3, 1),
        (np.nextafter(1.0, 0.0), 1728, 1727),
        # The same number, in fewer bits.
        (np.float32(0.29), 100, 29),
        (np.float16(0.29), 100, 29),
        (np.float64(0.29), 100, 29),
    ],
)
def test_pruned_count(sparsity, size, pruned):
    assert pruned_count(sparsity, size) == pruned


@needs_tensorflow
def test_one_graph_serves_every_sparsity(rng):
    scores = ops.convert_to_tensor(rng.standard_normal(100), "float32")
    graph = tf.function(selection.top_mask)
    for kept in (1, 50, 100):
        mask = graph(scores, ops.convert_to_tensor(kept, "int32"))
        assert int(ops.sum(ops.cast(mask, "int32"))) == kept
    assert graph.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5, float("nan"), "half"])
def test_sparsity_outside_its_range_is_refused(sparsity):
    with pytest.raises(ValueError, match=r"Expected a number in\s+\[0, 1\)"):
        selection.select(np.ones(4, "float32"), sparsity)


def test_nan_scores_are_refused():
    with pytest.raises(ValueError, match="2 NaN of 3 scores"):
        selection.select(np.array([np.nan, 1, np.nan], "float32"), 0.5)


def test_keys_order_like_magnitudes(rng):
    scores = rng.standard_normal(1000).astype("float32")
    keys = as_numpy(threshold.magnitude_keys(threshold.as_bits(scores)))
    np.testing.assert_array_equal(
        np.argsort(keys, kind="stable"),
        np.argsort(np.abs(scores), kind="stable"),
    )


@settings(max_examples=examples(100), deadline=None)
@given(
    scores=hnp.arrays(
        "float32", st.integers(1, 40), elements=st.sampled_from(range(-3, 4))
    ),
    data=st.data(),
)
def test_arrays_give_the_same_mask_without_compiling(scores, data):
    kept = data.draw(st.integers(1, scores.size))
    found = selection.top_mask_of_array(scores, kept)
    expected = np.zeros(scores.size, bool)
    order = np.argsort(np.abs(scores), kind="stable")
    expected[order[scores.size - kept :]] = True
    np.testing.assert_array_equal(found, expected)
