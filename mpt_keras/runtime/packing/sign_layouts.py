"""Signs between their layouts, and between floats and signs."""

from mpt_keras.runtime.operations import SIGN, Steps, Value
from mpt_keras.runtime.packing.steps import step_fields
from mpt_keras.runtime.program import (
    BITS,
    PACKED,
    PLANES,
    Buffer,
    Builder,
    layout_bytes,
    row_bytes,
)

_NO_STEPS = Steps()


def flat(value: Value) -> Value:
    """Signs of the same channels and pixels, all in one row."""
    channels, rows, columns = value.shape
    return Value((channels, 1, rows * columns), SIGN)


def plane_bytes(value: Value, images: int = 1) -> int:
    """Of a plane of `BITS`: whole words."""
    return -(-value.shape[1] * row_bytes(value.shape[2], images) // 8) * 8


def plane_fields(value: Value, images: int) -> dict[str, int]:
    """Of kernels that go over planes of `BITS`: as few, long rows as can be."""
    _, rows, columns = value.shape
    row = row_bytes(columns, images)
    columns *= images
    if columns % 8 == 0:
        rows, columns, row = 1, rows * columns, rows * row
    return {
        "rows": rows,
        "columns": columns,
        "row_bytes": row,
        "plane_bytes": plane_bytes(value, images),
    }


def pack_signs_of(
    builder: Builder,
    layer: str,
    planes: Buffer,
    value: Value,
    steps: Steps = _NO_STEPS,
) -> None:
    """Writes a value: the signs of floats, after steps.

    Args:
        builder: `Builder`.
        layer: Name of the layer.
        planes: The floats, in `PLANES`, of the value's shape.
        value: Of kind `SIGN`.
        steps: `Steps`.
    """
    output = builder.write(value)
    is_packed = builder.layout(value) == PACKED
    made = flat(value) if is_packed else value
    bits = (
        builder.scratch(layout_bytes(made, BITS, builder.images))
        if is_packed
        else output
    )
    builder.call(
        "pack_signs",
        layer,
        input=planes,
        output=bits,
        planes=value.shape[0],
        **plane_fields(made, builder.images),
        **step_fields(steps),
    )
    if is_packed:
        transpose(builder, layer, "bits_to_packed", bits, output, made)


def unpack_signs_of(
    builder: Builder,
    layer: str,
    value: Value,
    planes: Buffer,
    steps: Steps = _NO_STEPS,
) -> None:
    """Writes the floats that steps make of a value of signs.

    Args:
        builder: `Builder`.
        layer: Name of the layer.
        value: Of kind `SIGN`.
        planes: Room for the floats, in `PLANES`.
        steps: `Steps`.
    """
    made, images = value, builder.images
    if builder.layout(value) == PACKED:
        made = flat(value)
        bits = builder.scratch(layout_bytes(made, BITS, images))
        packed = builder.read(value, PACKED)
        transpose(builder, layer, "packed_to_bits", packed, bits, made)
    else:
        bits = builder.read(value, BITS)
    builder.call(
        "unpack_signs",
        layer,
        input=bits,
        output=planes,
        planes=value.shape[0],
        **plane_fields(made, images),
        **step_fields(steps),
    )


def convert(
    builder: Builder, value: Value, source: str, layout: str, target: Buffer
) -> None:
    """Adds the call that brings a value from one layout to another.

    Args:
        builder: `Builder`.
        value: Of kind `SIGN`.
        source: The layout in which it lies.
        layout: That in which it shall lie.
        target: Where.
    """
    layer = "layout"
    if layout == PLANES:
        unpack_signs_of(builder, layer, value, target)
        return
    kernel = "bits_to_packed" if layout == PACKED else "packed_to_bits"
    origin = builder.read(value, source)
    transpose(builder, layer, kernel, origin, target, value)


def transpose(
    builder: Builder,
    layer: str,
    kernel: str,
    source: Buffer,
    target: Buffer,
    value: Value,
) -> None:
    """Adds a transposition.

    Args:
        builder: `Builder`.
        layer: Name of the layer.
        kernel: `"bits_to_packed"` or `"packed_to_bits"`.
        source: Where the signs lie.
        target: Where they shall lie.
        value: Of the shape of the planes.
    """
    builder.call(
        kernel,
        layer,
        input=source,
        output=target,
        channels=value.shape[0],
        **plane_fields(value, builder.images),
    )
