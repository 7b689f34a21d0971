"""Kernels of signs give exactly what the reference computes with NumPy."""

from unittest import mock

import numpy as np
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from mpt_keras.runtime import library, processor, reference
from mpt_keras.runtime.compiled_program import CompiledProgram
from mpt_keras.runtime.operations import (
    FLOAT,
    SIGN,
    Convolution,
    Elementwise,
    Plan,
    Pool,
    Rectifier,
    Steps,
    Threshold,
    Value,
    Window,
)
from mpt_keras.runtime.packing import adder, popcount, signs
from mpt_keras.runtime.program import BITS, PACKED, Builder

_LEVELS = st.sampled_from(processor.levels())
_LAYOUTS = st.sampled_from([BITS, PACKED])
_CHANNELS = st.integers(1, 70)
_SEEDS = st.integers(0, 2**32 - 1)


def computed(operation, images, level, layouts):
    """What kernels give, of real images, whose signs are the input.

    Args:
        operation: With one input.
        images: Float32 array `(images, *planes)`.
        level: Instruction set.
        layouts: Of input and output, where they are signs.
    """
    source, made = operation.inputs[0], operation.output
    real, result = Value(source.shape), made
    steps = [Elementwise("in", (real,), source, Steps()), operation]
    if source.kind == FLOAT:
        real, steps = source, [operation]
    if made.kind == SIGN:
        result = Value(made.shape)
        steps.append(Elementwise("out", (made,), result, Steps()))
    plan = Plan(
        "test", real, result, real.shape, result.shape, True, True, tuple(steps)
    )
    of_values = dict(zip((source, made), layouts, strict=True))
    builder = Builder(plan, len(images), of_values, signs.convert)
    builder.write(real)
    for step in steps:
        signs.pack(step, builder)
    found = np.empty((len(images), *result.shape), "float32")
    CompiledProgram(builder.program(), library.load(level)).run(images, found)
    return found


