"""Operations on signs as calls of kernels."""

import numpy as np

from mpt_keras.runtime.operations import (
    FLOAT,
    SIGN,
    Convolution,
    Elementwise,
    Operation,
    Plan,
    Pool,
    Steps,
    Threshold,
    Value,
)
from mpt_keras.runtime.packing import adder, popcount
from mpt_keras.runtime.packing.sign_layouts import (
    convert,
    flat,
    pack_signs_of,
    plane_bytes,
    transpose,
    unpack_signs_of,
)
from mpt_keras.runtime.packing.steps import step_fields
from mpt_keras.runtime.packing.windows import window_fields
from mpt_keras.runtime.program import (
    BITS,
    PACKED,
    PLANES,
    Builder,
    layout_bytes,
    row_bytes,
)

__all__ = [
    "choose_form",
    "convert",
    "layouts",
    "pack",
    "pack_signs_of",
    "packs",
]


def packs(operation: Operation) -> bool:
    """Whether an operation is one of signs that this module packs."""
    kinds = {value.kind for value in operation.inputs}
    match operation:
        case Threshold():
            return True
        case Convolution():
            return kinds == {SIGN} and operation.is_ternary
        case Pool():
            return kinds == {SIGN} and not operation.mean
        case Elementwise():
            return kinds | {operation.output.kind} == {FLOAT, SIGN}
    return False


def choose_form(
    operation: Convolution | Threshold,
    images: int,
    counts_bits: bool = True,
    small: bool = False,
) -> str:
    """The layout in which a convolution of signs is fastest, or smallest.

    Args:
        operation: Whose input is of kind `SIGN`.
        images: How many side by side.
        counts_bits: Whether the processor counts the bits of a vector in one
            instruction.
        small: Whether the size of its weights counts, and not the time.

    Returns:
        `BITS` or `PACKED`.
    """
    adds = adder.covers(operation)
    counts = popcount.covers(operation)
    if not adds or not counts:
        return PACKED if counts else BITS
    if small:
        size = popcount.weight_bytes(operation)
        return PACKED if size < adder.weight_bytes(operation) else BITS
    cost = popcount.nanoseconds(operation, images, counts_bits)
    return PACKED if cost < adder.nanoseconds(operation, images) else BITS


def layouts(
    plan: Plan, images: int, counts_bits: bool = True, small: bool = False
) -> dict[Value, str]:
    """The layout of each value of kind `SIGN`: that which most users read.

    Args:
        plan: `Plan`.
        images: How many side by side.
        counts_bits, small: As for `choose_form`.
    """
    wanted: dict[Value, list[str]] = {}
    for operation in plan.operations:
        if operation.output.kind == SIGN:
            wanted.setdefault(operation.output, [])
        for value in operation.inputs:
            if value.kind == SIGN:
                form = BITS
                if packs(operation) and not isinstance(
                    operation, (Pool, Elementwise)
                ):
                    form = choose_form(operation, images, counts_bits, small)
                wanted.setdefault(value, []).append(form)
    return {
        value: PACKED if 2 * forms.count(PACKED) > len(forms) else BITS
        for value, forms in wanted.items()
    }


def pack(
    operation: Operation,
    builder: Builder,
    counts_bits: bool = True,
    small: bool = False,
) -> None:
    """Adds the calls of an operation.

    Args:
        operation: One that `packs`.
        builder: `Builder`.
        counts_bits, small: As for `choose_form`.
    """
    match operation:
        case Threshold():
            form = choose_form(operation, builder.images, counts_bits, small)
            _threshold(operation, builder, form)
        case Convolution():
            form = choose_form(operation, builder.images, counts_bits, small)
            _convolution(operation, builder, form)
        case Pool():
            _pool(operation, builder)
        case Elementwise():
            _elementwise(operation, builder)
        case _:
            raise TypeError(
                f"Expected an operation on signs. Received: {operation!r}"
            )


def _threshold(operation, builder, form):
    value, layer = operation.output, operation.layer
    channels, rows, columns = value.shape
    images = builder.images
    layout = builder.layout(value)
    # Counting leaves no gaps between rows.
    has_gaps = columns * images % 8 != 0
    made = flat(value) if form == PACKED and has_gaps else value
    if layout == BITS and made is value:
        _count(operation, builder, form, builder.write(value))
        return
    bits = builder.scratch(layout_bytes(made, BITS, images))
    _count(operation, builder, form, bits)
    target = builder.write(value)
    if layout == PACKED:
        transpose(builder, layer, "bits_to_packed", bits, target, made)
        return
    builder.call(
        "spread_rows",
        layer,
        input=bits,
        output=target,
        planes=channels,
        rows=rows,
        columns=columns * images,
        in_plane_bytes=plane_bytes(made, images),
        row_bytes=row_bytes(columns, images),
        plane_bytes=plane_bytes(value, images),
    )


