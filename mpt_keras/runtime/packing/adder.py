"""Convolutions of signs by sums of planes of bits.

The cost grows as the surviving weights. Of a filter the planes that its
weights of -1 see are summed, for all pixels at once, the sum is taken from
`2**(digits - 1) - 1` by flipping its digits, and the planes that its weights
of +1 see are added. So with the weights' sum `k` at a pixel and the result
`y`, the convolution is `n = 2 * (y - 2**(digits - 1) + 1) - k`. Outside the
map all bits are 0, and `k` counts the weights inside: it is the same at
pixels of a class, those at which the same taps are inside.
"""

import numpy as np

from mpt_keras.runtime.operations import Convolution, Steps, Threshold
from mpt_keras.runtime.packing.sign_layouts import plane_bytes
from mpt_keras.runtime.packing.steps import step_fields
from mpt_keras.runtime.packing.windows import classes_of, inside, window_fields
from mpt_keras.runtime.program import BITS, Buffer, Builder, row_bytes

_MOST_PLANES = 1 << 13  # whose number, times 8, has 16 bits
_LEAST_DIGITS = 10
_CLASSES_OF_GROUP = 3
_BLOCK = 64
_SCATTERS = np.uint16(40503)  # odd, about 2**16 / golden ratio


def covers(operation: Convolution | Threshold) -> bool:
    """Whether numbers of planes, digits and classes fit the tables."""
    height, width = operation.window.size
    planes = height * width * operation.inputs[0].shape[0] + 1
    # Digits are then enough: a filter has no more weights than there are
    # planes.
    return planes <= _MOST_PLANES and len(classes_of(operation)[0]) <= 1 << 8


def nanoseconds(operation: Convolution | Threshold, images: int) -> float:
    """About how long it takes.

    Fitted to what `benchmarks/signs.py` measured on a Zen 5 with AVX-512.

    Args:
        operation: As for `pack_adder`.
        images: How many side by side.
    """
    plane = plane_bytes(operation.output, images)
    filters = operation.output.shape[0]
    words = min(plane, _BLOCK) / 8
    of_filter = 15 if isinstance(operation, Threshold) else 15 + 11 * words
    height, width = operation.window.size
    gathered = height * width * operation.inputs[0].shape[0]
    is_quick = images > 1 or _is_alike(operation, images)
    of_gathered = 2 if is_quick else 15 * words
    kept = int(np.count_nonzero(operation.kernel))
    of_weight = 0.28 if 8 < plane <= 32 else 0.38
    return -(-plane // _BLOCK) * (
        of_weight * kept + of_filter * filters + of_gathered * gathered
    )


