"""Windows as fields of kernels."""

import numpy as np

from mpt_keras.runtime.operations import (
    Convolution,
    Threshold,
    Value,
    Window,
)


def window_fields(window: Window) -> dict[str, int]:
    """Fields of kernels that look through a window."""
    return {
        "tap_rows": window.size[0],
        "tap_columns": window.size[1],
        "vertical_stride": window.strides[0],
        "horizontal_stride": window.strides[1],
        "vertical_dilation": window.dilation[0],
        "horizontal_dilation": window.dilation[1],
        "before_rows": window.before[0],
        "before_columns": window.before[1],
    }


def inside(
    source: Value, window: Window, output: Value
) -> tuple[np.ndarray, np.ndarray]:
    """Which taps see something.

    Args:
        source: Where the window looks.
        window: `Window`.
        output: What it makes.

    Returns:
        Boolean arrays `(rows, taps)` and `(columns, taps)` of the output.
    """

    def along(axis):
        at = np.arange(output.shape[axis + 1])[:, None] * window.strides[axis]
        at = at + np.arange(window.size[axis]) * window.dilation[axis]
        at = at - window.before[axis]
        return (at >= 0) & (at < source.shape[axis + 1])

    return along(0), along(1)


def classes_of(
    operation: Convolution | Threshold,
) -> tuple[np.ndarray, np.ndarray]:
    """Which taps see something, in classes of pixels.

    Args:
        operation: With a window.

    Returns:
        Boolean array `(classes, taps)`; uint8 array of each pixel's class,
        meaningful if there are at most 256.
    """
    (of_rows, row), (of_columns, column) = (
        np.unique(seen, axis=0, return_inverse=True)
        for seen in inside(
            operation.inputs[0], operation.window, operation.output
        )
    )
    classes = of_rows[:, None, :, None] & of_columns[None, :, None, :]
    numbers = row.reshape(-1, 1) * len(of_columns) + column.reshape(1, -1)
    return (
        classes.reshape(len(of_rows) * len(of_columns), -1),
        numbers.astype("u1").ravel(),
    )
