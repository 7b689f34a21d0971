"""A ticket that runs: arrays in, arrays out."""

import contextlib
import ctypes
import dataclasses
import math
import numbers
import os
import pathlib
import sys
import threading
import time
from typing import Any

import numpy as np

from mpt_keras.runtime import library, reference
from mpt_keras.runtime.errors import UnsupportedLayerError
from mpt_keras.runtime.fusing import fuse
from mpt_keras.runtime.lowering import lower
from mpt_keras.runtime.operations import Plan
from mpt_keras.runtime.packing import pack
from mpt_keras.runtime.program import ALIGNMENT, Buffer, Program
from mpt_keras.runtime.structures import structures
from mpt_keras.ticket.errors import TicketError
from mpt_keras.ticket.reading import (
    MAX_WEIGHTS,
    Ticket,
    as_ticket,
    parse_ticket,
)

# So many images a run, where that is faster than one after another.
_SIDE_BY_SIDE = 64
_LARGEST = 2**28  # bytes of memory for them
# Both ways are timed in turn, so often unless it is clear before, or takes
# more seconds; and one after another only a few images.
_TRIES = 5
_CLEAR = 1.25
_PATIENCE = 0.5
_FEW = 8


def load(
    path: str | os.PathLike[str],
    *,
    base: Ticket | str | os.PathLike[str] | None = None,
    threads: int = 1,
    level: str | None = None,
    max_weights: int = MAX_WEIGHTS,
) -> "Network":
    """Reads a ticket and makes it ready to run, without Keras or a backend.

    All that the file holds is checked as `read_ticket` does.

    Args:
        path: A ticket file that `mpt_keras.save_ticket` wrote.
        base: The ticket, or its file, that this one was saved against.
        threads: Number of threads among which a batch is divided.
        level: Instruction set, one of `mpt_keras.runtime.levels()`; None for
            the best that the processor has, `"numpy"` for none: the reference
            in NumPy, slow. The environment variable
            `MPT_KERAS_RUNTIME_LEVEL` chooses where None is given.
        max_weights: Refuse a file that announces more of them.

    Returns:
        `Network`.

    Raises:
        TicketError: If the file is no whole, valid ticket.
        UnsupportedLayerError: If a layer of the network is not supported.
        OSError: If the file cannot be read.

    Example:

    >>> mpt_keras.save_ticket(model, "first.ticket")
    >>> network = mpt_keras.runtime.load("first.ticket")
    >>> network(np.zeros((2, *network.input_shape), "float32")).shape
    (2, 2)
    """
    source = _Source(
        pathlib.Path(os.fsdecode(path)).read_bytes(), base, max_weights
    )
    try:
        return _network(source, threads, level)
    except TicketError as error:
        raise TicketError(f"Cannot read the ticket '{path}'. {error}") from None


@dataclasses.dataclass(frozen=True)
class _Source:
    """What a network is made of, and made of again for many images at once."""

    data: bytes
    base: Ticket | str | os.PathLike[str] | None
    max_weights: int

    def plan(self) -> Plan:
        base = as_ticket(self.base, self.max_weights)
        return fuse(lower(parse_ticket(self.data, base, self.max_weights)))


def _network(source, threads, level):
    library.load(level)  # which also reads tickets faster
    network = Network(
        source.plan(), threads=threads, level=level, source=source
    )
    _give_back_memory()
    return network


