"""What masks look like."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mpt_keras.analysis.masks import check_masks
from mpt_keras.analysis.tiles import tiled
from mpt_keras.figures import new_figure, short

_PRUNED, _KEPT = "#ccd6e0", "#08244a"
_MOST_LAYERS = 36


def draw_masks(masks: Mapping[str, np.ndarray]) -> Any:
    """Draws every layer's mask: dark at the weights kept, light elsewhere.

    A dense kernel is a matrix, inputs down and outputs across; where it is
    large, a point is the mean of a block. A convolution's is a grid of its
    filters, a row per input and a column per output; where they are many,
    the first. The title of each says so, and how many weights are kept.

    Args:
        masks: Dictionary, name -> boolean array, as of `masks_of`. Of more
            than 36 layers the first 36 are drawn.

    Returns:
        `matplotlib.figure.Figure`.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there are no masks, or one is no boolean array.

    Example:

    >>> masks = mpt_keras.analysis.masks_of(model)
    >>> figure = mpt_keras.analysis.draw_masks(masks)
    >>> len(figure.axes)
    2
    """
    check_masks(masks)
    drawn = dict(list(masks.items())[:_MOST_LAYERS])
    columns = min(math.ceil(math.sqrt(len(drawn))), 6)
    rows = math.ceil(len(drawn) / columns)
    figure = new_figure(max(2.6 * columns, 3.4), 2.9 * rows)
    if len(drawn) < len(masks):
        figure.suptitle(f"The first {len(drawn)} of {len(masks)} layers")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, (name, mask) in zip(panels, drawn.items(), strict=False):
        _draw_mask(axes, name, mask)
    for axes in panels[len(drawn) :]:
        axes.remove()
    return figure


def _draw_mask(axes, name, mask):
    from matplotlib.colors import LinearSegmentedColormap

    image, note = tiled(mask)
    colours = LinearSegmentedColormap.from_list("kept", [_PRUNED, _KEPT])
    # Long images would be lines: their points need not be squares.
    long = max(image.shape) > 3 * min(image.shape)
    axes.imshow(
        image,
        cmap=colours,
        vmin=0.0,
        vmax=1.0,
        interpolation="nearest",
        aspect="auto" if long else "equal",
    )
    kept = np.count_nonzero(mask)
    lines = [
        short(name),
        f"kept {kept:,} of {mask.size:,} ({kept / max(mask.size, 1):.1%})",
        note,
    ]
    axes.set_title("\n".join(line for line in lines if line), fontsize=7)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
