"""Kernels never read or write outside their arrays, nor what nobody wrote.

A program of C, compiled with the sanitizers of addresses and of undefined
behaviour, computes what it is sent: tables, structures and buffers in one
stretch of memory, each at a place of its own between gaps that nothing may
touch. What buffers hold at first must not matter.
"""

import contextlib
import dataclasses
import math
import shutil
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from mpt_keras.drawing import Draw
from mpt_keras.runtime import processor, reference
from mpt_keras.runtime.compiling import LEVELS, architecture
from mpt_keras.runtime.drawn_signs import DrawnSigns, with_drawn_signs
from mpt_keras.runtime.operations import (
    FLOAT,
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
    Threshold,
    Value,
    Window,
)
from mpt_keras.runtime.packing import adder, pack, popcount, signs
from mpt_keras.runtime.packing.windows import inside
from mpt_keras.runtime.program import (
    ALIGNMENT,
    BITS,
    PACKED,
    Buffer,
    Call,
    Program,
)
from mpt_keras.runtime.structures import source_of, structures

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="needs the sanitizers of Linux"
)

# --- A computer -------------------------------------------------------------

_FLAGS = (
    *("-std=c99", "-O1", "-g1", "-ffp-contract=off"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
)
_OF_COMPILER = {
    "gcc": ("-static-libasan",),  # others may be loaded before it
    "clang": (),
}
# No level is for 8 bytes, but kernels can be compiled so.
_MORE = {"width8": ("-DMPT_WIDTH=8",)}
_LEVELS = {**LEVELS[architecture()], **_MORE}
_GAP = 512
_ENDS = ("images_to_planes", "planes_to_images")
_KERNELS = sorted(structures().keys() - {*_ENDS})
_MAIN = """
#include <sanitizer/asan_interface.h>
#include <stdio.h>
#include <stdlib.h>

struct request {
  int64_t bytes, gaps, pointers, calls, from, images, to, results;
};

static void *received(int64_t bytes) {
  void *memory;
  if (posix_memalign(&memory, 64, (size_t)bytes + 1)) abort();
  if (fread(memory, 1, (size_t)bytes, stdin) != (size_t)bytes) abort();
  return memory;
}

static void call(int64_t kernel, const void *fields, char *arena) {
  switch (kernel) {
CASES
  }
}

int main(void) {
  struct request r;
  while (fread(&r, sizeof r, 1, stdin)) {
    char *memory = received(r.bytes);
    int64_t *gaps = received(16 * r.gaps), *calls;
    int64_t *pointers = received(16 * r.pointers);
    calls = received(16 * r.calls);
    for (int64_t i = 0; i < r.pointers; i++)
      *(char **)(memory + pointers[2 * i]) = memory + pointers[2 * i + 1];
    for (int64_t i = 0; i < r.gaps; i++)
      ASAN_POISON_MEMORY_REGION(memory + gaps[2 * i], gaps[2 * i + 1]);
    images_to_planes((const void *)(memory + r.from),
                     (const float *)(memory + r.images), memory);
    for (int64_t i = 0; i < r.calls; i++)
      call(calls[2 * i], memory + calls[2 * i + 1], memory);
    planes_to_images((const void *)(memory + r.to), memory,
                     (float *)(memory + r.results));
    ASAN_UNPOISON_MEMORY_REGION(memory, r.bytes);
    fwrite(memory, 1, (size_t)r.bytes, stdout);
    fflush(stdout);
    free(memory), free(gaps), free(pointers), free(calls);
  }
}
"""


def source():
    """The computer: all kernels, and what calls them."""
    cases = "\n".join(
        f"    case {number}: {kernel}(fields, arena); break;"
        for number, kernel in enumerate(_KERNELS)
    )
    return (
        "#define _POSIX_C_SOURCE 200112L\n"
        + source_of(structures())
        + _MAIN.replace("CASES", cases)
    )


class Request:
    """A program and its images, in memory between gaps."""

    def __init__(self, program: Program, images):
        self._bytes = _GAP
        self._gaps = [(0, _GAP)]
        self._data: list[tuple[int, np.ndarray]] = []
        self._tables: list[tuple[int, np.ndarray]] = []
        self._pointers: list[tuple[int, int]] = []
        self._places: dict[int, int] = {}
        plan = program.plan
        self._shape = program.images, *plan.output.shape
        sizes = {"channels": 1, "images": program.images}
        first = Call(
            *(_ENDS[0], "", {**sizes, "pixels": plan.input.size}),
        )
        first.fields["output"] = program.input
        last = Call(
            *(_ENDS[1], "", {**sizes, "pixels": plan.output.size}),
        )
        last.fields["input"] = program.output
        calls = [
            (_KERNELS.index(call.kernel), self._structure(call))
            for call in [*_starts(program), *program.calls]
        ]
        first, last = self._structure(first), self._structure(last)
        images = self._table(np.ascontiguousarray(images, "float32"))
        self._results = self._take(4 * math.prod(self._shape))
        lists = [self._gaps, self._pointers, calls]
        head = [self._bytes, *map(len, lists)]
        head += [first, images, last, self._results]
        self._head = np.array(head, "int64").tobytes()
        self._lists = b"".join(
            np.array(pairs, "int64").tobytes() for pairs in lists
        )

    def sent(self, pattern: int) -> bytes:
        """What the computer takes; `pattern` is in all that is not given."""
        memory = np.full(self._bytes, pattern, "uint8")
        for place, data in self._data + self._tables:
            memory[place : place + len(data)] = data
        return self._head + memory.tobytes() + self._lists

    def answer(self, file):
        """Reads what it gives; None if it gives nothing."""
        memory = np.frombuffer(file.read(self._bytes), "uint8")
        if len(memory) < self._bytes:
            return None
        for place, data in self._tables:
            now = memory[place : place + len(data)]
            np.testing.assert_array_equal(now, data, "a table has changed")
        size = 4 * math.prod(self._shape)
        results = memory[self._results : self._results + size]
        return results.view("float32").reshape(self._shape)

    def _take(self, size):
        """Room for so many bytes."""
        place = self._bytes
        self._bytes = -(-(place + size + _GAP) // ALIGNMENT) * ALIGNMENT
        self._gaps.append((place + size, self._bytes - place - size))
        return place

    def _table(self, table):
        data = np.ascontiguousarray(table).reshape(-1).view("uint8")
        self._tables.append((self._take(len(data)), data))
        return self._tables[-1][0]

    def _place(self, field):
        if id(field) not in self._places:
            self._places[id(field)] = (
                self._table(field)
                if isinstance(field, np.ndarray)
                else self._take(_bytes(field))
            )
        return self._places[id(field)]

    def _structure(self, call):
        kind = structures()[call.kernel]
        values, pointers = {}, []
        for name, field in call.fields.items():
            values[name] = field
            if isinstance(field, Buffer):
                values[name] = self._place(field)
            elif isinstance(field, (np.ndarray, DrawnSigns)):
                values[name] = None
                pointers.append((getattr(kind, name).offset, field))
        assert values.keys() == dict(kind._fields_).keys()
        data = np.frombuffer(bytes(kind(**values)), "uint8")
        place = self._take(len(data))
        self._data.append((place, data))
        for offset, field in pointers:
            self._pointers.append((place + offset, self._place(field)))
        return place


def _bytes(field):
    return field.nbytes if isinstance(field, DrawnSigns) else field.bytes


def _starts(program):
    """The calls that draw weights."""
    for call in program.calls:
        drawn = call.fields.get("weights")
        if isinstance(drawn, DrawnSigns):
            filters, _, taps = drawn.kept.shape
            yield Call(
                "draw_signs",
                call.layer,
                {
                    "seed": drawn.draw.seed,
                    "stream": drawn.draw.stream,
                    "kept": drawn.kept,
                    "weights": drawn,
                    "taps": taps,
                    "channels": drawn.channels,
                    "filters": filters,
                },
            )


class Computer:
    """A process that runs what it is sent, until a sanitizer ends it."""

    def __init__(self, compiler, level, folder):
        self._errors = folder / "errors"
        self._program = folder / "computer"
        self._process = None
        path = folder / "computer.c"
        path.write_text(source())
        flags = (*_FLAGS, *_OF_COMPILER[compiler], *_LEVELS[level])
        subprocess.run(
            [compiler, *flags, path, "-o", self._program], check=True
        )

    def run(self, program: Program, images: np.ndarray) -> np.ndarray:
        """What a program gives, whatever was in its buffers before."""
        request = Request(program, images)
        found = [self._run(request, pattern) for pattern in (0xFF, 0x5A)]
        np.testing.assert_array_equal(*found, "it depends on what was there")
        return found[0]

    def _run(self, request, pattern):
        process = self._process or self._start()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(request.sent(pattern))
            process.stdin.flush()
        found = request.answer(process.stdout)
        if found is None:
            self.close()
            raise AssertionError(self._errors.read_text()[:5000])
        return found

    def _start(self):
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                [self._program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={
                    "ASAN_OPTIONS": "detect_leaks=0",
                    "UBSAN_OPTIONS": "print_stacktrace=1",
                },
            )
        return self._process

    def close(self):
        """Ends the process."""
        if self._process is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.stdout.close()
            self._process.wait()
            self._process = None


def ways():
    """Compilers and instruction sets; most when there is time."""
    best, quick = processor.levels()[0], {("gcc", "sse2"), ("clang", "plain")}
    for compiler in _OF_COMPILER:
        for level in (*processor.levels(), *_MORE):
            is_quick = (compiler, level) in quick | {("gcc", best)}
            marks = () if is_quick else (pytest.mark.slow,)
            yield pytest.param((compiler, level), marks=marks)


@pytest.fixture(
    scope="module", params=ways(), ids=lambda way: f"{way[0]}-{way[1]}"
)
def computer(request, tmp_path_factory):
    compiler, level = request.param
    if not shutil.which(compiler):
        pytest.skip(f"needs {compiler}")
    folder = tmp_path_factory.mktemp("computer")
    computer = Computer(compiler, level, folder)
    yield computer
    computer.close()


# --- Networks ---------------------------------------------------------------

_SIZES = (1, 2, 4, 5, 7, 8, 9, 14, 28, 33)
_CHANNELS = (1, 2, 3, 5, 8, 31, 64, 65, 128, 130)
_FILTERS = (1, 2, 3, 5, 8, 16, 17, 33, 64, 70)
_SPARSITIES = (0, 0.5, 0.9, 0.99)
_ONE = Window()
# Multiplications, so that the reference takes no time, and sanitizers little.
_WORK = 1 << 21
_MOST_WORK = 1 << 22


def plan_of(operations, first, last):
    """Of operations, which may begin and end in signs."""
    if first.kind == SIGN:
        value = Value(first.shape)
        before = Elementwise("signs", (value,), first, Steps())
        first, operations = value, [before, *operations]
    if last.kind == SIGN:
        value = Value(last.shape)
        after = Elementwise("floats", (last,), value, Steps())
        last, operations = value, [*operations, after]
    shapes = first.shape, last.shape
    return Plan("test", first, last, *shapes, True, True, tuple(operations))


def images_of(plan, images, rng):
    """Such that all sums are exact."""
    values = rng.integers(-8, 9, (images, *plan.input.shape)) / 4
    return values.astype("float32")


def check(computer, program, rng):
    """Compares some images with the reference."""
    plan, count = program.plan, program.images
    images = images_of(plan, count, rng)
    found = computer.run(program, images)
    for image in {0, count // 3, count - 1}:
        expected = reference.run(plan, images[image])
        last = plan.operations[-1]
        if isinstance(last, Elementwise) and last.inputs[0].kind == SIGN:
            np.testing.assert_array_equal(found[image], expected)
        largest = np.abs(expected).max()
        np.testing.assert_allclose(
            found[image], expected, rtol=0, atol=1e-5 * max(largest, 1e-30)
        )


def packed(plan, images=1, form=None, layouts=None, **options):
    """A program.

    Args:
        plan: `Plan`.
        images: How many.
        form: `BITS`, `PACKED`, or "any", of all convolutions of signs that
            can be so; by default what is chosen.
        layouts: One for each value of signs.
        **options: Of `pack`.
    """

    def choose_form(operation, *_):
        if form == PACKED and not popcount.covers(operation):
            return BITS
        return form

    with contextlib.ExitStack() as stack:
        if form is not None:
            patched = mock.patch.object(signs, "choose_form", choose_form)
            stack.enter_context(patched)
        if form == "any":
            patched = mock.patch.object(adder, "covers", return_value=False)
            stack.enter_context(patched)
        if layouts is not None:
            patched = mock.patch.object(signs, "layouts", return_value=layouts)
            stack.enter_context(patched)
        return pack(plan, images, **options)


def steps_of(rng, channels):
    """Some, whose results are exact."""

    def numbers(least, most):
        return (rng.integers(least, most, channels) / 4).astype("float32")

    rectifiers = (
        None,
        Rectifier(),
        Rectifier(0.25, 0.5, 6.0),
        Rectifier(numbers(-2, 3)),
    )
    return Steps(
        numbers(-4, 5) if rng.random() < 0.5 else None,
        numbers(-8, 9) if rng.random() < 0.5 else None,
        rectifiers[rng.integers(4)],
    )


def kernel_of(rng, shape, sparsity, is_ternary):
    kernel = rng.choice([-1.0, 1.0] if is_ternary else [-0.75, 0.5, 1], shape)
    kernel[rng.random(shape) < sparsity] = 0
    kernel[..., rng.random(shape[-1]) < 0.1] = 0
    return kernel.astype("int8" if is_ternary else "float32")


def out_size(length, size, stride=1, dilation=1, pads=(0, 0)):
    return (length + sum(pads) - (size - 1) * dilation - 1) // stride + 1


def convolution(
    rng,
    source,
    filters,
    window=_ONE,
    out=None,
    result=FLOAT,
    sparsity=0.5,
    is_ternary=True,
    groups=1,
):
    """A convolution, or with `result="bits"` a `Threshold`."""
    shape = (*window.size, source.shape[0] // groups, filters)
    kernel = kernel_of(rng, shape, sparsity, is_ternary)
    out = source.shape[1:] if out is None else out
    if result == "bits":
        kept = np.abs(kernel).sum((0, 1, 2), dtype="int32")
        thresholds = rng.normal(size=filters) * np.sqrt(kept)
        extremes = rng.choice([-kept, kept + 1, 2 * kept + 9], axis=0)
        thresholds = np.where(
            rng.random(filters) < 0.2, extremes, thresholds
        ).astype("int32")
        output = Value((filters, *out), SIGN)
        return Threshold(
            *("bits", (source,), output, kernel, window, groups, thresholds)
        )
    output = Value((filters, *out), result)
    steps = steps_of(rng, filters)
    return Convolution(
        *("conv", (source,), output, kernel, 0.5, window, groups, steps)
    )


def layouts_of(plan, rng):
    """Any, of all values of signs."""
    return {
        operation.output: (BITS, PACKED)[rng.integers(2)]
        for operation in plan.operations
        if operation.output.kind == SIGN
    }


@st.composite
def windows(draw, shape, must_see=False):
    """A window and the size of what it makes."""
    if draw(st.integers(0, 5)) == 0:
        return Window(shape), (1, 1)
    parts, out = [], []
    for length in shape:
        size = draw(st.integers(1, 5))
        stride = draw(st.sampled_from([1, 1, 1, 2, 2, 3]))
        dilation = draw(st.sampled_from([1, 1, 2]))
        extent = (size - 1) * dilation + 1
        before, after = (draw(st.integers(0, extent - 1)) for _ in range(2))
        after = max(after, extent - length - before)
        parts.append((size, stride, dilation, before))
        out.append(out_size(length, size, stride, dilation, (before, after)))
    window = Window(*zip(*parts, strict=True))
    if must_see:
        made = Value((1, *out))
        seen = inside(Value((1, *shape)), window, made)
        if not all(axis.any(1).all() for axis in seen):
            return Window(), tuple(shape)
    return window, tuple(out)


_SEEDS = st.integers(0, 2**32 - 1)


def sizes():
    return st.tuples(*[st.sampled_from(_SIZES)] * 2)


@st.composite
def convolutions(draw, kind):
    rng = np.random.default_rng(draw(_SEEDS))
    size = draw(sizes())
    window, out = draw(windows(size))
    groups = draw(st.sampled_from([1, 1, 1, 1, 2, 3]))
    channels = groups * draw(st.sampled_from(_CHANNELS))
    filters = groups * draw(st.sampled_from(_FILTERS))
    if draw(st.integers(0, 5)) == 0:  # depthwise
        groups = channels
        filters = channels * draw(st.integers(1, 2))
    of_filter = math.prod((*window.size, channels // groups, *out))
    filters = min(filters, -(-_WORK // (of_filter * groups)) * groups)
    results = [FLOAT, SIGN] + 2 * ["bits"] * (kind == SIGN)
    result = draw(st.sampled_from(results))
    is_ternary = result == "bits" or draw(st.integers(0, 2)) > 0
    return rng, convolution(
        *(rng, Value((channels, *size), kind), filters, window, out, result),
        draw(st.sampled_from(_SPARSITIES)),
        is_ternary,
        groups,
    )


def wrapped(operations, rng, images=1, form=None, **options):
    """A program that begins and ends in floats, of any layouts."""
    plan = plan_of(operations, operations[0].inputs[0], operations[-1].output)
    layouts = None if form is None else layouts_of(plan, rng)
    return packed(plan, images, form, layouts, **options)


# --- What no drawn network shall miss ----------------------------------------

_MAPS = ((1, 1), (1, 7), (4, 4), (5, 9), (7, 7), (14, 14), (28, 28), (33, 33))
_FORMS = (BITS, PACKED, "any")


def same(size):
    """A window that sees outside, so that the output is as large."""
    return Window((size, size), before=(size // 2, size // 2))


def convolutions_of_signs():
    """Of every form, on maps of all sizes."""
    rng = np.random.default_rng(0)
    for number, size in enumerate(_MAPS):
        for form in _FORMS:
            for result in ("bits", FLOAT, SIGN):
                source = Value(((1, 70, 130)[number % 3], *size), SIGN)
                whole = Window(size), (1, 1)
                strides = ((3, 2), (2, 3))[number % 2]
                third = Window((2, 3), strides, (2, 1), (1, 2))
                out = tuple(
                    out_size(
                        size[i],
                        third.size[i],
                        third.strides[i],
                        third.dilation[i],
                        (third.before[i],) * 2,
                    )
                    for i in range(2)
                )
                for window, made in ((same(3), size), whole, (third, out)):
                    filters = 17 if form == BITS else 3
                    operation = convolution(
                        *(rng, source, filters, window, made, result)
                    )
                    images = 64 if number < 2 else 1
                    yield wrapped([operation], rng, images, form)


def groups_of_signs():
    rng = np.random.default_rng(1)
    for form, channels, filters, groups in (
        (BITS, 6, 12, 6),
        (BITS, 130, 65, 65),
        (PACKED, 128, 6, 2),
        (PACKED, 192, 192, 3),
        ("any", 6, 4, 2),
    ):
        for result in ("bits", FLOAT):
            source = Value((channels, 5, 9), SIGN)
            operation = convolution(
                *(rng, source, filters, same(3), None, result),
                groups=groups,
            )
            yield wrapped([operation], rng, 1, form)


def chains_of_signs():
    """From layer to layer in both layouts, and pools between."""
    rng = np.random.default_rng(2)
    for images in (1, 64):
        for form in _FORMS if images == 1 else (BITS, PACKED):
            for size in ((12, 14), (9, 20)):
                values = [Value((70, *size), SIGN)]
                operations = []
                for filters in (66, 130):
                    source = values[-1]
                    operations.append(
                        convolution(
                            *(rng, source, filters, same(3), None, "bits")
                        )
                    )
                    before = operations[-1].output
                    out = before.shape[1] // 2, before.shape[2] // 2
                    pooled = Value((filters, *out), SIGN)
                    operations.append(
                        Pool(
                            *("pool", (before,), pooled),
                            Window((2, 2), (2, 2)),
                            inverted=rng.random(filters) < 0.5,
                        )
                    )
                    values.append(pooled)
                window = Window(values[-1].shape[1:])
                operations.append(
                    convolution(rng, values[-1], 10, window, (1, 1))
                )
                yield wrapped(operations, rng, images, form)


def convolutions_of_floats():
    """On maps of all sizes, and so many channels that they are blocks."""
    rng = np.random.default_rng(3)
    for number, size in enumerate((*_MAPS, (5, 150), (2, 300))):
        for is_ternary in (True, False):
            for images in (1, 64) if math.prod(size) < 50 else (1,):
                source = Value(((1, 7, 130)[number % 3], *size))
                whole = Window(size), (1, 1)
                strided = Window((3, 3), (2, 2), (1, 1), (1, 1))
                out = tuple(out_size(n, 3, 2, 1, (1, 1)) for n in size)
                for window, made in (
                    (same(3), size),
                    (_ONE, size),
                    (Window((5, 5), (1, 1), (2, 2), (4, 4)), size),
                    (strided, out),
                    whole,
                ):
                    for sparsity in (0, 0.95):
                        operation = convolution(
                            *(rng, source, 3, window, made, FLOAT, sparsity),
                            is_ternary,
                        )
                        yield wrapped([operation], rng, images)


def more_convolutions_of_floats():
    rng = np.random.default_rng(4)
    sign = Value((5, 9, 7), SIGN)
    yield wrapped(
        [convolution(rng, sign, 70, same(3), None, SIGN, 0.5, False)], rng
    )
    for size in ((33, 33), (40, 50)):  # windows of many rows, side by side
        source = Value((3, size[0], size[1] + 1))
        for out in ((1, 2), (1, 1)):
            operation = convolution(rng, source, 3, Window(size), out)
            yield wrapped([operation], rng, 64)
    for channels, size, sparsity in (
        (512, 4, 0.6),
        (256, 8, 0.9),
        (64, 32, 0.8),
        (200, 1, 1),
        (20, 28, 0.98),
    ):
        for is_ternary in (True, False):
            source = Value((channels, size, size))
            yield wrapped(
                [
                    convolution(
                        *(rng, source, 3, same(3), None, FLOAT, sparsity),
                        is_ternary,
                    )
                ],
                rng,
            )
    for groups in (2, 6):
        source = Value((6, 9, 8))
        operation = convolution(
            *(rng, source, 12, same(3), None, FLOAT, 0.2, True, groups)
        )
        yield wrapped([operation], rng)

    # Windows of many columns, as many as the map has and fewer.
    for columns, width in ((20, 41), (40, 41), (300, 41), (300, 81)):
        window = Window((1, width), before=(0, width // 2))
        source = Value((3, 2, columns))
        operation = convolution(rng, source, 2, window)
        for images in (1, 64):
            yield wrapped([operation], rng, images)


def dense_layers():
    rng = np.random.default_rng(5)
    for units in (1, 9, 16, 300):
        for filters in (1, 10, 16, 20, 33, 130, 300):
            for is_ternary in (True, False):
                for sparsity in (0, 0.5, 0.99):
                    operation = convolution(
                        *(rng, Value((units, 1, 1)), filters),
                        sparsity=sparsity,
                        is_ternary=is_ternary,
                    )
                    yield wrapped([operation], rng)


def pools():
    rng = np.random.default_rng(6)
    for size in (*_MAPS, (8, 16), (4, 32), (16, 16), (6, 60), (3, 128)):
        for kind, mean in ((FLOAT, False), (FLOAT, True), (SIGN, False)):
            for images in (1, 64):
                channels = 8 if size[1] % 16 == 0 else 3
                source = Value((channels, *size), kind)
                half = tuple(max(1, n // 2) for n in size)
                up = tuple(-(-n // 2) for n in size)
                pairs = Window(tuple(min(2, n) for n in size), (2, 2))
                for window, out in (
                    (pairs, half),
                    (Window((2, 2), (2, 2)), up),
                    (Window((3, 3), (2, 2), before=(1, 1)), up),
                    (Window(size), (1, 1)),
                ):
                    output = Value((channels, *out), kind)
                    operation = Pool("pool", (source,), output, window, mean)
                    if kind == SIGN:
                        inverted = rng.random(channels) < 0.5
                        operation = dataclasses.replace(
                            operation, inverted=inverted
                        )
                    form = BITS if kind == SIGN else None
                    yield wrapped([operation], rng, images, form)


def others():
    """What goes entry by entry, or only moves."""
    rng = np.random.default_rng(7)
    for shape in ((1, 1, 1), (3, 1, 7), (130, 5, 9), (64, 8, 8), (3, 33, 33)):
        for images in (1, 64) if shape[0] < 4 else (1,):
            for kind in (FLOAT, SIGN):
                value = Value(shape, kind)
                second = Value(shape, kind)
                both = [value, second]
                steps = steps_of(rng, shape[0])
                first = Elementwise("steps", (value,), second, steps)
                if kind == SIGN:
                    middle = Value(shape)
                    first = [
                        Elementwise("steps", (value,), middle, steps),
                        Elementwise("signs", (middle,), second, Steps()),
                    ]
                else:
                    first = [first]
                index = rng.permutation(value.size).reshape(shape)
                turned = np.arange(value.size).reshape(shape).T
                lasts = [
                    Gather(
                        "turn", (second,), Value(turned.shape, kind), turned
                    ),
                    Gather("mix", (second,), Value(shape, kind), index),
                    Concatenate(
                        "join",
                        tuple(both),
                        Value((2 * shape[0], *shape[1:]), kind),
                    ),
                    Elementwise("floats", (second,), Value(shape), steps)
                    if kind == SIGN
                    else Elementwise(
                        "signs", (second,), Value(shape, SIGN), steps
                    ),
                    *(
                        Merge(how, tuple(both), Value(shape, last), how, steps)
                        for how, last in (
                            ("add", FLOAT),
                            ("subtract", SIGN),
                            ("multiply", FLOAT),
                            ("maximum", FLOAT),
                            ("minimum", SIGN),
                        )
                    ),
                ]
                if kind == FLOAT:
                    padded = np.pad(
                        index, ((0, 0), (1, 2), (0, 1)), constant_values=-1
                    )
                    lasts += [
                        Gather("pad", (second,), Value(padded.shape), padded),
                        Softmax("softmax", (second,), Value(shape)),
                        *(
                            Function(name, (second,), Value(shape), name)
                            for name in FUNCTIONS
                        ),
                    ]
                for last in lasts:
                    if isinstance(last, Gather):
                        last = dataclasses.replace(
                            last, index=last.index.astype("int32")
                        )
                    form = BITS if kind == SIGN else None
                    yield wrapped([*first, last], rng, images, form)


def drawn_signs():
    """Weights whose signs are drawn when the program starts."""
    rng = np.random.default_rng(8)
    for channels in (1, 70, 128):
        draw = Draw("kaiming_normal", seed=3, stream=2**63, fan_in=9)
        values = draw.values((3, 3, channels, 5))
        kernel = np.sign(values) * (rng.random(values.shape) < 0.5)
        source = Value((channels, 5, 6), SIGN)
        operation = dataclasses.replace(
            convolution(rng, source, 5, same(3)), kernel=kernel.astype("int8")
        )
        program = wrapped([operation], rng, 1, PACKED)
        program, layers = with_drawn_signs(program, {"conv": draw})
        assert layers == ["conv"]
        yield program


MADE = {
    function.__name__: function
    for function in (
        *(convolutions_of_signs, groups_of_signs, chains_of_signs),
        *(convolutions_of_floats, more_convolutions_of_floats),
        *(dense_layers, pools, others, drawn_signs),
    )
}


@pytest.mark.parametrize("name", MADE)
def test_made_networks(computer, name):
    rng = np.random.default_rng(9)
    for program in MADE[name]():
        check(computer, program, rng)


def test_every_kernel_is_called():
    called = {
        call.kernel
        for function in MADE.values()
        for program in function()
        for call in [*_starts(program), *program.calls]
    }
    assert called == {*_KERNELS}


# --- Drawn networks -----------------------------------------------------------


@st.composite
def pools_drawn(draw):
    rng = np.random.default_rng(draw(_SEEDS))
    size = draw(sizes())
    kind = draw(st.sampled_from([FLOAT, SIGN]))
    channels = draw(st.sampled_from(_CHANNELS))
    window, out = draw(windows(size, must_see=True))
    source, output = (
        Value((channels, *size), kind),
        Value((channels, *out), kind),
    )
    mean = kind == FLOAT and draw(st.booleans())
    inverted = rng.random(channels) < 0.5 if kind == SIGN else None
    return rng, Pool("pool", (source,), output, window, mean, inverted)


@st.composite
def entries(draw):
    """What goes entry by entry, between floats and signs too."""
    rng = np.random.default_rng(draw(_SEEDS))
    kinds = st.sampled_from([FLOAT, SIGN])
    shape = draw(st.sampled_from(_CHANNELS)), *draw(sizes())
    value, output = (Value(shape, draw(kinds)) for _ in range(2))
    steps = steps_of(rng, shape[0])
    how = draw(st.sampled_from(["steps", "add", "multiply", "minimum"]))
    if how == "steps":
        return rng, Elementwise("steps", (value,), output, steps)
    return rng, Merge("merge", (value, value), output, how, steps)


def check_drawn(computer, drawn, images, form):
    rng, operation = drawn
    kernel = getattr(operation, "kernel", None)
    of_pixel = operation.output.shape[0] if kernel is None else kernel.size
    if operation.output.pixels * of_pixel * images > _MOST_WORK:
        images = 1
    check(computer, wrapped([operation], rng, images, form), rng)


_OPERATIONS = st.one_of(
    convolutions(SIGN), convolutions(FLOAT), pools_drawn(), entries()
)
_IMAGES = st.sampled_from([1, 1, 1, 64, 128])


@settings(max_examples=examples(60), deadline=None, derandomize=True)
@given(_OPERATIONS, _IMAGES, st.sampled_from(_FORMS))
def test_drawn_networks(computer, drawn, images, form):
    check_drawn(computer, drawn, images, form)


@pytest.mark.slow
@settings(max_examples=examples(500), deadline=None)
@given(_OPERATIONS, _IMAGES, st.sampled_from(_FORMS))
def test_many_drawn_networks(computer, drawn, images, form):
    check_drawn(computer, drawn, images, form)


# --- The computer itself ------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 9}, "AddressSanitizer"),
        ({"at": 1}, "AddressSanitizer"),
        ({"at": -1}, "AddressSanitizer"),
        ({"size": 7}, "it depends on what was there"),
    ],
)
def test_the_computer_notices(computer, fields, message):
    value, output = Value((8, 1, 1)), Value((8, 1, 1))
    plan = plan_of([Concatenate("copy", (value,), output)], value, output)
    program = pack(plan)
    (call,) = program.calls
    call.fields.update(fields)
    with pytest.raises(AssertionError, match=message):
        computer.run(program, images_of(plan, 1, np.random.default_rng(0)))
