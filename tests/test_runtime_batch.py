"""What images side by side share: passes over planes that are left out.

Inputs, weights and steps are of few digits: all sums are exact, in any order,
so that no sign may differ from what the reference computes.
"""

import dataclasses

import numpy as np
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from test_runtime_floats import computed, convolutions

from mpt_keras.runtime import processor, reference, side_by_side
from mpt_keras.runtime.operations import (
    SIGN,
    Convolution,
    Rectifier,
    Steps,
    Value,
    Window,
)
from mpt_keras.runtime.program import BITS, PACKED

_LEVELS = st.sampled_from(processor.levels())
_IMAGES = st.sampled_from([1, 64, 128, 192])


def exact_steps(rng, channels):
    def maybe(numbers):
        return None if rng.random() < 0.3 else numbers.astype("float32")

    rectifiers = [None, None, None, Rectifier(0.25), Rectifier(0, 0.5, 4)]
    return Steps(
        maybe(rng.choice([-1, 0, 0.5, 2], channels)),
        maybe(rng.integers(-4, 5, channels) / 2),
        rectifiers[rng.integers(len(rectifiers))],
    )


def check(operation, arrays, level, images, layout=BITS):
    found = computed(operation, arrays, level, images, layout)
    for image in {0, 5 % images, images // 3, images - 1}:
        expected = reference.evaluate(
            operation, *(array[image] for array in arrays)
        )
        np.testing.assert_array_equal(found[image], expected)


def of_signs(operation, rng):
    """The same with an output of signs, and exact sums."""
    kernel = operation.kernel
    if not operation.is_ternary:
        alive = kernel != 0
        kernel = (alive * rng.choice([-2, -0.5, 0.5, 3], kernel.shape)).astype(
            "float32"
        )
    filters = operation.output.shape[0]
    return dataclasses.replace(
        operation,
        output=Value(operation.output.shape, SIGN),
        kernel=kernel,
        gain=0.5,
        steps=exact_steps(rng, filters),
    )


def images_of(shape, images, rng):
    return rng.integers(-8, 9, (images, *shape)).astype("float32") / 4


@settings(max_examples=examples(60), deadline=None)
@given(convolutions(), _LEVELS, _IMAGES, st.sampled_from([BITS, PACKED]))
def test_convolutions_of_floats_that_give_signs(drawn, level, images, layout):
    operation, rng = drawn
    operation = of_signs(operation, rng)
    array = images_of(operation.inputs[0].shape, images, rng)
    check(operation, [array], level, images, layout)


@settings(max_examples=examples(30), deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([8, 120, 129, 136, 257, 300]),
    st.sampled_from([(1, 1), (3, 3), (1, 9), (2, 70)]),
    st.sampled_from([1, 40, 300]),
    _LEVELS,
    st.sampled_from([1, 1, 64]),
    st.sampled_from([BITS, PACKED]),
)
def test_wide_maps_and_many_channels(
    seed, columns, size, channels, level, images, layout
):
    rng = np.random.default_rng(seed)
    kernel = rng.choice([-1, 0, 0, 1], (*size, channels, 3))
    operation = Convolution(
        "conv",
        (Value((channels, 2, columns)),),
        Value((3, 2, columns), SIGN),
        kernel.astype("int8"),
        0.5,
        Window(size, before=(size[0] // 2, size[1] // 2)),
        1,
        exact_steps(rng, 3),
    )
    array = images_of((channels, 2, columns), images, rng)
    check(operation, [array], level, images, layout)


def test_what_is_no_number_is_negative():
    operation = Convolution(
        "conv",
        (Value((1, 2, 8)),),
        Value((2, 2, 8), SIGN),
        np.array([1, -1], "int8").reshape(1, 1, 1, 2),
        1.0,
        Window(),
    )
    array = np.array([0, -0.0, 1, -1, np.inf, -np.inf, np.nan, -np.nan])
    array = np.resize(array.astype("float32"), (64, 1, 2, 8))
    for level in processor.levels():
        for images in (1, 64):
            check(operation, [array[:images]], level, images)


@pytest.mark.parametrize(
    ("few", "many", "is_faster", "rounds"),
    [
        ([1, 1], [6, 6], True, 2),
        ([1, 1], [12, 12], False, 2),
        # The first time, and whenever others are in the way, it takes longer.
        ([1, 1, 1], [30, 7, 6], True, 3),
        ([1.2, 1.1, 1, 3, 3], [9, 9, 9, 20, 9], False, 5),
        ([1.1, 1, 2, 2, 2], [8, 7.9, 30, 9, 30], True, 5),
        # Patience ends.
        ([100], [700], True, 1),
    ],
)
def test_how_many_images_run_at_once(few, many, is_faster, rounds, monkeypatch):
    clock, calls = [0.0], []
    monkeypatch.setattr(side_by_side.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(side_by_side.time, "thread_time", lambda: clock[0])

    def takes(milliseconds):
        left = iter(milliseconds)

        def run():
            calls.append(run)
            clock[0] += next(left) / 1000

        return run

    together, one_after_another = takes(many), takes(few)
    found = side_by_side._is_faster(together, one_after_another)
    assert found == is_faster
    assert calls == [one_after_another, together] * rounds