def check(operation, rng, level, count=1, layouts=(BITS, BITS)):
    source = operation.inputs[0]
    images = rng.normal(size=(count, *source.shape)).astype("float32")
    images[rng.random(images.shape) < 0.1] = 0
    found = computed(operation, images, level, layouts)
    for image in {0, count // 3, count - 1}:
        seen = images[image]
        if source.kind == SIGN:
            seen = np.where(seen >= 0, 1, -1).astype("int8")
        expected = reference.evaluate(operation, seen)
        np.testing.assert_array_equal(found[image], expected)


def windowed(draw, shape, most=3, pads=True):
    """A window, and the size of what it makes."""
    sizes, strides, dilations, befores, made = [], [], [], [], []
    for length in shape:
        size = draw(st.integers(1, most))
        stride = draw(st.sampled_from([1, 1, 2, 3]))
        dilation = draw(st.sampled_from([1, 1, 2]))
        extent = (size - 1) * dilation + 1
        before = draw(st.integers(0, extent - 1)) if pads else 0
        after = draw(st.integers(0, extent - 1)) if pads else 0
        after = max(after, extent - length - before)
        sizes.append(size)
        strides.append(stride)
        dilations.append(dilation)
        befores.append(before)
        made.append((length + before + after - extent) // stride + 1)
    window = Window(
        tuple(sizes), tuple(strides), tuple(dilations), tuple(befores)
    )
    return window, tuple(made)


def steps_of(rng, channels):
    def maybe(numbers):
        return numbers.astype("float32") if rng.random() < 0.5 else None

    rectifier = Rectifier(0.25, 0.0, 6.0) if rng.random() < 0.5 else None
    return Steps(
        maybe(rng.normal(size=channels)),
        maybe(rng.normal(size=channels)),
        rectifier,
    )


@st.composite
def convolutions(draw, channels=_CHANNELS, groups=(1, 1, 1, 2)):
    rng = np.random.default_rng(draw(_SEEDS))
    rows = draw(st.integers(1, 12))
    columns = draw(st.sampled_from([1, 2, 4, 5, 7, 8, 14, 16, 28, 32, 33, 66]))
    group_channels = draw(channels)
    groups = draw(st.sampled_from(groups))
    groups = group_channels if groups == 0 else groups
    if groups == group_channels:
        group_channels = 1
    filters = groups * draw(st.integers(1, 9))
    window, made = windowed(draw, (rows, columns))
    shape = (*window.size, group_channels, filters)
    kernel = rng.choice(np.array([-1, 1], "int8"), shape)
    kernel[rng.random(shape) < draw(st.sampled_from([0, 0.5, 0.8, 0.99]))] = 0
    kernel[..., rng.random(filters) < 0.1] = 0
    source = Value((groups * group_channels, rows, columns), SIGN)
    if draw(st.booleans()):
        kept = np.count_nonzero(kernel, (0, 1, 2))
        thresholds = rng.normal(size=filters) * np.sqrt(kept)
        extreme = rng.choice([-kept, kept + 1, 2 * kept + 10])
        is_extreme = rng.random(filters) < 0.2
        thresholds = np.where(is_extreme, extreme, thresholds)
        return rng, Threshold(
            "layer",
            (source,),
            Value((filters, *made), SIGN),
            kernel,
            window,
            groups,
            thresholds.astype("int32"),
        )
    return rng, Convolution(
        "layer",
        (source,),
        Value((filters, *made), draw(st.sampled_from([FLOAT, SIGN]))),
        kernel,
        abs(rng.normal()),
        window,
        groups,
        steps_of(rng, filters),
    )


def with_form(form):
    return mock.patch.object(signs, "choose_form", return_value=form)


@settings(max_examples=examples(60), deadline=None)
@given(
    convolutions(groups=(1, 1, 2, 0)),
    _LEVELS,
    st.tuples(_LAYOUTS, _LAYOUTS),
    st.sampled_from([1, 1, 1, 64, 128]),
)
def test_sums_of_planes(drawn, level, layouts, count):
    rng, operation = drawn
    assert adder.covers(operation)
    with with_form(BITS):
        check(operation, rng, level, count, layouts)


@settings(max_examples=examples(60), deadline=None)
@given(
    convolutions(groups=(1, 1, 2)),
    _LEVELS,
    st.tuples(_LAYOUTS, _LAYOUTS),
    st.sampled_from([1, 1, 1, 64, 128]),
)
def test_counts_of_bits(drawn, level, layouts, count):
    rng, operation = drawn
    if operation.groups == 1:
        with with_form(PACKED):
            check(operation, rng, level, count, layouts)


@settings(max_examples=examples(15), deadline=None)
@given(
    convolutions(channels=st.sampled_from([64, 128]), groups=(2, 3)), _LEVELS
)
def test_counts_of_bits_in_groups_of_words(drawn, level):
    rng, operation = drawn
    with with_form(PACKED):
        check(operation, rng, level)


@settings(max_examples=examples(20), deadline=None)
@given(
    convolutions(groups=(1, 2, 0)),
    st.tuples(_LAYOUTS, _LAYOUTS),
    st.sampled_from([1, 1, 64]),
)
def test_what_neither_covers(drawn, layouts, count):
    rng, operation = drawn
    level = processor.levels()[0]
    with (
        with_form(BITS),
        mock.patch.object(adder, "covers", return_value=False),
    ):
        check(operation, rng, level, count, layouts)


@settings(max_examples=examples(30), deadline=None)
@given(convolutions(groups=(1, 2, 0)), _LEVELS, st.tuples(_LAYOUTS, _LAYOUTS))
def test_the_chosen_form(drawn, level, layouts):
    rng, operation = drawn
    check(operation, rng, level, layouts=layouts)


@pytest.mark.parametrize("level", processor.levels())
@pytest.mark.parametrize("form", [BITS, PACKED])
def test_many_weights(level, form):
    """More than a byte of digits, and maps of whole vectors."""
    rng = np.random.default_rng(5)
    for size, filters in (((32, 32), 3), ((8, 8), 2), ((1, 1), 9)):
        source = Value((300, *size), SIGN)
        window = Window((3, 3), before=(1, 1))
        kernel = rng.choice([-1, 1, 1], (3, 3, 300, filters)).astype("int8")
        common = "layer", (source,)
        with with_form(form):
            check(
                Threshold(
                    *common,
                    Value((filters, *size), SIGN),
                    kernel,
                    window,
                    1,
                    np.full(filters, 900, "int32"),
                ),
                rng,
                level,
            )
            check(
                Convolution(
                    *common,
                    Value((filters, *size)),
                    kernel,
                    0.125,
                    window,
                ),
                rng,
                level,
            )


@settings(max_examples=examples(60), deadline=None)
@given(
    st.data(),
    _LEVELS,
    st.tuples(_LAYOUTS, _LAYOUTS),
    st.sampled_from([1, 1, 64, 128]),
    _SEEDS,
)
def test_pools(data, level, layouts, count, seed):
    rng = np.random.default_rng(seed)
    channels = data.draw(st.sampled_from([1, 3, 64, 70, 130]))
    size = data.draw(st.tuples(*[st.sampled_from([1, 4, 7, 10, 32, 66])] * 2))
    if data.draw(st.booleans()) and min(size) > 1:
        window = Window((2, 2), (2, 2))
        made = size[0] // 2, size[1] // 2
    else:
        window, made = windowed(data.draw, size)
    inverted = data.draw(st.sampled_from([None, rng.random(channels) < 0.5]))
    source = Value((channels, *size), SIGN)
    output = Value((channels, *made), SIGN)
    operation = Pool("layer", (source,), output, window, inverted=inverted)
    check(operation, rng, level, count, layouts)


@settings(max_examples=examples(40), deadline=None)
@given(
    st.tuples(st.integers(1, 130), st.integers(1, 5), st.integers(1, 70)),
    st.sampled_from([(FLOAT, SIGN), (SIGN, FLOAT)]),
    _LEVELS,
    st.tuples(_LAYOUTS, _LAYOUTS),
    st.sampled_from([1, 1, 64]),
    _SEEDS,
)
def test_floats_and_signs(shape, kinds, level, layouts, count, seed):
    rng = np.random.default_rng(seed)
    source, output = (Value(shape, kind) for kind in kinds)
    steps = steps_of(rng, shape[0])
    operation = Elementwise("layer", (source,), output, steps)
    check(operation, rng, level, count, layouts)


def test_a_sign_of_nan_is_minus_one():
    source = Value((2, 1, 70))
    images = np.full((1, *source.shape), np.nan, "float32")
    operation = Elementwise(
        "layer", (source,), Value((2, 1, 70), SIGN), Steps()
    )
    for level in processor.levels():
        found = computed(operation, images, level, (BITS, BITS))
        np.testing.assert_array_equal(found, -1)


def test_layouts_are_those_that_most_users_read():
    window = Window((3, 3), before=(1, 1))
    rng = np.random.default_rng(0)

    def layer(source, filters, sparsity):
        channels, rows, columns = source.shape
        kernel = rng.choice([-1, 1], (3, 3, channels, filters)).astype("int8")
        kernel[rng.random(kernel.shape) < sparsity] = 0
        output = Value((filters, rows, columns), SIGN)
        thresholds = np.zeros(filters, "int32")
        return Threshold(
            "layer", (source,), output, kernel, window, 1, thresholds
        )

    large = Value((128, 32, 32), SIGN)
    small = Value((512, 8, 8), SIGN)
    operations = (layer(large, 128, 0.75), layer(small, 512, 0.75))
    plan = Plan("", large, small, (), (), True, True, operations)
    found = signs.layouts(plan, 1)
    assert found[large] == BITS
    assert found[small] == PACKED
    assert signs.layouts(plan, 1, counts_bits=False)[small] == BITS
    assert signs.choose_form(layer(small, 512, 0.97), 1) == BITS
    assert popcount.covers(operations[1])
