"""Weights that a seed prunes or keeps for ever, and the search beside them."""

import every_layer
import keras
import numpy as np
import oracle
import pytest
from backend import FORMS, as_numpy, examples, value_and_gradients
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

import mpt_keras as mpt
from mpt_keras import callbacks, frozen_order
from mpt_keras.frozen_part import FrozenPart, check_fractions, frozen_part

HALF = {"frozen_pruned": 0.25, "frozen_kept": 0.25}


def positions_by_sorting(part, size):
    """docs/ticket_format.md, by a stable sort."""
    key = part.seed + part.stream * 2**64
    raw = np.random.Philox(key=key).random_raw(size)
    order = np.argsort(raw // 2**32, kind="stable")
    positions = np.zeros(size, "int8")
    positions[order[: part.pruned]] = -1
    positions[order[size - part.kept :]] = 1
    return positions


def mask_by_sorting(scores, positions, kept):
    """Frozen weights before and after all others, these as without them."""
    order = np.lexsort((np.abs(scores).ravel(), positions.ravel()))
    mask = np.zeros(scores.size, bool)
    mask[order[scores.size - kept :]] = True
    return mask.reshape(scores.shape)


def dense(units=10, inputs=20, **options):
    layer = mpt.MPTDense(units, **{"seed": 3, **HALF, **options}, name="here")
    layer.build((None, inputs))
    return layer


def frozen(layer):
    return as_numpy(layer.masked_kernels[0].frozen)


def network(**options):
    options = {"seed": 1, **HALF, **options}
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            mpt.MPTConv2D(5, 3, name="first", **options),
            keras.layers.Flatten(),
            mpt.MPTDense(4, use_bias=True, name="last", **options),
        ]
    )


# --- Positions ------------------------------------------------------------


@settings(deadline=None, max_examples=examples(60))
@given(
    size=st.integers(1, 3000),
    pruned=st.floats(0, 0.999),
    kept=st.floats(0, 0.999),
    seed=st.integers(0, 2**64 - 1),
)
def test_counts_are_exact_and_positions_those_of_the_document(
    size, pruned, kept, seed
):
    if not pruned + kept < 1:
        with pytest.raises(ValueError, match="add up to less than 1"):
            check_fractions(pruned, kept)
        return
    part = frozen_part((pruned, kept), size, seed, 1)
    counts = [oracle.pruned_count(each, size) for each in (pruned, kept)]
    counts[1] = min(counts[1], size - counts[0] - 1)
    if part is None:
        assert counts == [0, 0]
        return
    assert (part.seed, part.stream) == (seed, 2**63 + 1)
    assert [part.pruned, part.kept] == counts
    positions = part.positions((size, 1))
    assert positions.shape == (size, 1)
    assert positions.dtype == "int8"
    np.testing.assert_array_equal(
        positions.ravel(), positions_by_sorting(part, size)
    )


def test_equal_numbers_are_told_apart_by_position(monkeypatch):
    raw = np.array([5, 1, 5, 1, 5, 9], "uint64") << np.uint64(32)
    monkeypatch.setattr(
        "mpt_keras.frozen_part.blocks_of_raw_numbers",
        lambda seed, stream, size: [(slice(0, size), raw)],
    )
    positions = FrozenPart(0, 0, pruned=3, kept=2).positions((2, 3))
    assert positions.tolist() == [[-1, -1, 0], [-1, 1, 1]]


def test_positions_are_independent_of_kernel_and_scores():
    layer = dense(100, 100)
    free = mpt.MPTDense(100, seed=3)
    free.build((None, 100))
    np.testing.assert_array_equal(*map(as_numpy, (layer.kernel, free.kernel)))
    kernel = as_numpy(layer.kernel).ravel()
    for values in (np.sign(kernel), np.abs(kernel), as_numpy(free.scores)):
        found = np.corrcoef(values.ravel(), frozen(layer).ravel())[0, 1]
        assert abs(found) < 0.04
    other = dense(100, 100, seed=4)
    assert (frozen(layer) != frozen(other)).mean() > 0.5


# --- Selection ------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_frozen_scores_come_first_and_last(form):
    scores = np.array([0.0, -0.0, 1e-45, -3.0, 2.0, np.inf, 1.0], "float32")
    positions = np.array([0, 1, 0, 0, -1, 0, 1], "int8")
    found = as_numpy(
        FORMS[form](frozen_order.in_order)(
            ops.convert_to_tensor(scores), ops.convert_to_tensor(positions)
        )
    )
    assert (found[positions < 0] == 0).all()
    assert np.isinf(found[positions > 0]).all()
    free = found[positions == 0]
    assert (free > 0).all()
    assert np.isfinite(free).all()
    assert (
        np.argsort(free) == np.argsort(np.abs(scores[positions == 0]))
    ).all()
    assert np.unique(free).size == 4
    alone = frozen_order.in_order(ops.convert_to_tensor(scores))
    np.testing.assert_array_equal(as_numpy(alone)[positions == 0], free)


