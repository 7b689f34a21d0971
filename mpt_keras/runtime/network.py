"""A ticket that runs: arrays in, arrays out."""

import contextlib
import ctypes
import dataclasses
import numbers
import os
from typing import Any

import numpy as np

from mpt_keras.runtime import library, reference
from mpt_keras.runtime.compiled_program import CompiledProgram
from mpt_keras.runtime.fusing import fuse
from mpt_keras.runtime.lowering import lower
from mpt_keras.runtime.operations import Plan
from mpt_keras.runtime.packing import pack
from mpt_keras.runtime.side_by_side import LARGEST, SIDE_BY_SIDE, SideBySide
from mpt_keras.ticket.errors import TicketError
from mpt_keras.ticket.packaged import as_path
from mpt_keras.ticket.reading import (
    MAX_WEIGHTS,
    Ticket,
    as_ticket,
    parse_ticket,
)


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
        path: A ticket file that `mpt_keras.save_ticket` wrote, or the name of
            a ticket that comes with the package (`mpt_keras.pretrained`).
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
    source = _Source(as_path(path).read_bytes(), base, max_weights)
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
        self._input_dtype = plan.input_dtype
        compiled = library.load(level)
        if compiled is None:
            self.level = "numpy"
            self.weight_bytes = self.arena_bytes = 0
            self._one = _Reference(plan)
            self._many = None
        else:
            self.level = compiled.level
            program = pack(plan, counts_bits=compiled.counts_bits)
            self.weight_bytes = program.table_bytes
            self.arena_bytes = program.arena_bytes
            self._one = CompiledProgram(program, compiled)
            # Of larger maps every cache is too small, side by side.
            fits = SIDE_BY_SIDE * program.arena_bytes <= LARGEST
            again = source.plan if source and fits else None
            self._many = SideBySide(self._one, compiled, again)

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
        if self._many is not None and len(images) >= SIDE_BY_SIDE:
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
        if self._input_dtype == "uint8" and images.dtype != "uint8":
            raise ValueError(
                f"Network '{self.name}' takes images of dtype uint8. Received: "
                f"dtype {images.dtype}"
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
