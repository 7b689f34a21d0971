"""What masks look like, and the kernels that they leave."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mpt_keras.analysis.masks import check_masks
from mpt_keras.analysis.tiles import tiled
from mpt_keras.figure_words import headline, percents, short
from mpt_keras.figures import (
    new_figure,
    picture,
    theme,
)

_MOST_LAYERS = 36


@picture
def draw_masks(masks: Mapping[str, np.ndarray]) -> Any:
    """Draws every layer's mask: strong at the weights kept, faint elsewhere.

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
    colours = _colours(theme().pruned, theme().kept)
    return _draw_layers(masks, colours, lambda mask: (0.0, 1.0))


@picture
def draw_kernels(kernels: Mapping[str, np.ndarray]) -> Any:
    """Draws the weights that a ticket keeps by their sign, and where none is.

    Weights above 0 are blue, those below orange, the stronger the larger they
    are beside the largest of their layer; pruned ones, which are 0, are faint.
    Kernels are laid out as masks are by `draw_masks`.

    Args:
        kernels: Dictionary, name -> array of floats in which pruned weights
            are 0, as of `kernels_of`. Of more than 36 layers the first 36 are
            drawn.

    Returns:
        `matplotlib.figure.Figure`.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there are no kernels, or one is no array of finite
            numbers.

    Example:

    >>> kernels = mpt_keras.analysis.kernels_of(model)
    >>> figure = mpt_keras.analysis.draw_kernels(kernels)
    >>> figure.axes[1].images[0].get_array().shape
    (8, 2)
    """
    _check_kernels(kernels)
    positive, negative, *_ = theme().colours
    colours = _colours(negative, theme().pruned, positive)

    def limits(kernel):
        largest = float(np.abs(kernel).max(initial=0.0)) or 1.0
        return -largest, largest

    return _draw_layers(kernels, colours, limits)


@picture
def draw_inputs(masks: Mapping[str, np.ndarray], shape: Sequence[int]) -> Any:
    """Draws where the first dense layer of a network looks at its images.

    A point is the fraction kept of the weights that leave a pixel. Before the
    search all of them keep about the same; pixels that tell nothing, as those
    at the margin of handwritten digits, then lose weights to the others.

    Args:
        masks: Dictionary, title -> boolean array of shape (inputs, outputs):
            the mask of such a layer, at one time or at several, or of several
            tickets. All share one scale of colours.
        shape: Of an image, (rows, columns) or (rows, columns, channels), whose
            product is `inputs`. Channels are averaged.

    Returns:
        `matplotlib.figure.Figure`.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there are no masks, one is no boolean array, or it does
            not belong to images of this shape.

    Example:

    >>> mask = np.array([[True] * 8, [False] * 8, [True] * 8, [False] * 8])
    >>> figure = mpt_keras.analysis.draw_inputs({"ticket": mask}, (2, 2))
    >>> figure.axes[0].images[0].get_array().tolist()
    [[1.0, 0.0], [1.0, 0.0]]
    """
    check_masks(masks)
    shape = tuple(shape)
    images = {
        name: _kept_by_pixel(name, mask, shape) for name, mask in masks.items()
    }
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    figure = new_figure(max(1.7 * columns, 3.0), 2.0 * rows + 0.7)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    least, most = _limits(images.values())
    for axes, (name, image) in zip(panels, images.items(), strict=False):
        drawn = axes.imshow(
            image,
            cmap=_colours(theme().pruned, theme().kept),
            vmin=least,
            vmax=most,
            interpolation="nearest",
        )
        axes.set_title(short(name, 24), fontsize=9)
        _bare(axes)
    for axes in panels[len(images) :]:
        axes.remove()
    bar = figure.colorbar(
        drawn,
        ax=panels[: len(images)],
        location="bottom",
        format=percents,
        aspect=40,
        shrink=0.9,
    )
    bar.outline.set_visible(False)
    bar.set_label("Weights of a pixel that are kept", fontsize=9)
    return figure


def _limits(images):
    least = float(min(image.min() for image in images))
    most = float(max(image.max() for image in images))
    return (least, most) if least < most else (0.0, 1.0)


def _kept_by_pixel(name, mask, shape):
    inputs = math.prod(shape)
    if mask.ndim != 2 or len(shape) not in (2, 3) or mask.shape[0] != inputs:
        raise ValueError(
            "Invalid value for argument `shape`. Expected that of an image, "
            "(rows, columns) or (rows, columns, channels), with a number for "
            f"each of the inputs of the mask '{name}'. Received: "
            f"shape={shape}, with a mask of shape {mask.shape}"
        )
    kept = mask.mean(axis=1).reshape(shape)
    return kept if len(shape) == 2 else kept.mean(axis=-1)


def _check_kernels(kernels):
    if not kernels:
        raise ValueError(
            "There are no kernels. Expected a dictionary, name of the layer "
            f"-> array. Received: {kernels!r}"
        )
    for name, kernel in kernels.items():
        is_array = isinstance(kernel, np.ndarray) and kernel.dtype.kind == "f"
        if not is_array or not np.isfinite(kernel).all():
            received = getattr(kernel, "dtype", type(kernel).__name__)
            raise ValueError(
                f"The kernel of '{name}' must be a NumPy array of finite "
                f"floats, 0 at the weights pruned. Received: {received}"
            )


def _draw_layers(arrays, colours, limits):
    """A panel for each layer's array, coloured between its own limits."""
    drawn = dict(list(arrays.items())[:_MOST_LAYERS])
    columns = min(math.ceil(math.sqrt(len(drawn))), 6)
    rows = math.ceil(len(drawn) / columns)
    figure = new_figure(max(2.6 * columns, 3.4), 2.9 * rows)
    if len(drawn) < len(arrays):
        headline(figure, f"The first {len(drawn)} of {len(arrays)} layers")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, (name, array) in zip(panels, drawn.items(), strict=False):
        _draw_layer(axes, name, array, colours, limits(array))
    for axes in panels[len(drawn) :]:
        axes.remove()
    return figure


def _draw_layer(axes, name, array, colours, limits):
    image, note = tiled(array)
    # Long images would be lines: their points need not be squares.
    long = max(image.shape) > 3 * min(image.shape)
    low, high = limits
    axes.imshow(
        image,
        cmap=colours,
        vmin=low,
        vmax=high,
        interpolation="nearest",
        aspect="auto" if long else "equal",
    )
    kept = np.count_nonzero(array)
    lines = [
        short(name),
        f"kept {kept:,} of {array.size:,} ({kept / max(array.size, 1):.1%})",
        note,
    ]
    axes.set_title("\n".join(line for line in lines if line), fontsize=7.5)
    _bare(axes)


def _bare(axes):
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _colours(*colours):
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("of the theme", colours)