@settings(deadline=None, max_examples=examples(40))
@given(
    pruned=st.sampled_from([0.0, 0.1, 0.3, 0.5]),
    kept=st.sampled_from([0.0, 0.2, 0.45]),
    share=st.floats(0, 1),
    levels=st.sampled_from([0, 1, 3, 1000]),
    seed=st.integers(0, 2**32),
)
def test_masks_are_those_of_a_sort(pruned, kept, share, levels, seed):
    layer = dense(5, 12, frozen_pruned=pruned, frozen_kept=kept)
    (masked,) = layer.masked_kernels
    draw = np.random.default_rng(seed)
    scores = draw.integers(-levels, levels + 1, (12, 5)).astype("float32")
    masked.scores.assign(scores)
    positions = np.zeros((12, 5), "int8")
    if masked.frozen is not None:
        positions = frozen(layer)
    fewest = int(np.count_nonzero(positions < 0))
    most = min(60 - int(np.count_nonzero(positions > 0)), 59)
    number = fewest + round(share * (most - fewest))
    layer.sparsity = number / 60
    expected = mask_by_sorting(scores, positions, 60 - number)
    assert expected.sum() == 60 - number
    np.testing.assert_array_equal(as_numpy(layer.mask()), expected)
    np.testing.assert_array_equal(masked.arrays()[1], expected)


def test_scores_of_which_the_largest_are_equal():
    layer = dense(frozen_pruned=0.2, frozen_kept=0.1)
    (masked,) = layer.masked_kernels
    shape = tuple(layer.scores.shape)
    draw = np.random.default_rng(0)
    for scores in (
        draw.uniform(1.5e38, 3.3e38, shape),
        np.where(draw.random(shape) < 0.7, np.inf, 3e38),
    ):
        masked.scores.assign(scores.astype("float32"))
        equal = np.minimum(scores, np.float32(2.0**127))
        expected = mask_by_sorting(equal, frozen(layer), masked.size // 2)
        np.testing.assert_array_equal(as_numpy(layer.mask()), expected)
        np.testing.assert_array_equal(masked.arrays()[1], expected)


@pytest.mark.parametrize("binarize", [True, False])
def test_forward_and_gradient(binarize, rng):
    layer = dense(binarize=binarize)
    (masked,) = layer.masked_kernels
    # Also where somebody gives frozen weights scores of their own.
    layer.scores.assign(rng.standard_normal((20, 10)))
    scores, kernel = map(as_numpy, (layer.scores, layer.kernel))
    mask = mask_by_sorting(scores, frozen(layer), 100)
    expected = mask * kernel
    if binarize:
        gain = np.abs(kernel.astype("float64"))[mask].mean()
        expected = gain * mask * np.sign(kernel)
    upstream = rng.standard_normal((20, 10)).astype("float32")
    value, (gradient,) = value_and_gradients(
        masked.effective, [layer.scores], upstream
    )
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(value, masked.effective_array(), rtol=1e-6)
    expected = oracle.scores_gradient(upstream, scores, kernel)
    expected[frozen(layer) != 0] = 0
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)


def test_half_precision(rng):
    layer = dense(dtype="bfloat16")
    scores = as_numpy(ops.cast(layer.scores, "float32"))
    mask = mask_by_sorting(scores, frozen(layer), 100)
    np.testing.assert_array_equal(as_numpy(layer.mask()), mask)
    np.testing.assert_array_equal(
        as_numpy(ops.cast(layer.effective_kernel(), "float32")) != 0, mask
    )


@pytest.mark.parametrize(
    "optimizer",
    [
        keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.1),
        keras.optimizers.Adam(0.1),
    ],
    ids=["sgd", "adam"],
)
def test_training_moves_free_weights_alone(optimizer, rng):
    model = network(scores_regularizer=keras.regularizers.L2(1e-3))
    before = [as_numpy(m.scores) for m in kernels(model)]
    model.compile(type(optimizer).from_config(optimizer.get_config()), "mse")
    images = rng.standard_normal((16, 6, 6, 2)).astype("float32")
    model.fit(images, rng.standard_normal((16, 4)), epochs=2, verbose=0)
    for masked, scores in zip(kernels(model), before, strict=True):
        positions, now = as_numpy(masked.frozen), as_numpy(masked.scores)
        assert (now[positions != 0] == 0).all()
        assert (now != scores)[positions == 0].mean() > 0.9
        mask = as_numpy(masked.mask())
        assert mask[positions > 0].all()
        assert not mask[positions < 0].any()
        assert mask.sum() == mask.size - oracle.pruned_count(0.5, mask.size)