class Network:
    """A network ready to run; `load` makes it.

    Calls are independent of each other, from any thread.

    Attributes:
        name: The model's.
        input_shape: Of one image, as Keras has it.
        output_shape: Of one result, as Keras has it.
        level: Instruction set of the kernels; `"numpy"` for none.
        weight_bytes: Size of the weights as they are packed.
        arena_bytes: Size of the memory in which one image is computed.

    Example:

    >>> mpt_keras.save_ticket(model, "first.ticket")
    >>> network = mpt_keras.runtime.load("first.ticket", level="numpy")
    >>> network.level, network.weight_bytes
    ('numpy', 0)
    """

    def __init__(self, plan: Plan, *, threads=1, level=None, source=None):
        self.name = plan.name
        self.input_shape = plan.input_shape
        self.output_shape = plan.output_shape
        self._threads = _checked_threads(threads)
        self._source = source
        compiled = library.load(level)
        if compiled is None:
            self.level = "numpy"
            self.weight_bytes = self.arena_bytes = 0
            self._one = _Reference(plan)
            self._many = None
        else:
            self.level = compiled.level
            program = pack(plan, counts_bits=_counts_bits(compiled))
            self.weight_bytes = program.table_bytes
            self.arena_bytes = program.arena_bytes
            self._one = _Compiled(program, compiled)
            # Of larger maps every cache is too small, side by side.
            fits = _SIDE_BY_SIDE * program.arena_bytes <= _LARGEST
            again = source.plan if source and fits else None
            self._many = _SideBySide(self._one, compiled, again)

    def __call__(self, images: Any) -> np.ndarray:
        """Computes what the frozen Keras model predicts.

        Where a network has binary activations, NaN counts as -1 there.
        Elsewhere it stays NaN, but for weights that are pruned: they do not
        see it, nor infinities, where Keras multiplies them by 0.

        Args:
            images: Array `(batch, *input_shape)` of real numbers, which are
                computed with as float32.

        Returns:
            Float32 array `(batch, *output_shape)`.

        Raises:
            ValueError: If the shape or the type is another.
        """
        images = self._checked(images)
        results = np.empty((len(images), *self.output_shape), "float32")
        count = min(self._threads, max(1, len(images)))
        parts = [
            slice(len(images) * i // count, len(images) * (i + 1) // count)
            for i in range(count)
        ]

        def compute(part):
            self._compute(images[part], results[part])

        if count == 1:
            compute(slice(None))
        else:
            _in_threads(compute, parts)
        return results

    def _compute(self, images, results):
        begin = 0
        if self._many is not None and len(images) >= _SIDE_BY_SIDE:
            begin = self._many.run(images, results)
        for image, result in zip(images[begin:], results[begin:], strict=True):
            self._one.run(image, result)

    def _checked(self, images):
        images = np.asarray(images)
        if images.dtype.kind not in "fiub":
            raise ValueError(
                f"Network '{self.name}' takes real numbers. Received: images "
                f"of dtype {images.dtype}"
            )
        if images.shape[1:] != self.input_shape or images.ndim == 0:
            raise ValueError(
                f"Network '{self.name}' takes images of shape (batch, "
                f"{', '.join(map(str, self.input_shape))}). Received: shape "
                f"{images.shape}"
                + (
                    ". Give one image as images[None]."
                    if images.shape == self.input_shape
                    else ""
                )
            )
        with np.errstate(over="ignore"):  # beyond float32 is infinite
            return np.ascontiguousarray(images, "float32")

    def __reduce__(self):
        if self._source is None:
            raise TypeError(f"Network '{self.name}' was not made by `load`.")
        level = self.level if self.level == "numpy" else None
        return _network, (self._source, self._threads, level)

    def __repr__(self) -> str:
        return (
            f"<Network '{self.name}', {self.input_shape} -> "
            f"{self.output_shape}, {self.weight_bytes:,} bytes of weights, "
            f"{self.arena_bytes:,} of arena, {self.level}>"
        )


def _in_threads(compute, parts):
    from concurrent import futures  # most processes have one thread

    with futures.ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(compute, parts))


