"""Operations on floats: which kernels compute them."""

import numpy as np

from mpt_keras.runtime.operations import (
    FUNCTIONS,
    SIGN,
    Concatenate,
    Convolution,
    Elementwise,
    Function,
    Gather,
    Merge,
    Operation,
    Pool,
    Softmax,
    Steps,
)
from mpt_keras.runtime.packing.dense import is_dense, pack_dense
from mpt_keras.runtime.packing.sign_layouts import pack_signs_of
from mpt_keras.runtime.packing.sparse_convolution import (
    pack_sparse_convolution,
)
from mpt_keras.runtime.packing.steps import step_fields
from mpt_keras.runtime.program import PLANES, Builder, layout_bytes

_HOW = ("alone", "add", "subtract", "multiply", "maximum", "minimum")


def pack(operation: Operation, builder: Builder) -> None:
    """Adds the calls of an operation.

    Args:
        operation: `Operation`; inputs of kind `SIGN` are read as floats.
        builder: `Builder`.
    """
    value = operation.output
    if isinstance(operation, Convolution) and not (
        builder.images == 1 and is_dense(operation)
    ):
        pack_sparse_convolution(operation, builder)
        return
    if value.kind == SIGN:
        planes = builder.scratch(layout_bytes(value, PLANES, builder.images))
    else:
        planes = builder.write(value)
    match operation:
        case Convolution():
            pack_dense(operation, builder, planes)
        case Elementwise():
            _merge(operation, builder, planes, "alone", operation.steps)
        case Merge():
            _merge(operation, builder, planes, operation.how, operation.steps)
        case Concatenate():
            _concatenate(operation, builder, planes)
        case Gather():
            _gather(operation, builder, planes)
        case Pool():
            _pool(operation, builder, planes)
        case Softmax():
            builder.call(
                "softmax",
                operation.layer,
                input=builder.read(operation.inputs[0], PLANES),
                output=planes,
                channels=value.shape[0],
                pixels=value.pixels * builder.images,
            )
        case Function():
            builder.call(
                "function",
                operation.layer,
                input=builder.read(operation.inputs[0], PLANES),
                output=planes,
                size=value.size * builder.images,
                which=FUNCTIONS.index(operation.name),
            )
        case _:
            raise TypeError(
                f"Expected an operation on floats. Received: {operation!r}"
            )
    if value.kind == SIGN:
        pack_signs_of(builder, operation.layer, planes, value)


def _merge(operation, builder, output, how, steps):
    """From left to right, two at a time; steps of the last sum."""
    inputs = [builder.read(value, PLANES) for value in operation.inputs]
    first, *others = inputs
    how = how if others else "alone"
    for place, other in enumerate(others or [None]):
        last = place >= len(others) - 1
        fields = step_fields(steps if last else Steps())
        channels = operation.output.shape[0]
        size = operation.output.pixels * builder.images
        if all(fields[name] is None for name in ("scale", "offset", "slopes")):
            channels, size = 1, channels * size
        builder.call(
            "merge",
            operation.layer,
            input=first,
            other=other or first,
            output=output,
            channels=channels,
            size=size,
            how=_HOW.index(how),
            **fields,
        )
        first = output


def _concatenate(operation, builder, output):
    at = 0
    for value in operation.inputs:
        size = value.size * builder.images
        builder.call(
            "copy",
            operation.layer,
            input=builder.read(value, PLANES),
            output=output,
            at=at,
            size=size,
        )
        at += size


def _gather(operation, builder, output):
    runs = _runs(operation.index.ravel())
    builder.call(
        "gather",
        operation.layer,
        input=builder.read(operation.inputs[0], PLANES),
        output=output,
        runs=len(runs),
        images=builder.images,
        run=runs.astype("int32").ravel(),
    )


def _runs(index: np.ndarray) -> np.ndarray:
    """`(first, step, count)` of stretches of even steps, -1 for zeros."""
    runs = []
    begin = 0
    steps = np.diff(index)
    zero = index < 0
    # Where the step, or whether there are zeros, is another than before.
    changes = np.flatnonzero((np.diff(steps) != 0) | (zero[1:-1] != zero[:-2]))
    changes = iter([*(changes + 1), len(index) - 1])
    change = next(changes)
    while begin < len(index):
        while change <= begin and change < len(index) - 1:
            change = next(changes)
        end = max(change, begin)
        if zero[begin] != zero[end]:
            end -= 1
        step = 0 if end == begin or zero[begin] else int(steps[begin])
        runs.append((int(index[begin]), step, end - begin + 1))
        begin = end + 1
    return np.array(runs).reshape(-1, 3)


def _pool(operation, builder, output):
    window = operation.window
    channels, rows, columns = operation.inputs[0].shape
    _, out_rows, out_columns = operation.output.shape
    tiles = (
        builder.images == 1
        and window.size == window.strides == (2, 2)
        and window.dilation == (1, 1)
        and window.before == (0, 0)
        and columns == 2 * out_columns
        and rows >= 2 * out_rows
    )
    line = 2 * out_rows * out_columns if tiles else columns * builder.images
    builder.call(
        "pool",
        operation.layer,
        input=builder.read(operation.inputs[0], PLANES),
        output=output,
        line=builder.scratch(4 * line),
        images=builder.images,
        channels=channels,
        rows=rows,
        columns=columns,
        out_rows=out_rows,
        out_columns=out_columns,
        tap_rows=window.size[0],
        tap_columns=window.size[1],
        row_stride=window.strides[0],
        column_stride=window.strides[1],
        row_dilation=window.dilation[0],
        column_dilation=window.dilation[1],
        top=window.before[0],
        left=window.before[1],
        mean=operation.mean,
        tiles=tiles,
    )