def kernels(model):
    return [m for x in mpt.masked_layers(model) for m in x.masked_kernels]


# --- Layers ---------------------------------------------------------------


def test_without_the_option_nothing_is_there():
    layer = mpt.MPTDense(3, seed=0)
    layer.build((None, 4))
    assert layer.masked_kernels[0].frozen is None
    assert not {"frozen_pruned", "frozen_kept"} & layer.get_config().keys()
    assert (layer.frozen_pruned, layer.frozen_kept) == (0.0, 0.0)
    assert len(layer.variables) == 3
    tiny = dense(1, 3)  # of three weights a quarter is none
    assert tiny.masked_kernels[0].frozen is None
    assert tiny.get_config()["frozen_pruned"] == 0.25


@pytest.mark.parametrize("kind", every_layer.LAYERS)
def test_every_kind_of_layer(kind):
    cls, arguments, shape = every_layer.LAYERS[kind]
    is_attention = "attention" in kind
    layer = cls(**arguments, seed=0, **HALF)
    layer(np.ones((1, *shape)), *[np.ones((1, *shape))] * is_attention)
    held = mpt.masked_layers(layer)
    for masked in [kernel for one in held for kernel in one.masked_kernels]:
        positions, mask = as_numpy(masked.frozen), as_numpy(masked.mask())
        quarter = masked.size // 4
        assert np.count_nonzero(positions < 0) == quarter
        assert np.count_nonzero(positions > 0) == quarter
        assert mask[positions > 0].all()
        assert not mask[positions < 0].any()
        assert mask.sum() == masked.size - masked.size // 2
    again = cls.from_config(layer.get_config())
    assert again.frozen_kept == layer.frozen_kept


def test_two_kernels_take_a_pair():
    layer = mpt.MPTSeparableConv2D(
        6, 3, seed=0, frozen_pruned=(0.0, 0.2), frozen_kept=0.25
    )
    layer.build((None, 8, 8, 4))
    parts = [masked.frozen_part for masked in layer.masked_kernels]
    assert parts[0] == FrozenPart(0, 2**63, 0, 9)
    assert parts[1] == FrozenPart(0, 2**63 + 1, 4, 6)
    assert layer.frozen_pruned == (0.0, 0.2)
    assert layer.frozen_kept == (0.25, 0.25)
    again = type(layer).from_config(layer.get_config())
    assert again.frozen_pruned == (0.0, 0.2)


def test_saving_leaves_the_positions_out(tmp_path, rng):
    model = network()
    kernels(model)[1].set_sparsity(0.25)
    store = {}
    model.get_layer("last").save_own_variables(store)
    assert sorted(store) == ["0", "1", "2", "3"]
    assert len(model.get_layer("last").variables) == 5
    images = rng.standard_normal((3, 6, 6, 2)).astype("float32")
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    other = network()
    other.load_weights(tmp_path / "model.weights.h5")
    for again in (loaded, other, mpt.freeze(model)):
        np.testing.assert_array_equal(
            as_numpy(again(images)), as_numpy(model(images))
        )
    assert loaded.get_layer("last").sparsity == 0.25


def test_the_least_and_the_most_are_allowed_and_reload():
    layer = dense(7, 9, frozen_pruned=0.3, frozen_kept=0.3)
    (part,) = {m.frozen_part for m in layer.masked_kernels}
    assert (part.pruned, part.kept) == (18, 18)
    for pruned in (18, 45):
        layer.sparsity = pruned / 63
        assert as_numpy(layer.mask()).sum() == 63 - pruned
        again = mpt.MPTDense.from_config(layer.get_config())
        again.build((None, 9))
        assert again.sparsity == pruned / 63
    for pruned in (17, 46):
        before = layer.sparsity
        with pytest.raises(
            ValueError, match=r"between 18 and 45 of them.*layer 'here'"
        ):
            layer.sparsity = pruned / 63
        assert layer.sparsity == before


@pytest.mark.parametrize("sparsity", [0.2, 0.8])
def test_building_refuses_a_sparsity_outside(sparsity):
    with pytest.raises(ValueError, match=r"from 0\.25 to 0\.75.*'here'"):
        dense(sparsity=sparsity)


@pytest.mark.parametrize("value", [-0.1, 1.0, None, True, "0.5", float("nan")])
@pytest.mark.parametrize("name", HALF)
def test_fractions_outside_their_range(name, value):
    with pytest.raises(ValueError, match=rf"`{name}`.*layer 'here'"):
        dense(**{name: value})


def test_fractions_that_leave_nothing():
    with pytest.raises(ValueError, match=r"less than 1.*layer 'here'"):
        dense(frozen_pruned=0.4, frozen_kept=0.6)


