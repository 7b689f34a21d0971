"""Agreement of masks against sets of positions, and against chance."""

import dataclasses
import itertools

import keras
import numpy as np
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import mpt_keras as mpt
from mpt_keras.analysis import (
    compare_all,
    compare_masks,
    masks_of,
    read_masks,
    save_masks,
)

LAYERS = {"conv": (3, 3, 2, 2), "outer/inner": (4, 3), "one": (1,)}


def some_masks():
    return st.fixed_dictionaries(
        {name: arrays.arrays(bool, shape) for name, shape in LAYERS.items()}
    )


def random_masks(seed, kept=0.5, size=10_000):
    return {"layer": np.random.default_rng(seed).random(size) < kept}


def as_set(mask, name=""):
    return {(name, at) for at in np.flatnonzero(mask.ravel())}


def check_row(row, weights, first, second):
    """Against the sets of kept positions."""
    assert (row.weights, row.kept_first) == (weights, len(first))
    assert row.kept_second == len(second)
    assert row.hamming == len(first ^ second)
    assert row.agreement == pytest.approx(1 - len(first ^ second) / weights)
    union = first | second
    jaccard = len(first & second) / len(union) if union else 1.0
    assert row.jaccard == pytest.approx(jaccard)


@settings(max_examples=examples(50), deadline=None)
@given(some_masks(), some_masks())
def test_rows_are_what_sets_say(first, second):
    comparison = compare_masks(first, second)
    assert [row.name for row in comparison.layers] == list(first)
    all_first, all_second = set(), set()
    for row in comparison.layers:
        sets = as_set(first[row.name]), as_set(second[row.name])
        check_row(row, first[row.name].size, *sets)
        all_first |= as_set(first[row.name], row.name)
        all_second |= as_set(second[row.name], row.name)
    weights = sum(mask.size for mask in first.values())
    assert comparison.total.name == "total"
    check_row(comparison.total, weights, all_first, all_second)


@settings(max_examples=examples(50), deadline=None)
@given(some_masks(), some_masks())
def test_order_does_not_matter_and_measures_have_their_ranges(first, second):
    there = compare_masks(first, second)
    back = compare_masks(second, dict(reversed(first.items())))
    reverse = {row.name: row for row in (*back.layers, back.total)}
    for one in (*there.layers, there.total):
        other = reverse[one.name]
        for measure in ("agreement", "jaccard", "hamming"):
            for name in (measure, f"{measure}_by_chance"):
                assert getattr(one, name) == pytest.approx(getattr(other, name))
        for share in ("agreement", "jaccard"):
            assert 0 <= getattr(one, share) <= 1
            assert 0 <= getattr(one, f"{share}_by_chance") <= 1
    itself = compare_masks(first, first).total
    assert (itself.agreement, itself.jaccard, itself.hamming) == (1, 1, 0)


@pytest.mark.parametrize(
    ("kept", "agreement", "jaccard"), [(0.5, 0.5, 1 / 3), (0.25, 0.625, 1 / 7)]
)
def test_chance_at_equal_sparsities(kept, agreement, jaccard):
    mask = np.arange(64) < 64 * kept
    total = compare_masks({"a": mask}, {"a": mask[::-1]}).total
    assert total.agreement_by_chance == pytest.approx(agreement)
    assert total.jaccard_by_chance == pytest.approx(jaccard)
    assert total.hamming_by_chance == pytest.approx(64 * (1 - agreement))


def test_chance_is_the_mean_over_all_independent_masks():
    """By counting: every mask of the one's size with every of the other's."""
    weights, kept_first, kept_second = 6, 4, 2

    def masks(kept):
        for chosen in itertools.combinations(range(weights), kept):
            yield {"a": np.isin(np.arange(weights), chosen)}

    rows = [
        compare_masks(first, second).total
        for first in masks(kept_first)
        for second in masks(kept_second)
    ]
    for measure in ("agreement", "hamming"):
        mean = np.mean([getattr(row, measure) for row in rows])
        assert getattr(rows[0], f"{measure}_by_chance") == pytest.approx(mean)
    both = np.mean([row.kept_in_both for row in rows])
    either = kept_first + kept_second - both
    assert rows[0].jaccard_by_chance == pytest.approx(both / either)


def test_independent_masks_are_at_chance():
    comparison = compare_masks(random_masks(0, 0.3), random_masks(1, 0.6))
    total = comparison.total
    assert total.agreement == pytest.approx(total.agreement_by_chance, abs=0.02)
    assert total.jaccard == pytest.approx(total.jaccard_by_chance, abs=0.02)
    assert total.agreement_by_chance == pytest.approx(
        0.3 * 0.6 + 0.7 * 0.4, abs=0.02
    )


def test_different_sparsities_per_layer_are_no_agreement():
    """The total's chance is that of its layers, not of one large layer."""

    def masks(seed):
        rng = np.random.default_rng(seed)
        return {
            "dense": rng.random(20_000) < 0.95,
            "sparse": rng.random(20_000) < 0.05,
        }

    total = compare_masks(masks(0), masks(1)).total
    as_one = 2 * 0.5 * 0.5
    assert total.agreement_by_chance > as_one + 0.3
    assert total.agreement == pytest.approx(total.agreement_by_chance, abs=0.01)
    assert total.jaccard == pytest.approx(total.jaccard_by_chance, abs=0.01)


def test_masks_that_keep_nothing_are_equal():
    nothing = {"a": np.zeros(4, bool)}
    total = compare_masks(nothing, nothing).total
    assert (total.jaccard, total.jaccard_by_chance) == (1, 1)
    everything = compare_masks(nothing, {"a": np.ones(4, bool)}).total
    assert (everything.jaccard, everything.jaccard_by_chance) == (0, 0)


