"""Kernels of floats give what the reference computes with NumPy."""

import math

import numpy as np
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from mpt_keras.runtime import library, processor, reference
from mpt_keras.runtime.compiled_program import CompiledProgram
from mpt_keras.runtime.operations import (
    FUNCTIONS,
    SIGN,
    Concatenate,
    Convolution,
    Elementwise,
    Function,
    Gather,
    Merge,
    Plan,
    Pool,
    Rectifier,
    Softmax,
    Steps,
    Value,
    Window,
)
from mpt_keras.runtime.packing import floats
from mpt_keras.runtime.packing.sign_layouts import convert
from mpt_keras.runtime.program import BITS, Builder

_LEVELS = st.sampled_from(processor.levels())
_IMAGES = st.sampled_from([1, 1, 64])
_SEEDS = st.integers(0, 2**32 - 1)


def computed(operation, inputs, level, images=1, layout=BITS):
    """What the kernels give: `inputs` are arrays `(images, *planes)`.

    All inputs are parts of one, from which the first call takes them.
    """
    sizes = [value.size for value in operation.inputs]
    whole = Value((sum(sizes), 1, 1))
    parts, operations, at = {}, [], 0
    for value, size in zip(operation.inputs, sizes, strict=True):
        if value in parts:
            continue
        index = np.arange(at, at + size, dtype="int32").reshape(value.shape)
        part = Value(value.shape)
        operations.append(Gather("take", (whole,), part, index))
        if value.kind == SIGN:
            operations.append(Elementwise("take", (part,), value, Steps()))
        else:
            operations[-1] = Gather("take", (whole,), value, index)
        parts[value] = value
        at += size
    result = operation.output
    operations.append(operation)
    if result.kind == SIGN:
        result = Value(result.shape)
        operations.append(
            Elementwise("floats", (operation.output,), result, Steps())
        )
    plan = Plan(
        "test",
        whole,
        result,
        (whole.size,),
        result.shape,
        True,
        True,
        tuple(operations),
    )
    layouts = {
        step.output: layout for step in operations if step.output.kind == SIGN
    }
    builder = Builder(plan, images, layouts, convert)
    builder.write(whole)
    for step in operations:
        floats.pack(step, builder)
    program = builder.program()
    flat = np.concatenate(
        [array.reshape(images, -1) for array in inputs], 1
    ).astype("float32")
    found = np.empty((images, *result.shape), "float32")
    CompiledProgram(program, library.load(level)).run(
        np.ascontiguousarray(flat), found
    )
    return found


def check(operation, inputs, level, images=1, rtol=1e-5):
    inputs = [
        array if array.dtype == np.int8 else array.astype("float32")
        for array in inputs
    ]
    found = computed(operation, inputs, level, images)
    for image in {0, images // 3, images - 1}:
        expected = reference.evaluate(
            operation, *(array[image] for array in inputs)
        )
        largest = np.abs(expected).max(initial=0)
        np.testing.assert_allclose(
            found[image], expected, rtol=0, atol=rtol * max(largest, 1e-30)
        )


def some_steps(draw, rng, channels):
    def maybe(numbers):
        return draw(st.sampled_from([None, numbers.astype("float32")]))

    slopes = rng.uniform(-1, 1, channels).astype("float32")
    rectifier = draw(
        st.sampled_from(
            [
                None,
                Rectifier(),
                Rectifier(0.25, 0.125, 1.5),
                Rectifier(slopes),
                Rectifier(high=6.0),
            ]
        )
    )
    return Steps(
        maybe(rng.normal(1, 0.5, channels)),
        maybe(rng.normal(0, 0.5, channels)),
        rectifier,
    )


def out_size(size, window, after, axis):
    taps = (window.size[axis] - 1) * window.dilation[axis] + 1
    room = size + window.before[axis] + after - taps
    return room // window.strides[axis] + 1


@st.composite
def windows(draw, shape, dilated=True):
    """A window and the shape of what it makes of planes of a shape."""
    pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))
    size = draw(st.one_of(st.sampled_from([(1, 1), (3, 3)]), pairs))
    dilation = draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (1, 3)]))
    strides = draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (3, 1), (1, 4)]))
    reach = [(n - 1) * d + 1 for n, d in zip(size, dilation, strict=True)]
    before = tuple(draw(st.integers(0, n - 1)) for n in reach)
    after = tuple(draw(st.integers(0, n - 1)) for n in reach)
    window = Window(size, strides, dilation if dilated else (1, 1), before)
    out = [out_size(shape[i], window, after[i], i) for i in range(2)]
    return window, out


