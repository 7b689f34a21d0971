"""Calls of kernels over one stretch of memory, the arena.

A `Program` is what a processor runs: every call names a kernel of `kernels/`
and gives the fields of the structure of the same name there. The same program
runs in this process (`network`) and is printed as C (`c_source`).
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from mpt_keras.runtime.operations import FLOAT, Plan, Value

ALIGNMENT = 64

# How a value lies in the arena, for a batch of `images` (see `Builder`).
# Floats: `[channel][row][column][image]`, float32, nothing between.
PLANES = "planes"
# Signs: 1 for +1, bit `column * images + image` of a row, little-endian; rows
# of whole bytes, planes of whole words of 64 bits; bits in between undefined.
BITS = "bits"
# Signs: channel `c` of a pixel is bit `c % 64` of word `c // 64`, zeros behind
# the last; `[row][column][image][word]`.
PACKED = "packed"


def row_bytes(columns: int, images: int = 1) -> int:
    """Of a row of a plane of `BITS`."""
    return -(-columns * images // 8)


def layout_bytes(value: Value, layout: str, images: int = 1) -> int:
    """How much memory a value takes."""
    channels, rows, columns = value.shape
    if layout == PLANES:
        return 4 * value.size * images
    if layout == BITS:
        plane = rows * row_bytes(columns, images)
        return channels * (-(-plane // 8) * 8)
    return rows * columns * images * (-(-channels // 64) * 8)


@dataclasses.dataclass(eq=False)
class Buffer:
    """A part of the arena.

    Attributes:
        bytes: Size.
        offset: Where it begins, a multiple of `ALIGNMENT`; known once the
            program is whole.
    """

    bytes: int
    offset: int = -1


# What a field of a kernel's structure can be. An array is a table: memory of
# its own, which nothing writes. None is a null pointer.
Field = int | float | Buffer | np.ndarray | None


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """One call of a kernel.

    Attributes:
        kernel: Name of the C function, and of the structure that it takes.
        layer: Name of the layer that it belongs to.
        fields: Name -> number, `Buffer` (its offset in the arena) or array.
    """

    kernel: str
    layer: str
    fields: Mapping[str, Field]


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """A network as calls of kernels.

    Attributes:
        plan: What it computes.
        images: How many images one run takes.
        calls: In order.
        input: `Buffer` of the images in `PLANES`.
        output: `Buffer` of the results in `PLANES`.
        arena_bytes: Size of the arena.
    """

    plan: Plan
    images: int
    calls: tuple[Call, ...]
    input: Buffer
    output: Buffer
    arena_bytes: int

    @property
    def tables(self) -> list[np.ndarray]:
        """Every table, once, in the order in which calls name them."""
        found = {
            id(field): field
            for call in self.calls
            for field in call.fields.values()
            if isinstance(field, np.ndarray)
        }
        return list(found.values())

    @property
    def table_bytes(self) -> int:
        """Size of all tables: the weights as they are packed."""
        return sum(table.nbytes for table in self.tables)


class Builder:
    """Takes calls in order, and finds room for their buffers.

    Args:
        plan: `Plan`.
        images: How many images side by side: 1, or a multiple of 64, so that
            the same pixel of all images lies side by side.
        layouts: Layout of each value of kind `SIGN`: `BITS` or `PACKED`.
        convert: Called as `convert(builder, value, source, layout, target)`,
            adds the call that brings a value from one layout to another.
    """

    def __init__(
        self,
        plan: Plan,
        images: int,
        layouts: Mapping[Value, str],
        convert: Callable[["Builder", Value, str, str, Buffer], None],
    ) -> None:
        self.plan = plan
        self.images = images
        self._layouts = layouts
        self._convert = convert
        self._calls: list[Call] = []
        self._buffers: dict[tuple[Value, str], Buffer] = {}
        self._input = self.write(plan.input)

    def layout(self, value: Value) -> str:
        """The layout in which the operation that makes a value writes it."""
        return PLANES if value.kind == FLOAT else self._layouts[value]

    def write(self, value: Value) -> Buffer:
        """Room for a value in its layout, to be filled by the next call."""
        key = value, self.layout(value)
        if key not in self._buffers:
            size = layout_bytes(value, key[1], self.images)
            self._buffers[key] = Buffer(size)
        return self._buffers[key]

    def read(self, value: Value, layout: str) -> Buffer:
        """Where a value lies in a layout; converts it at the first call."""
        if value.kind == FLOAT and layout != PLANES:
            raise AssertionError(f"A float cannot lie in {layout!r}.")
        key = value, layout
        if key not in self._buffers:
            source = self.layout(value)
            target = Buffer(layout_bytes(value, layout, self.images))
            self._convert(self, value, source, layout, target)
            self._buffers[key] = target
        return self._buffers[key]

    def scratch(self, size: int) -> Buffer:
        """Room that one call alone uses, or a few from the first on."""
        return Buffer(size)

    def call(self, kernel: str, layer: str, **fields: Field) -> None:
        """Adds a call.

        Args:
            kernel: Name of the kernel.
            layer: Name of the layer, for messages and comments.
            fields: Those of the kernel's structure, all of them.
        """
        numbers = (bool, np.bool_, np.integer)
        fields = {
            name: int(field) if isinstance(field, numbers) else field
            for name, field in fields.items()
        }
        self._calls.append(Call(kernel, layer, fields))

    def program(self) -> Program:
        """The program of all calls so far."""
        source = self._input
        output = self.read(self.plan.output, PLANES)
        spans = {source: [-1, -1]}
        for number, call in enumerate(self._calls):
            for field in call.fields.values():
                if isinstance(field, Buffer):
                    spans.setdefault(field, [number, number])[1] = number
        spans.setdefault(output, [-1, -1])[1] = len(self._calls)
        return Program(
            self.plan,
            self.images,
            tuple(self._calls),
            source,
            output,
            _place(spans),
        )


def _place(spans):
    """Gives each buffer its offset, the large ones first; the size of all."""
    placed: list[tuple[Buffer, int, int]] = []
    for buffer, (first, last) in sorted(
        spans.items(), key=lambda item: -item[0].bytes
    ):
        size = -(-buffer.bytes // ALIGNMENT) * ALIGNMENT
        offset = 0
        for other, begin, end in sorted(placed, key=lambda p: p[0].offset):
            if begin > last or end < first:
                continue
            if other.offset - offset >= size:
                break
            behind = other.offset + -(-other.bytes // ALIGNMENT) * ALIGNMENT
            offset = max(offset, behind)
        buffer.offset = offset
        placed.append((buffer, first, last))
    return max(
        (
            buffer.offset + -(-buffer.bytes // ALIGNMENT) * ALIGNMENT
            for buffer, _, _ in placed
        ),
        default=0,
    )