def test_all_pairs():
    masks = {f"run {seed}": random_masks(seed) for seed in range(4)}
    comparison = compare_all(masks)
    assert comparison.labels == tuple(masks)
    pairs = [
        compare_masks(masks[one], masks[other])
        for one, other in itertools.combinations(masks, 2)
    ]
    assert comparison.pairs == tuple(pairs)
    for measure in ("agreement", "jaccard"):
        values = [getattr(pair.layers[0], measure) for pair in pairs]
        (layer,) = comparison.layers
        spread = getattr(layer, measure)
        assert spread.mean == pytest.approx(np.mean(values))
        assert (spread.least, spread.most) == (min(values), max(values))
        by_chance = [getattr(p.total, f"{measure}_by_chance") for p in pairs]
        assert spread.by_chance == pytest.approx(np.mean(by_chance))
        matrix = comparison.matrix(measure)
        np.testing.assert_array_equal(matrix, matrix.T)
        np.testing.assert_array_equal(np.diag(matrix), np.ones(4))
        assert list(matrix[np.triu_indices(4, 1)]) == [
            getattr(pair.total, measure) for pair in pairs
        ]
    np.testing.assert_array_equal(np.diag(comparison.matrix("hamming")), 0)
    with pytest.raises(ValueError, match=r"one of agreement.*'name'"):
        comparison.matrix("name")


def test_tables():
    first = {"a": np.array([True, True, False, False])}
    second = {"a": np.array([True, False, True, False])}
    columns, layer, total = compare_masks(first, second).table()
    expected = ("4", "50.00", "50.00", "2", "50.00", "50.00", "33.33", "33.33")
    assert (layer, total) == (("a", *expected), ("total", *expected))
    assert len(columns) == len(layer)
    masks = {1: first, 2: second, 3: second}
    columns, layer, total = compare_all(masks).table()
    agreement = ("66.67", "50.00-100.00", "50.00")
    jaccard = ("55.56", "33.33-100.00", "33.33")
    assert layer == ("a", "4", *agreement, *jaccard)
    assert total[1:] == layer[1:]
    assert len(columns) == len(layer)


def test_comparisons_are_data():
    comparison = compare_all({1: random_masks(1), 2: random_masks(2)})
    with pytest.raises(dataclasses.FrozenInstanceError):
        comparison.pairs[0].total.weights = 1
    assert dataclasses.asdict(comparison.total)["agreement"]["mean"] > 0


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"b": np.ones(4, bool)}, r"only one of them has .*\['a', 'b'\]"),
        ({"a": np.ones((3, 1), bool)}, r"'a' has the shape \(3,\) .*\(3, 1\)"),
        ({"a": np.ones(3)}, "must be a boolean NumPy array"),
        ({}, "There are no masks"),
    ],
)
def test_masks_that_cannot_be_compared(other, message):
    masks = {"a": np.ones(3, bool)}
    with pytest.raises(ValueError, match=message):
        compare_masks(masks, other)
    with pytest.raises(ValueError, match=message):
        compare_all({"one": masks, "two": masks, "three": other})


def test_pairs_need_two():
    with pytest.raises(ValueError, match=r"two tickets at least.*\['one'\]"):
        compare_all({"one": {"a": np.ones(3, bool)}})


# --- Of other names, over other kernels -------------------------------------


def unnamed_model(scores, kernels=0):
    """An instance like the others but for the names that Keras gives."""

    def layer(units, number):
        return mpt.MPTDense(
            units,
            scores_initializer=keras.initializers.RandomUniform(
                -1, 1, seed=10 * scores + number
            ),
            seed=10 * kernels + number,
        )

    return keras.Sequential([keras.Input((5,)), layer(4, 1), layer(3, 2)])


def test_instances_of_one_unnamed_model_are_matched_by_position():
    first, second = (masks_of(unnamed_model(scores)) for scores in (1, 2))
    assert first.keys() != second.keys()
    with pytest.warns(UserWarning, match="by position") as warned:
        comparison = compare_masks(first, second)
    assert len(warned) == 1
    assert warned[0].filename == __file__
    renamed = dict(zip(first, second.values(), strict=True))
    assert comparison == compare_masks(first, renamed)
    with pytest.warns(UserWarning, match="'one' and 'two', 'three'") as warned:
        both = compare_all({"one": first, "two": second, "three": second})
    assert len(warned) == 1
    assert both.pairs[0] == both.pairs[1] == comparison


def test_masks_over_other_kernels(tmp_path):
    def masks(kernels, name, suffix):
        """The same scores over kernels, by way of a file."""
        model = unnamed_model(scores=1, kernels=kernels)
        if suffix == "keras":
            model.save(tmp_path / f"{name}.keras")
        else:
            save_masks(masks_of(model), tmp_path / f"{name}.npz")
        found = read_masks(tmp_path / f"{name}.{suffix}")
        assert len(found) == 2
        renamed = type(found)(zip("ab", found.values(), strict=True))
        renamed.kernels = found.kernels
        return renamed

    first = masks(1, "first", "keras")
    compare_masks(first, masks(1, "same", "npz"))
    other = masks(2, "other", "npz")
    with pytest.warns(UserWarning, match="the second lie over different"):
        comparison = compare_masks(first, other)
    # Where nobody knows the kernels of one, nothing is said.
    assert compare_masks(first, dict(other)) == comparison
    with pytest.warns(UserWarning, match="of '2' and '3' lie over") as warned:
        compare_all({1: dict(first), 2: first, 3: other, 4: first})
    assert len(warned) == 1
    assert warned[0].filename == __file__
