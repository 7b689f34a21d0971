"""Sparsity per layer by rule, against NumPy written from the papers."""

import dataclasses
import math

import effort
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mpt_keras as mpt
from mpt_keras import sparsity_rules
from mpt_keras.sparsity_rules import ERK, ByPattern, EqualPerLayer, Uniform

SHAPES = {
    "conv1": (3, 3, 3, 64),
    "conv2": (3, 3, 64, 64),
    "separable/depthwise_kernel": (3, 3, 64, 1),
    "separable/pointwise_kernel": (1, 1, 64, 128),
    "logits": (128, 10),
}


def erk_of_the_paper(shapes, density):
    """Evci et al., one layer at a time: the densest is made dense, again."""
    sizes = np.array([math.prod(shape) for shape in shapes], float)
    raw = np.array([sum(shape) / math.prod(shape) for shape in shapes])
    dense = np.zeros(len(shapes), bool)
    while True:
        rest = density * sizes.sum() - sizes[dense].sum()
        if dense.all():
            return np.ones(len(shapes))
        scale = rest / (raw * sizes)[~dense].sum()
        found = np.where(dense, 1.0, scale * raw)
        if found.max() <= 1.0:
            return found
        dense[np.argmax(np.where(dense, 0.0, found))] = True


@given(
    st.lists(
        st.lists(st.integers(1, 40), min_size=1, max_size=5).map(tuple),
        min_size=1,
        max_size=8,
    ),
    st.floats(0.0, 0.99),
)
@settings(max_examples=effort.examples(200), deadline=None)
def test_erk_is_that_of_the_paper(shapes, sparsity):
    named = {f"layer{number}": shape for number, shape in enumerate(shapes)}
    found = np.array(list(ERK(sparsity)(named).values()))
    expected = 1.0 - erk_of_the_paper(shapes, 1.0 - sparsity)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    sizes = [math.prod(shape) for shape in shapes]
    kept = (1.0 - found) @ sizes
    assert kept == pytest.approx((1.0 - sparsity) * sum(sizes))
    assert (found >= 0.0).all()
    assert (found < 1.0).all()


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.9, 0.99])
def test_equal_per_layer_keeps_the_same_number_or_all(sparsity):
    found = EqualPerLayer(sparsity)(SHAPES)
    sizes = {name: math.prod(shape) for name, shape in SHAPES.items()}
    kept = {name: (1.0 - found[name]) * sizes[name] for name in SHAPES}
    most = max(kept.values())
    for name, size in sizes.items():
        assert kept[name] == pytest.approx(min(size, most))
    total = (1.0 - sparsity) * sum(sizes.values())
    assert sum(kept.values()) == pytest.approx(total)


def test_a_power_of_0_is_uniform():
    found = ERK(0.7, power=0)(SHAPES)
    assert found == pytest.approx(Uniform(0.7)(SHAPES))


def test_by_pattern_a_name_comes_first_then_the_first_pattern():
    rule = {"conv*": 0.9, "conv2": 0.2, "separable": 0.4, "*": 0.6}
    assert sparsity_rules.sparsity_per_kernel(rule, SHAPES) == {
        "conv1": 0.9,
        "conv2": 0.2,
        "separable/depthwise_kernel": 0.4,
        "separable/pointwise_kernel": 0.4,
        "logits": 0.6,
    }


def test_a_pattern_may_have_a_rule():
    convolutions = {name: SHAPES[name] for name in ("conv1", "conv2")}
    found = ByPattern({"conv*": ERK(0.9), "*": 0.5})(SHAPES)
    erk = ERK(0.9)(convolutions)
    assert {name: found[name] for name in erk} == erk
    assert found["logits"] == 0.5


def test_a_function_is_a_rule():
    found = sparsity_rules.sparsity_per_kernel(
        lambda shapes: {name: 0.25 for name in shapes}, SHAPES
    )
    assert found == dict.fromkeys(SHAPES, 0.25)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (1.0, "sparsity"),
        (True, "sparsity"),
        ("uniform", "Expected a number"),
        (ERK, "Expected a number"),
        ({}, "dictionary"),
        ({"conv1": 0.5}, "'conv2'"),
        ({"*": 0.5, "konv1": 0.2}, r"close: \['conv1'"),
        ({"*": sparsity_rules.Global(0.5)}, "callback"),
        (lambda shapes: {}, "each of"),
        (lambda shapes: dict.fromkeys(shapes, 2.0), "kernel 'conv1'"),
    ],
)
def test_bad_rules(rule, message):
    with pytest.raises(ValueError, match=message):
        sparsity_rules.sparsity_per_kernel(rule, SHAPES)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Uniform(-0.1),
        lambda: ERK(1.0),
        lambda: ERK(0.5, power=-1),
        lambda: EqualPerLayer("0.5"),
        lambda: sparsity_rules.Global(None),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(ValueError, match="Invalid value"):
        make()


def test_rules_are_data():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ERK(0.5).sparsity = 0.9
    assert ERK(0.5) == ERK(0.5)


def conv2(sparsity, **options):
    return mpt.models.conv2(
        width=0.05,
        classes=3,
        input_shape=(8, 8, 1),
        sparsity=sparsity,
        seed=1,
        **options,
    )


def sparsities(model):
    return {layer.name: layer.sparsity for layer in mpt.masked_layers(model)}


def test_networks_take_rules():
    model = conv2(ERK(0.8))
    shapes = {
        layer.name: tuple(layer.kernel.shape)
        for layer in mpt.masked_layers(model)
    }
    assert sparsities(model) == ERK(0.8)(shapes)
    rows = mpt.summary(model, print_fn=None).rows
    for row in rows:
        missed = row.sparsity - sparsities(model)[row.name]
        assert abs(missed) < 1 / row.weights + 1e-9


def test_a_uniform_rule_is_the_number():
    one, other = conv2(0.7), conv2(Uniform(0.7))
    for ours, theirs in zip(one.weights, other.weights, strict=True):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(ours), keras.ops.convert_to_numpy(theirs)
        )


def test_a_global_rule_is_one_threshold():
    model = conv2(sparsity_rules.Global(0.8))
    layers = mpt.masked_layers(model)
    scores = [
        np.abs(keras.ops.convert_to_numpy(layer.scores)).ravel()
        for layer in layers
    ]
    every = np.sort(np.concatenate(scores))
    threshold = every[int(0.8 * every.size)]
    for layer, ours in zip(layers, scores, strict=True):
        assert int(layer.masked_kernels[0].kept()) == (ours >= threshold).sum()


def test_networks_take_dictionaries():
    model = conv2({"conv*": 0.3, "logits": 0.6, "*": 0.8})
    found = sparsities(model)
    assert found["conv1_1"] == 0.3
    assert found["dense1"] == 0.8
    assert found["logits"] == 0.6


@pytest.mark.parametrize(
    "build",
    [
        lambda rule: mpt.models.lenet_300_100(sparsity=rule, seed=0),
        lambda rule: mpt.models.vgg_small(sparsity=rule, width=0.1, seed=0),
        lambda rule: mpt.models.resnet20(
            sparsity=rule, width=0.5, seed=0, first_layer_masked=False
        ),
    ],
)
def test_every_family_takes_rules(build):
    model = build(ERK(0.9))
    assert len(set(sparsities(model).values())) > 1