# --- Masks that are set ---------------------------------------------------


@pytest.mark.parametrize("pruned", [50, 83, 150])
def test_a_mask_is_set_among_free_weights(pruned, rng):
    layer = dense()
    scores = rng.standard_normal((20, 10)) * (frozen(layer) == 0)
    mask = mask_by_sorting(scores, frozen(layer), 200 - pruned)
    layer.set_mask(mask)
    np.testing.assert_array_equal(as_numpy(layer.mask()), mask)
    assert (as_numpy(layer.scores)[frozen(layer) != 0] == 0).all()
    assert layer.sparsity == pruned / 200


@pytest.mark.parametrize("position", [-1, 1])
def test_a_mask_that_contradicts_is_refused(position):
    model = network()
    layer = model.get_layer("last")
    mask = as_numpy(layer.mask())
    wrong = mask.copy()
    wrong[tuple(np.argwhere(frozen(layer) == position)[0])] ^= True
    with pytest.raises(ValueError, match=r"1 of them otherwise.*'last'"):
        layer.set_mask(wrong)
    masks = mpt.analysis.masks_of(model)
    inverted = masks["first"].copy()
    free = frozen(model.get_layer("first")) == 0
    inverted[free] ^= True
    with pytest.raises(ValueError, match="otherwise"):
        mpt.analysis.load_masks(model, {"first": inverted, "last": wrong})
    np.testing.assert_array_equal(as_numpy(layer.mask()), mask)
    np.testing.assert_array_equal(
        as_numpy(model.get_layer("first").mask()), masks["first"]
    )


# --- Callbacks ------------------------------------------------------------


@pytest.mark.parametrize("pruned", [0.25, 0.6, 0.7])
def test_one_threshold_over_frozen_and_free_layers(pruned, rng):
    model = keras.Sequential(
        [
            keras.Input((12,)),
            mpt.MPTDense(10, seed=0, **HALF),
            mpt.MPTDense(8, seed=1),
            mpt.MPTDense(4, seed=2, frozen_pruned=0.5),
        ]
    )
    callback = callbacks.GlobalSparsity(pruned)
    callback.set_model(model)
    callback.refresh()
    masked = kernels(model)
    scores = [as_numpy(m.scores) for m in masked]
    positions = [
        np.zeros(m.size) if m.frozen is None else as_numpy(m.frozen).ravel()
        for m in masked
    ]
    total = sum(m.size for m in masked)
    expected = mask_by_sorting(
        np.concatenate([s.ravel() for s in scores]),
        np.concatenate(positions),
        total - oracle.pruned_count(pruned, total),
    )
    found = np.concatenate([as_numpy(m.mask()).ravel() for m in masked])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("sparsity", [0.1, 0.9])
def test_a_global_sparsity_that_frozen_parts_exclude(sparsity):
    callback = callbacks.GlobalSparsity(sparsity)
    callback.set_model(network())
    with pytest.raises(ValueError, match=r"between 0\.24.* and 0\.75"):
        callback.refresh()


def test_a_minimum_beyond_what_is_free_to_be_kept():
    model = keras.Sequential(
        [keras.Input((4,)), mpt.MPTDense(5, seed=0, frozen_pruned=0.5)]
    )
    callback = callbacks.GlobalSparsity(0.75, minimum=12)
    callback.set_model(model)
    callback.refresh()
    (masked,) = kernels(model)
    assert int(masked.kept()) == 10


@pytest.mark.parametrize("source", mpt.weight_recycling.SOURCES)
def test_recycling_leaves_frozen_weights(source, rng):
    model = network(binarize=False)
    before = [as_numpy(m.kernel) for m in kernels(model)]
    callback = callbacks.WeightRecycling(0.5, every=1, source=source, seed=0)
    callback.set_model(model)
    callback.set_params({})
    callback._replace_at(1)
    for masked, kernel in zip(kernels(model), before, strict=True):
        positions, now = as_numpy(masked.frozen), as_numpy(masked.kernel)
        np.testing.assert_array_equal(
            now[positions != 0], kernel[positions != 0]
        )
        changed = int(np.count_nonzero(now != kernel))
        free = int(np.count_nonzero(positions == 0))
        if source == "random":
            assert 0.1 < changed / free < 0.4
        else:
            assert changed == free // 2
            kept = set(kernel[positions == 0].tolist())
            assert set(now[positions == 0].tolist()) <= kept


def test_a_schedule_below_what_is_frozen_says_so():
    model = network()
    model.compile("sgd")
    callback = callbacks.SparsitySchedule(mpt.schedules.Constant(0.1))
    callback.set_model(model)
    with pytest.raises(ValueError, match="are kept for ever"):
        callback.on_epoch_begin(0)