def random_kernel(rng, shape, sparsity, is_ternary):
    alive = rng.random(shape) >= sparsity
    if is_ternary:
        return (alive * rng.choice([-1, 1], shape)).astype("int8")
    return (alive * rng.normal(size=shape)).astype("float32")


@st.composite
def convolutions(draw):
    rng = np.random.default_rng(draw(_SEEDS))
    size = st.one_of(
        st.integers(1, 20), st.sampled_from([4, 8, 16, 28, 32, 130, 150])
    )
    rows, columns = draw(size), draw(size)
    window, out = draw(windows((rows, columns)))
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    channels = groups * draw(st.sampled_from([1, 2, 3, 7, 30]))
    if draw(st.booleans()):
        channels, groups = groups, groups  # depthwise
    filters = groups * draw(st.integers(1, 4))
    if min(out) < 1:
        window, out = Window(), [rows, columns]
    kernel = random_kernel(
        rng,
        (*window.size, channels // groups, filters),
        draw(st.sampled_from([0, 0.5, 0.8, 0.95, 1])),
        draw(st.booleans()),
    )
    operation = Convolution(
        "conv",
        (Value((channels, rows, columns)),),
        Value((filters, *out)),
        kernel,
        0.37,
        window,
        groups,
        some_steps(draw, rng, filters),
    )
    return operation, rng


@settings(max_examples=examples(80), deadline=None)
@given(convolutions(), _LEVELS, _IMAGES)
def test_convolutions(drawn, level, images):
    operation, rng = drawn
    shape = operation.inputs[0].shape
    check(operation, [rng.normal(size=(images, *shape))], level, images)


@pytest.mark.parametrize(
    ("channels", "filters", "size", "sparsity"),
    [
        (64, 8, 32, 0.8),
        (128, 5, 16, 0.5),
        (256, 3, 8, 0.9),
        (512, 4, 4, 0.6),
        (40, 3, 4, 0.99),
    ],
)
@pytest.mark.parametrize("is_ternary", [False, True])
@pytest.mark.parametrize("level", processor.levels())
def test_convolutions_of_blocks(
    channels, filters, size, sparsity, is_ternary, level
):
    rng = np.random.default_rng(0)
    operation = Convolution(
        "conv",
        (Value((channels, size, size)),),
        Value((filters, size, size)),
        random_kernel(rng, (3, 3, channels, filters), sparsity, is_ternary),
        0.1,
        Window((3, 3), before=(1, 1)),
    )
    check(operation, [rng.normal(size=(1, channels, size, size))], level)


def test_blocks_without_weights():
    kernel = np.zeros((3, 3, 400, 2), "float32")
    kernel[1, 1, 7, 1] = 2
    operation = Convolution(
        "conv",
        (Value((400, 8, 8)),),
        Value((2, 8, 8)),
        kernel,
        0.5,
        Window((3, 3), before=(1, 1)),
    )
    array = np.random.default_rng(0).normal(size=(1, 400, 8, 8))
    check(operation, [array], processor.levels()[0])


@settings(max_examples=examples(40), deadline=None)
@given(
    _SEEDS,
    st.sampled_from([1, 9, 300]),
    st.sampled_from([1, 10, 16, 33, 64, 130, 256, 300]),
    st.sampled_from([0, 0.5, 0.9, 0.97, 1]),
    st.booleans(),
    st.sampled_from([(1, 1), (3, 2)]),
    _LEVELS,
    _IMAGES,
)
def test_dense_layers(
    seed, channels, filters, sparsity, is_ternary, size, level, images
):
    rng = np.random.default_rng(seed)
    operation = Convolution(
        "dense",
        (Value((channels, *size)),),
        Value((filters, 1, 1)),
        random_kernel(rng, (*size, channels, filters), sparsity, is_ternary),
        0.1,
        Window(size),
        1,
        Steps(offset=rng.normal(size=filters).astype("float32")),
    )
    inputs = np.maximum(rng.normal(size=(images, channels, *size)), 0)
    check(operation, [inputs], level, images)


@st.composite
def shapes(draw):
    size = st.one_of(st.integers(1, 9), st.sampled_from([16, 33]))
    return draw(st.integers(1, 5)), draw(size), draw(size)


@settings(max_examples=examples(40), deadline=None)
@given(st.data(), shapes(), _SEEDS, _LEVELS, _IMAGES)
def test_pools(data, shape, seed, level, images):
    rng = np.random.default_rng(seed)
    window, out = data.draw(windows(shape[1:]))
    sees = reference._windows(
        np.ones((1, *shape[1:])), window, [max(n, 1) for n in out], 0
    )
    if min(out) < 1 or sees.sum((-2, -1)).min() < 1:
        window, out = Window(shape[1:]), (1, 1)
    operation = Pool(
        "pool",
        (Value(shape),),
        Value((shape[0], *out)),
        window,
        data.draw(st.booleans()),
    )
    check(operation, [rng.normal(size=(images, *shape))], level, images)


@pytest.mark.parametrize("level", processor.levels())
@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("size", [(2, 2), (7, 6), (8, 8), (5, 12), (32, 32)])
def test_pools_of_tiles(size, mean, level):
    shape = (3, *size)
    operation = Pool(
        "pool",
        (Value(shape),),
        Value((3, size[0] // 2, size[1] // 2)),
        Window((2, 2), (2, 2)),
        mean,
    )
    array = np.random.default_rng(0).normal(size=(1, *shape))
    check(operation, [array], level)


@settings(max_examples=examples(40), deadline=None)
@given(st.data(), shapes(), _SEEDS, _LEVELS, _IMAGES)
def test_merges(data, shape, seed, level, images):
    rng = np.random.default_rng(seed)
    how = data.draw(
        st.sampled_from(["add", "subtract", "multiply", "maximum", "minimum"])
    )
    inputs = tuple(Value(shape) for _ in range(data.draw(st.integers(2, 4))))
    steps = some_steps(data.draw, rng, shape[0])
    operation = Merge("merge", inputs, Value(shape), how, steps)
    arrays = [rng.normal(size=(images, *shape)) for _ in inputs]
    arrays = [array.astype("float32") for array in arrays]
    check(operation, arrays, level, images)


@settings(max_examples=examples(40), deadline=None)
@given(st.data(), shapes(), _SEEDS, _LEVELS, _IMAGES)
def test_steps_and_moves(data, shape, seed, level, images):
    rng = np.random.default_rng(seed)
    array = rng.normal(size=(images, *shape)).astype("float32")
    value = Value(shape)
    steps = some_steps(data.draw, rng, shape[0])
    check(
        Elementwise("steps", (value,), Value(shape), steps),
        [array],
        level,
        images,
    )
    joined = Value((2 * shape[0], *shape[1:]))
    second = Value(shape)
    both = [array, array[::-1].copy()]
    check(Concatenate("join", (value, second), joined), both, level, images)
    index = data.draw(
        st.sampled_from(
            [
                rng.permutation(value.size).reshape(shape),
                np.arange(value.size).reshape(shape[::-1]).transpose(2, 1, 0),
                np.pad(
                    np.arange(value.size).reshape(shape),
                    ((0, 0), (1, 2), (0, 1)),
                    constant_values=-1,
                ),
                np.full((1, 1, 1), -1),
            ]
        )
    )
    operation = Gather(
        "gather", (value,), Value(index.shape), index.astype("int32")
    )
    check(operation, [array], level, images, rtol=0)


@settings(max_examples=examples(40), deadline=None)
@given(shapes(), _SEEDS, _LEVELS, _IMAGES)
def test_softmax(shape, seed, level, images):
    rng = np.random.default_rng(seed)
    operation = Softmax("softmax", (Value(shape),), Value(shape))
    array = rng.normal(0, 10, (images, *shape)).astype("float32")
    check(operation, [array], level, images, rtol=1e-6)


@pytest.mark.parametrize("level", processor.levels())
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_to_a_few_units_of_the_last_place(name, level):
    rng = np.random.default_rng(0)
    numbers = np.concatenate(
        [
            np.linspace(-20, 20, 4001),
            rng.normal(size=2000),
            rng.normal(size=1000) * 1e-3,
            rng.uniform(-85, 85, 1000),
            [0.0, 1e-30, -1e-30],
        ]
    ).astype("float32")
    value = Value((1, 1, len(numbers)))
    operation = Function(name, (value,), Value(value.shape), name)
    found = computed(operation, [numbers.reshape(1, 1, 1, -1)], level).ravel()
    with np.errstate(over="ignore"):
        expected = exactly(name, numbers.astype("float64"))
    normal = np.abs(expected) > 2e-38
    unit = np.spacing(np.abs(expected[normal]).astype("float32"))
    apart = np.abs(found[normal] - expected[normal]) / unit
    assert apart.max() <= 5


def exactly(name, v):
    erfc = np.vectorize(math.erfc)
    return {
        "sigmoid": lambda: 1 / (1 + np.exp(-v)),
        "tanh": lambda: np.tanh(v),
        "exp": lambda: np.exp(v),
        "softplus": lambda: np.logaddexp(0, v),
        "silu": lambda: v / (1 + np.exp(-v)),
        "elu": lambda: np.where(v > 0, v, np.expm1(np.minimum(v, 0))),
        "gelu": lambda: v * erfc(-v / math.sqrt(2)) / 2,
    }[name]()


@pytest.mark.parametrize("level", processor.levels())
def test_functions_of_infinity_and_what_is_no_number(level):
    numbers = np.array([-np.inf, np.inf, np.nan], "float32")
    ends = {
        "sigmoid": (0, 1),
        "tanh": (-1, 1),
        "exp": (0, np.inf),
        "softplus": (0, np.inf),
        "elu": (-1, np.inf),
        "gelu": (0, np.inf),
    }
    value = Value((1, 1, 3))
    for name, expected in ends.items():
        operation = Function(name, (value,), Value(value.shape), name)
        found = computed(operation, [numbers.reshape(1, 1, 1, 3)], level)
        np.testing.assert_array_equal(found.ravel(), [*expected, np.nan])


@pytest.mark.parametrize("images", [1, 64])
@pytest.mark.parametrize("sign_input", [False, True])
def test_convolutions_that_end_or_begin_in_signs(sign_input, images):
    rng = np.random.default_rng(0)
    kernel = rng.choice([-1.0, -0.5, 0, 0.5, 2], (3, 3, 5, 70))
    operation = Convolution(
        "conv",
        (Value((5, 9, 7), SIGN if sign_input else "float"),),
        Value((70, 9, 7), SIGN),
        kernel.astype("float32"),
        0.5,
        Window((3, 3), before=(1, 1)),
        1,
        Steps(offset=rng.integers(-4, 5, 70).astype("float32")),
    )
    array = rng.choice([-1, 1], (images, 5, 9, 7)).astype("int8")
    check(operation, [array], processor.levels()[0], images)
