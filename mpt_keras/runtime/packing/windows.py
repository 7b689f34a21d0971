"""Windows as fields of kernels."""

import numpy as np

from mpt_keras.runtime.operations import Value, Window


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
