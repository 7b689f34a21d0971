"""A sparsity of all kernels together, to the weight."""

import decimal
import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from mpt_keras import lottery
from mpt_keras.lottery import counts

RATES = st.one_of(
    st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.999, 1e-6]), st.floats(1e-9, 0.99)
)
KERNELS = st.lists(
    st.tuples(st.one_of(st.integers(1, 9), st.integers(1, 10**7)), RATES),
    min_size=1,
    max_size=6,
).filter(lambda kernels: any(rate for _, rate in kernels))


def dictionaries(kernels):
    names = [f"k{number}" for number in range(len(kernels))]
    sizes, rates = zip(*kernels, strict=True)
    return (
        dict(zip(names, sizes, strict=True)),
        dict(zip(names, rates, strict=True)),
    )


def products(rounds, sizes, rates):
    """What is pruned before it is floored, in 40 digits."""
    with decimal.localcontext() as context:
        context.prec = 40
        rounds, one = decimal.Decimal(rounds), decimal.Decimal(1)
        return {
            name: min(
                (one - (one - decimal.Decimal(rates[name])) ** rounds) * size,
                decimal.Decimal(size - 1),
            )
            for name, size in sizes.items()
        }


@hypothesis.given(kernels=KERNELS, fraction=st.floats(0, 1))
@hypothesis.settings(deadline=None, max_examples=150)
def test_shares_are_exact_in_all_and_nearest_in_each(kernels, fraction):
    sizes, rates = dictionaries(kernels)
    most = counts.most(sizes, rates)
    pruned = round(fraction * most)
    found = counts.shares(pruned, sizes, rates)
    assert sum(found.values()) == pruned
    rounds = counts.rounds_until(pruned, sizes, rates)
    exact = products(rounds, sizes, rates)
    assert float(sum(exact.values())) == pytest.approx(pruned, abs=1e-3)
    for name, count in found.items():
        assert 0 <= count <= (sizes[name] - 1 if rates[name] else 0)
        assert abs(count - float(exact[name])) < 1 + 1e-3
    # Whoever got one more had lost at least as much by the floor.
    lost = {name: float(exact[name] - count) for name, count in found.items()}
    more = [lost[n] + 1 for n in lost if lost[n] < -1e-3]
    less = [lost[n] for n in lost if lost[n] > 1e-3]
    assert not more or not less or min(more) >= max(less) - 1e-3


@hypothesis.given(
    sizes=st.lists(st.integers(100, 10**6), min_size=1, max_size=5),
    rate=st.floats(0.01, 0.9),
    sparsity=st.floats(0.001, 0.98),
)
@hypothesis.settings(deadline=None, max_examples=100)
def test_rounds_of_one_rate_have_a_closed_form(sizes, rate, sparsity):
    sizes = {f"k{number}": size for number, size in enumerate(sizes)}
    total = sum(sizes.values())
    pruned = math.floor(sparsity * total + 1e-9)
    expected = math.log(1 - pruned / total) / math.log(1 - rate)
    for scope in ("layer", "global"):
        pruning = lottery.Magnitude(rate, scope, output_rate=rate)
        found = pruning.rounds_for(sparsity, sizes)
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


@hypothesis.given(
    seed=st.integers(0, 2**16),
    before=st.integers(0, 3),
    sparsity=st.floats(0, 0.95),
    scope=st.sampled_from(["layer", "global"]),
    alone=st.booleans(),
)
@hypothesis.settings(deadline=None, max_examples=60)
@pytest.mark.filterwarnings("ignore:No weight of")
def test_masks_of_a_sparsity(seed, before, sparsity, scope, alone):
    rng = np.random.default_rng(seed)
    shapes = {"a": (5, 7), "b": (40,), "c": (6, 3)}
    pruning = lottery.Magnitude(0.2, scope, rates={"b": 0} if alone else {})
    weights = {k: np.round(rng.normal(size=s), 1) for k, s in shapes.items()}
    sizes = {k: w.size for k, w in weights.items()}
    total = sum(sizes.values())
    pruned = int(sparsity * total + 1e-9)
    left = pruning.masks(weights, before)
    weights = {k: np.round(rng.normal(size=s), 1) for k, s in shapes.items()}
    alive = [k for k in shapes if not (alone and k == "b")]
    most = sum(sizes[k] - 1 for k in alive)
    if scope == "global":
        most = sum(sizes[k] for k in alive) - 1
    if pruned > most:
        with pytest.raises(ValueError, match=f"no more than {most} can be"):
            pruning.masks_at(weights, sparsity, left)
        return
    if pruning.rounds_for(sparsity, sizes) < before:
        return
    masks = pruning.masks_at(weights, sparsity, left)
    assert sum(int(m.sum()) for m in masks.values()) == total - pruned
    assert masks["b"].all() or not alone
    groups = [[k] for k in alive] if scope == "layer" else [alive]
    for names in groups:
        old, now, size = (
            np.concatenate([part[k].ravel() for k in names])
            for part in (left, masks, {k: abs(w) for k, w in weights.items()})
        )
        assert (now <= old).all()
        gone = old & ~now
        if gone.any() and now.any():
            assert size[gone].max() <= size[now].min()


def test_whole_rounds_of_one_kernel_are_levels():
    pruning = lottery.Magnitude(0.2, "global")
    sizes = {"a": 600, "b": 400}
    for level in range(1, 12):
        pruned = pruning.pruned_after(level, sizes)
        assert pruned == int((1 - 0.8**level) * 1000 + 1e-9)
        rounds = pruning.rounds_for(pruned / 1000, sizes)
        assert round(rounds) == level


def test_levels_may_be_fractions():
    weights = {"a": np.arange(1000.0), "b": np.arange(100.0)}
    masks = lottery.Magnitude(0.5, output_rate=0).masks(weights, 1.5)
    assert masks["b"].all()
    assert masks["a"].sum() == 1000 - int((1 - 0.5**1.5) * 1000)


def test_a_sparsity_out_of_reach_names_the_highest():
    pruning = lottery.Magnitude(0.2, rates={"b": 0})
    sizes = {"a": 700, "b": 299}
    with pytest.raises(
        ValueError,
        match=r"prunes 799 of 999 .* no more than 699 .* \['b'\]. Expected a "
        r"sparsity of at most 0\.699699",
    ):
        pruning.rounds_for(0.8, sizes)
    assert pruning.rounds_for(0.699699, sizes) > 20
    for sparsity in (1.0, -0.1, "much"):
        with pytest.raises(ValueError, match="`sparsity`"):
            pruning.rounds_for(sparsity, sizes)


def test_less_than_was_pruned_before():
    pruning = lottery.Magnitude(0.2)
    weights = {"a": np.arange(100.0), "b": np.arange(10.0)}
    with pytest.raises(ValueError, match="are pruned already"):
        pruning.masks_at(weights, 0.2, pruning.masks(weights, 3))