def weight_bytes(operation: Convolution | Threshold) -> int:
    """How much its weights take.

    Args:
        operation: As for `pack_adder`.
    """
    eights = [
        -(-np.count_nonzero(operation.kernel == sign, (0, 1, 2)) // 8)
        for sign in (-1, 1)
    ]
    return 2 * int(sum(3 + 8 * (eights[0] + eights[1])))


def pack_adder(
    operation: Convolution | Threshold, builder: Builder, output: Buffer
) -> None:
    """Adds the call of a convolution of signs.

    Args:
        operation: `Threshold`; or `Convolution`, whose steps are followed, but
            floats are written.
        builder: `Builder`.
        output: Room for bits in `BITS`, or for floats in `PLANES`.
    """
    source, images = operation.inputs[0], builder.images
    channels, in_rows, in_columns = source.shape
    filters, rows, columns = operation.output.shape
    is_threshold = isinstance(operation, Threshold)
    classes, numbers = classes_of(operation)
    groups = -(-len(classes) // _CLASSES_OF_GROUP)
    plane = plane_bytes(operation.output, images)
    block = min(_BLOCK, 1 << max(3, (plane - 1).bit_length()))
    height, width = operation.window.size
    weights, order, digits = _weights(operation)
    builder.call(
        "add_signs",
        operation.layer,
        input=builder.read(source, BITS),
        output=output,
        planes=builder.scratch((height * width * channels + 1) * block),
        choices=builder.scratch(8 * groups * block),
        channels=channels,
        filters=filters,
        images=images,
        in_rows=in_rows,
        in_columns=in_columns,
        in_row_bits=8 * row_bytes(in_columns, images),
        in_plane_bytes=plane_bytes(source, images),
        rows=rows,
        columns=columns,
        row_bits=8 * row_bytes(columns, images),
        plane_bytes=plane,
        **window_fields(operation.window),
        **_shifts(operation, images),
        weights=weights,
        digits=digits,
        classes=numbers,
        numbers=_numbers(operation, classes, digits, groups)[order],
        groups=groups,
        is_threshold=is_threshold,
        gain=1.0 if is_threshold else float(operation.gain),
        **step_fields(Steps() if is_threshold else operation.steps),
    )


def _weights(operation):
    """Lists of planes, the order in which they have the filters, and digits.

    For each filter: its number, eights of -1, eights of +1; then the planes,
    times eight. Planes of zeros fill up the eights, and the sixteens of long
    lists. Filters with equal counts follow each other, so that processors
    guess branches. Half of what the digits hold, holds either sign's weights.
    """
    height, width, of_group, filters = operation.kernel.shape
    channels = operation.inputs[0].shape[0]
    planes = np.arange(height * width)[:, None] * channels
    planes = (8 * (planes + np.arange(of_group))).astype("u2").ravel()
    by_filter = operation.kernel.reshape(-1, filters).T
    by_filter = np.ascontiguousarray(by_filter)
    parts, most = [], 0
    for number, weights in enumerate(by_filter):
        group = number // (filters // operation.groups)
        lists = []
        for sign in (-1, 1):
            seen = planes[weights == sign] + np.uint16(8 * group * of_group)
            seen = seen[np.argsort(seen * _SCATTERS, kind="stable")]
            most = max(most, len(seen))
            whole = 16 if len(seen) > 32 else 8
            padding = -len(seen) % whole
            zeros = np.full(padding, 8 * height * width * channels, "u2")
            lists.append(np.concatenate([seen, zeros]))
        parts.append((*(len(one) // 8 for one in lists), number, lists))
    parts.sort(key=lambda part: part[:3])
    lists = [
        one
        for minus, plus, number, both in parts
        for one in (np.array([number, minus, plus], "u2"), *both)
    ]
    order = [number for _, _, number, _ in parts]
    digits = max(_LEAST_DIGITS, most.bit_length() + 1)
    return np.concatenate(lists), order, digits


def _numbers(operation, classes, digits, groups):
    """What is compared with the sum, or added to it, digit by digit."""
    kernel = operation.kernel
    height, width, _, filters = kernel.shape
    of_taps = kernel.sum(2, dtype="int32").reshape(height * width, filters)
    inside_sums = classes.astype("int64") @ of_taps  # (classes, filters)
    if isinstance(operation, Threshold):
        least = operation.thresholds.astype("int64") + inside_sums
        least = -(-least // 2) + (1 << (digits - 1)) - 1
        numbers = ~np.clip(least, 0, (1 << digits) - 1)
    else:
        digits += 1
        numbers = 2 - inside_sums
    bits = numbers.T[:, None, :] >> np.arange(digits)[:, None] & 1
    padded = np.zeros((filters, digits, groups * _CLASSES_OF_GROUP), "u1")
    padded[..., : len(classes)] = bits
    padded = padded.reshape(filters, digits, groups, _CLASSES_OF_GROUP)
    weights = 1 << np.arange(_CLASSES_OF_GROUP)
    return (padded * weights).sum(-1).astype("u1")


def _is_alike(operation, images):
    """Whether rows of input and output are alike."""
    _, _, columns = operation.output.shape
    _, _, in_columns = operation.inputs[0].shape
    return (
        images == 1
        and operation.window.strides == (1, 1)
        and row_bytes(in_columns) == row_bytes(columns)
    )


def _shifts(operation, images):
    """Where taps lie, if rows of input and output are alike."""
    source, output, window = (
        operation.inputs[0],
        operation.output,
        operation.window,
    )
    pitch = row_bytes(output.shape[2])
    if not _is_alike(operation, images):
        return {"shifts": None, "inside": None}
    vertical, horizontal = (
        np.arange(taps) * dilation - before
        for taps, dilation, before in zip(
            window.size, window.dilation, window.before, strict=True
        )
    )
    rows, columns = inside(source, window, output)
    wide = np.zeros((len(horizontal), 8 * pitch), bool)
    wide[:, : columns.shape[0]] = columns.T
    seen = rows.T[:, None, :, None] & wide[None, :, None, :]
    packed = np.packbits(seen, axis=-1, bitorder="little")
    packed = packed.reshape(window.size[0] * window.size[1], -1)
    padded = np.zeros(
        (len(packed), -(-packed.shape[1] // _BLOCK) * _BLOCK), "u1"
    )
    padded[:, : packed.shape[1]] = packed
    shifts = vertical[:, None] * 8 * pitch + horizontal[None, :]
    return {
        "shifts": shifts.astype("i4").ravel(),
        "inside": padded.view("<u8").ravel(),
    }
