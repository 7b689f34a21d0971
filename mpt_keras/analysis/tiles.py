"""A kernel, or its mask, as a flat image of bounded size."""

import math

import numpy as np

# Points along each side of an image, at most: of a matrix, of filters.
_OF_A_MATRIX = 128
_OF_FILTERS = 64


def tiled(mask):
    """Lays a mask, or a kernel, out in two dimensions.

    A matrix stays one, and so does the kernel of a 1x1 convolution; of more
    than 128 rows or columns, each point is the mean of a block. Any
    other convolution's kernel, `(..., inputs, outputs)`, becomes a grid of
    its filters with gaps between them: a row per input, a column per output,
    and further lines of such rows where few inputs leave room. Of more
    filters than 64 points hold, the first are shown. The depths of a
    three-dimensional filter lie side by side.

    Args:
        mask: Array of booleans or floats.

    Returns:
        Float32 array of its values, of a mask 1 where weights are kept, NaN
        in gaps; and a text that says what a point is or what is left out,
        empty where nothing is.
    """
    mask = np.atleast_2d(mask)
    *spatial, inputs, outputs = mask.shape
    if math.prod(spatial) == 1:
        return _matrix(mask.reshape(inputs, outputs))
    height = spatial[-2] if len(spatial) > 1 else 1
    if len(spatial) > 2:
        mask = np.moveaxis(mask, len(spatial) - 2, 0)
    mask = mask.reshape(height, -1, inputs, outputs)
    # A depthwise kernel has one output for each of its many inputs.
    return _filters(mask.swapaxes(2, 3) if outputs == 1 else mask)


def _matrix(mask):
    blocks = [math.ceil(size / _OF_A_MATRIX) for size in mask.shape]
    if blocks == [1, 1]:
        return mask.astype("float32"), ""
    image = mask
    for axis, block in enumerate(blocks):
        starts = np.arange(0, mask.shape[axis], block)
        counts = np.diff([*starts, mask.shape[axis]])
        sums = np.add.reduceat(image, starts, axis=axis, dtype="float32")
        image = sums / np.expand_dims(counts, 1 - axis)
    return (
        image.astype("float32"),
        f"a point is the mean of {blocks[0]} x {blocks[1]}",
    )


def _filters(mask):
    height, width, inputs, outputs = mask.shape
    rows, columns = (
        max(_OF_FILTERS // (size + 1), 1) for size in (height, width)
    )
    shown_inputs = min(inputs, rows)
    lines = rows // shown_inputs
    shown_outputs = min(outputs, columns * lines)
    # As near to a square as there is room for, in lines of one length.
    per_line = math.ceil(math.sqrt(shown_inputs * shown_outputs))
    needed = max(
        math.ceil(shown_outputs / columns),
        min(lines, math.ceil(shown_outputs / per_line)),
    )
    per_line = math.ceil(shown_outputs / needed)
    cut = mask[..., :shown_inputs, :shown_outputs]
    image = np.vstack(
        [
            _line(cut[..., start : start + per_line], per_line)
            for start in range(0, shown_outputs, per_line)
        ]
    )
    note = f"the first {shown_inputs} x {shown_outputs} of "
    note += f"{inputs} x {outputs} filters"
    everything = (shown_inputs, shown_outputs) == (inputs, outputs)
    below = 1 if shown_inputs == 1 else 2
    return image[:-below, :-1], "" if everything else note


def _line(mask, per_line):
    """Filters side by side, a gap below and behind each.

    Below several inputs there are two, which tell lines apart.
    """
    height, width, inputs, outputs = mask.shape
    image = np.full(
        (inputs, height + 1, per_line, width + 1), np.nan, "float32"
    )
    image[:, :height, :outputs, :width] = mask.transpose(2, 0, 3, 1)
    image = image.reshape(inputs * (height + 1), per_line * (width + 1))
    if inputs == 1:
        return image
    return np.vstack([image, np.full((1, image.shape[1]), np.nan, "float32")])