def _give_back_memory():
    """What reading a ticket took, and glibc would keep."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _checked_threads(threads):
    is_integer = isinstance(threads, numbers.Integral)
    if not is_integer or isinstance(threads, bool) or threads < 1:
        raise ValueError(
            "Invalid value for argument `threads`. Expected a positive "
            f"integer. Received: threads={threads!r}"
        )
    return int(threads)


class _Reference:
    """Runs a plan with NumPy."""

    def __init__(self, plan):
        self._plan = plan

    def run(self, image, result):
        plan = self._plan
        planes = _to_planes(image, plan)
        values = reference.run(plan, planes)
        if not plan.output_channels_first:
            values = np.moveaxis(values, 0, -1)
        result[...] = values.reshape(result.shape)


def _to_planes(image, plan):
    channels, rows, columns = plan.input.shape
    if plan.input_channels_first:
        return image.reshape(channels, rows, columns)
    return np.moveaxis(image.reshape(rows, columns, channels), -1, 0)


def _counts_bits(compiled):
    return compiled.level == "avx512_popcnt"


class _Compiled:
    """Runs a program with compiled kernels."""

    def __init__(self, program: Program, compiled: library.Library):
        self.images = program.images
        self._arena_bytes = program.arena_bytes
        self._arenas = threading.local()
        self._keep = [_aligned(table) for table in program.tables]
        places = {
            id(table): copy.ctypes.data
            for table, copy in zip(program.tables, self._keep, strict=True)
        }
        kinds = structures()
        steps = []
        for call in program.calls:
            fields = _fields(kinds[call.kernel], call.fields, places)
            self._keep.append(fields)
            steps.append(
                library.Step(
                    compiled.function(call.kernel), ctypes.addressof(fields)
                )
            )
        self._steps = (library.Step * len(steps))(*steps)
        plan = program.plan
        self._from = kinds["images_to_planes"](
            output=program.input.offset,
            **_sizes(plan.input, plan.input_channels_first, self.images),
        )
        self._to = kinds["planes_to_images"](
            input=program.output.offset,
            **_sizes(plan.output, plan.output_channels_first, self.images),
        )
        self._run = compiled.run

    def run(self, images, results):
        """Of as many images as the program takes at once."""
        self._run(
            self._steps,
            len(self._steps),
            self._from,
            images.ctypes.data,
            self._to,
            results.ctypes.data,
            self._arena(),
        )

    def _arena(self):
        try:
            return self._arenas.address
        except AttributeError:
            memory = np.empty(self._arena_bytes + ALIGNMENT, "uint8")
            self._arenas.memory = memory
            self._arenas.address = (
                memory.ctypes.data + -memory.ctypes.data % ALIGNMENT
            )
            return self._arenas.address


def _sizes(value, channels_first, images):
    """Planes as [image][row][column][channel] see them."""
    channels = 1 if channels_first else value.shape[0]
    return {
        "channels": channels,
        "pixels": value.size // channels,
        "images": images,
    }


def _aligned(table):
    memory = np.empty(table.nbytes + ALIGNMENT, "uint8")
    begin = -memory.ctypes.data % ALIGNMENT
    copy = memory[begin : begin + table.nbytes]
    copy[...] = np.ascontiguousarray(table).ravel().view("uint8")
    return copy


def _fields(kind, fields, places):
    values = {}
    for name, field in fields.items():
        if isinstance(field, Buffer):
            field = field.offset
        elif isinstance(field, np.ndarray):
            field = places[id(field)]
        values[name] = field
    expected = {name for name, _ in kind._fields_}
    if values.keys() != expected:
        raise AssertionError(
            f"Kernel '{kind.__name__}' takes {sorted(expected)}. Received: "
            f"{sorted(values)}"
        )
    return kind(**values)


class _SideBySide:
    """Many images a run, if that is faster than one after another."""

    def __init__(self, one, compiled, plan_again):
        self._one = one
        self._compiled = compiled
        self._plan_again = plan_again
        self._lock = threading.Lock()
        self._is_faster: bool | None = None if plan_again else False
        self._many: _Compiled | None = None

    def run(self, images, results) -> int:
        """Computes some of the images; returns how many, from the first."""
        with self._lock:
            if self._is_faster is None:
                self._decide(images[:_SIDE_BY_SIDE], results[:_SIDE_BY_SIDE])
        if not self._is_faster:
            return 0
        end = len(images) // _SIDE_BY_SIDE * _SIDE_BY_SIDE
        for begin in range(0, end, _SIDE_BY_SIDE):
            part = slice(begin, begin + _SIDE_BY_SIDE)
            self._many.run(images[part], results[part])
        return end

    def _decide(self, images, results):
        counts_bits = _counts_bits(self._compiled)
        try:
            program = pack(self._plan_again(), _SIDE_BY_SIDE, counts_bits)
        except UnsupportedLayerError:  # of 64 images; of one it is not
            self._is_faster = False
            return
        many = _Compiled(program, self._compiled)

        def one_after_another():
            for image, result in zip(
                images[:_FEW], results[:_FEW], strict=True
            ):
                self._one.run(image, result)

        def side_by_side():
            many.run(images, results)

        self._is_faster = _is_faster(side_by_side, one_after_another)
        if self._is_faster:
            self._many = many


def _is_faster(side_by_side, one_after_another):
    """Whether many images take less time than as many times a few."""
    began = time.perf_counter()
    many = few = math.inf
    for number in range(_TRIES):
        few = min(few, _seconds(one_after_another) * _SIDE_BY_SIDE / _FEW)
        many = min(many, _seconds(side_by_side))
        # The first time, either may have had to fetch memory.
        is_clear = number and max(few, many) > _CLEAR * min(few, many)
        if is_clear or time.perf_counter() - began > _PATIENCE:
            break
    return many < few


def _seconds(run):
    """Of this thread alone: others may keep a processor busy."""
    # Windows counts them in ticks of 16 ms.
    is_coarse = sys.platform == "win32"
    clock = time.perf_counter if is_coarse else time.thread_time
    begin = clock()
    run()
    return clock() - begin