def _convolution(operation, builder, form):
    value = operation.output
    if value.kind == FLOAT:
        _count(operation, builder, form, builder.write(value))
        return
    planes = builder.scratch(layout_bytes(value, PLANES, builder.images))
    _count(operation, builder, form, planes)
    pack_signs_of(builder, operation.layer, planes, value)


def _count(operation, builder, form, output):
    if form == PACKED:
        popcount.pack_popcount(operation, builder, output)
    elif adder.covers(operation):
        adder.pack_adder(operation, builder, output)
    else:
        _count_any(operation, builder, output)


def _count_any(operation, builder, output):
    source, images = operation.inputs[0], builder.images
    channels, in_rows, in_columns = source.shape
    filters, rows, columns = operation.output.shape
    is_threshold = isinstance(operation, Threshold)
    weights = np.ascontiguousarray(operation.kernel.transpose(3, 0, 1, 2))
    builder.call(
        "any_signs",
        operation.layer,
        input=builder.read(source, BITS),
        output=output,
        channels=channels,
        filters=filters,
        groups=operation.groups,
        images=images,
        in_rows=in_rows,
        in_columns=in_columns,
        in_row_bits=8 * row_bytes(in_columns, images),
        in_plane_bytes=plane_bytes(source, images),
        rows=rows,
        columns=columns,
        row_bits=8 * row_bytes(columns, images),
        plane_bytes=plane_bytes(operation.output, images),
        **window_fields(operation.window),
        weights=weights,
        thresholds=operation.thresholds if is_threshold else None,
        gain=1.0 if is_threshold else float(operation.gain),
        **step_fields(Steps() if is_threshold else operation.steps),
    )


def _elementwise(operation, builder):
    source, value = operation.inputs[0], operation.output
    layer, steps = operation.layer, operation.steps
    if source.kind == FLOAT:
        planes = builder.read(source, PLANES)
        pack_signs_of(builder, layer, planes, value, steps)
    else:
        unpack_signs_of(builder, layer, source, builder.write(value), steps)


def _pool(operation, builder):
    source, value, images = (
        operation.inputs[0],
        operation.output,
        builder.images,
    )
    channels, in_rows, in_columns = source.shape
    _, rows, columns = value.shape
    inverted = operation.inverted
    if inverted is None:
        inverted = np.zeros(channels, bool)
    window = operation.window
    is_of_pairs = (
        images == 1
        and window.size == window.strides == (2, 2)
        and window.dilation == (1, 1)
        and window.before == (0, 0)
        and 2 * rows <= in_rows
        and 2 * columns <= in_columns
    )
    layout = BITS if is_of_pairs or images > 1 else PACKED
    layouts = builder.layout(value), layout
    if layouts[0] == layout:
        output = builder.write(value)
    else:
        output = builder.scratch(layout_bytes(value, layout, images))
    if is_of_pairs:
        builder.call(
            "pool_pairs",
            operation.layer,
            input=builder.read(source, BITS),
            output=output,
            planes=channels,
            rows=rows,
            columns=columns,
            in_row_bytes=row_bytes(in_columns),
            in_plane_bytes=plane_bytes(source),
            row_bytes=row_bytes(columns),
            plane_bytes=plane_bytes(value),
            inverted=inverted.astype("u1"),
        )
    else:
        if layout == PACKED:
            padded = np.zeros(-(-channels // 64) * 64, bool)
            padded[:channels] = inverted
            flips = np.packbits(padded, bitorder="little").view("<u8")
        else:
            flips = np.where(inverted, ~np.uint64(0), np.uint64(0))
        builder.call(
            "pool_words",
            operation.layer,
            input=builder.read(source, layout),
            output=output,
            planes=1 if layout == PACKED else channels,
            pixel_words=len(flips) if layout == PACKED else images // 64,
            in_rows=in_rows,
            in_columns=in_columns,
            rows=rows,
            columns=columns,
            **window_fields(window),
            flips=flips,
            period=len(flips) if layout == PACKED else 1,
        )
    if layouts[0] != layout:
        kernel = "bits_to_packed" if layout == BITS else "packed_to_bits"
        target = builder.write(value)
        transpose(builder, operation.layer, kernel, output, target, value)
