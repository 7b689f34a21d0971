"""Convolutions of signs by counting bits of words of 64 channels.

The cost grows as all weights, those of zero too. With `d` the kept weights
that differ from what they see, and what is outside the map taken for -1, the
convolution is `n = k - 2 * d`: `k` counts the kept weights, and what those
outside would subtract is added to it.
"""

import numpy as np

from mpt_keras.runtime.operations import Convolution, Steps, Threshold
from mpt_keras.runtime.packing.steps import step_fields
from mpt_keras.runtime.packing.windows import classes_of, window_fields
from mpt_keras.runtime.program import PACKED, Buffer, Builder

_PIXELS = 64


def covers(operation: Convolution | Threshold) -> bool:
    """Whether groups are whole words, and classes fit their table."""
    channels = operation.inputs[0].shape[0]
    groups = operation.groups
    whole = groups == 1 or channels // groups % 64 == 0
    return whole and len(classes_of(operation)[0]) <= 1 << 8


def nanoseconds(
    operation: Convolution | Threshold, images: int, counts_bits: bool = True
) -> float:
    """About how long it takes.

    Fitted to what `benchmarks/signs.py` measured on a Zen 5 with AVX-512.

    Args:
        operation: As for `pack_popcount`.
        images: How many side by side.
        counts_bits: Whether the processor counts the bits of a vector in one
            instruction.
    """
    channels = operation.inputs[0].shape[0]
    filters, rows, columns = operation.output.shape
    height, width = operation.window.size
    vectors = -(-rows * columns * images // 8)
    seen = height * width * -(-channels // 64)
    of_word = 0.27 if counts_bits else 1.4
    of_filter = of_word * seen / operation.groups
    of_filter += 3 if isinstance(operation, Threshold) else 4
    return vectors * (of_filter * filters + 4 * seen)


def weight_bytes(operation: Convolution | Threshold) -> int:
    """How much its weights take.

    Args:
        operation: As for `pack_popcount`.
    """
    height, width, channels, filters = operation.kernel.shape
    return 16 * filters * height * width * -(-channels // 64)


def pack_popcount(
    operation: Convolution | Threshold, builder: Builder, output: Buffer
) -> None:
    """Adds the call of a convolution of signs.

    Args:
        operation: `Threshold`; or `Convolution`, whose steps are followed, but
            floats are written.
        builder: `Builder`.
        output: Room for bits, rows without gaps in between and planes of whole
            words; or for floats in `PLANES`.
    """
    source, images = operation.inputs[0], builder.images
    channels, in_rows, in_columns = source.shape
    filters, rows, columns = operation.output.shape
    height, width = operation.window.size
    words = -(-channels // 64)
    is_threshold = isinstance(operation, Threshold)
    classes, numbers = classes_of(operation)
    builder.call(
        "count_signs",
        operation.layer,
        input=builder.read(source, PACKED),
        output=output,
        seen=builder.scratch(8 * _PIXELS * height * width * words),
        channels=channels,
        filters=filters,
        images=images,
        in_rows=in_rows,
        in_columns=in_columns,
        rows=rows,
        columns=columns,
        plane_bytes=-(-rows * columns * images // 64) * 8,
        **window_fields(operation.window),
        groups=operation.groups,
        weights=_weights(operation.kernel),
        classes=numbers,
        numbers=_numbers(operation, classes),
        class_count=len(classes),
        is_threshold=is_threshold,
        gain=1.0 if is_threshold else float(operation.gain),
        **step_fields(Steps() if is_threshold else operation.steps),
    )


def _weights(kernel):
    """`(filters, words of a group, taps, 2)`: signs, and what is kept."""
    height, width, channels, filters = kernel.shape
    by_filter = kernel.reshape(-1, channels, filters).transpose(2, 0, 1)
    padded = np.zeros((filters, height * width, -(-channels // 64) * 64), "i1")
    padded[..., :channels] = by_filter
    packed = np.stack(
        [
            np.packbits(bits, axis=-1, bitorder="little").view("<u8")
            for bits in (padded > 0, padded != 0)
        ],
        axis=-1,
    )
    return np.ascontiguousarray(packed.transpose(0, 2, 1, 3))


def _numbers(operation, classes):
    """`(filters, classes)`: the most that may differ, or the result if none."""
    kernel = operation.kernel
    height, width, _, filters = kernel.shape
    of_taps = kernel.sum(2, dtype="int32").reshape(height * width, filters)
    kept = np.count_nonzero(kernel, (0, 1, 2))
    most = kept + (~classes).astype("int64") @ of_taps
    if isinstance(operation, Threshold):
        # At most the number of weights, at least less than none.
        thresholds = operation.thresholds.astype("int64")
        most = np.clip((most - thresholds) // 2, -1, kernel[..., 0].size)
    return np.ascontiguousarray(most.T).astype("i4")
