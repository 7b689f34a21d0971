"""How masks agree, what they prune and how they change, as figures.

A figure is written by `figure.savefig("agreement.png")`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mpt_keras.analysis.masks import check_masks
from mpt_keras.analysis.pairs import PairwiseComparison
from mpt_keras.figure_words import label_ends, percents, short
from mpt_keras.figures import (
    MARKERS,
    new_figure,
    picture,
    theme,
)

_HATCHES = ("", "//", "..", "xx")
_MOST_NUMBERS = 20
_MOST_NAMES = 8
_TOTAL = "total"
# Where a legend stands.
_RIGHT, _ABOVE = "outside right upper", "outside upper right"


@picture
def draw_agreement(
    comparison: PairwiseComparison, measure: str = "agreement"
) -> Any:
    """Draws how much each ticket agrees with each, a square of colours.

    The colours reach from what chance gives to two equal tickets.

    Args:
        comparison: `PairwiseComparison`, of `compare_all`.
        measure: `"agreement"` or `"jaccard"`.

    Returns:
        `matplotlib.figure.Figure`.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there is no such measure.

    Example:

    >>> masks = mpt_keras.analysis.masks_of(model)
    >>> comparison = mpt_keras.analysis.compare_all({"a": masks, "b": masks})
    >>> figure = mpt_keras.analysis.draw_agreement(comparison)
    >>> figure.axes[0].images[0].get_array().tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    if measure not in ("agreement", "jaccard"):
        raise ValueError(
            "Invalid value for argument `measure`. Expected 'agreement' or "
            f"'jaccard'. Received: measure={measure!r}"
        )
    values = comparison.matrix(measure)
    chance = getattr(comparison.total, measure).by_chance
    count = len(comparison.labels)
    side = min(max(0.62 * count, 2.6), 12)
    figure = new_figure(side + 2.6, side + 1.4)
    axes = figure.add_subplot()
    # Tickets that keep everything agree fully, and by chance.
    lowest = min(chance, values.min(), 0.99)
    lowest -= 0.03 * (1.0 - lowest)
    image = axes.imshow(values, cmap="cividis", vmin=lowest, vmax=1.0)
    labels = [short(label) for label in comparison.labels]
    axes.set_xticks(range(count), labels, rotation=45, ha="right")
    axes.set_yticks(range(count), labels)
    what = {"agreement": "Agreement", "jaccard": "Jaccard index"}[measure]
    axes.set_title(f"{what} of the masks\nby chance {100 * chance:.1f} %")
    if count <= _MOST_NUMBERS:
        middle = (lowest + 1.0) / 2
        for row, column in np.ndindex(values.shape):
            value = values[row, column]
            axes.text(
                column,
                row,
                f"{100 * value:.1f}",
                ha="center",
                va="center",
                fontsize=8,
                color="black" if value > middle else "white",
            )
    bar = figure.colorbar(image, format=percents, shrink=0.8)
    bar.ax.axhline(chance, color=theme().colours[1], linewidth=2)
    bar.set_label("the line: by chance")
    return figure


@picture
def draw_layers(
    masks_by_label: Mapping[str, Mapping[str, np.ndarray]],
) -> Any:
    """Draws the fraction pruned of every layer, bars side by side per ticket.

    Args:
        masks_by_label: Dictionary, label -> masks. The tickets need not have
            the same layers.

    Returns:
        `matplotlib.figure.Figure`.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there are no masks, or one is no boolean array.

    Example:

    >>> masks = mpt_keras.analysis.masks_of(model)
    >>> figure = mpt_keras.analysis.draw_layers({"ticket": masks})
    >>> [f"{bar.get_height():.2f}" for bar in figure.axes[0].patches]
    ['0.50', '0.50', '0.50']
    """
    if not masks_by_label:
        raise ValueError("Expected the masks of one ticket at least.")
    for masks in masks_by_label.values():
        check_masks(masks)
    names = dict.fromkeys(name for m in masks_by_label.values() for name in m)
    names = [*names, _TOTAL]
    axes = _axes_over_layers(names, len(names) * len(masks_by_label))
    axes.set_ylabel("Weights pruned")
    width = 0.8 / len(masks_by_label)
    colours = theme().colours
    for number, (label, masks) in enumerate(masks_by_label.items()):
        pruned = [_pruned(masks, name) for name in names]
        there = [at for at, value in enumerate(pruned) if value is not None]
        axes.bar(
            [at - 0.4 + (number + 0.5) * width for at in there],
            [pruned[at] for at in there],
            width,
            label=short(label),
            color=colours[number % len(colours)],
            hatch=_HATCHES[number // len(colours) % len(_HATCHES)],
            edgecolor=theme().background,
            linewidth=0.3,
        )
    axes.set_ylim(0, 1)
    _finish(axes, _RIGHT if len(masks_by_label) > 1 else None)
    return axes.figure


@picture
def draw_jaccard(comparison: PairwiseComparison) -> Any:
    """Draws the Jaccard index of each layer beside what chance gives.

    A dot is the mean over all pairs of tickets, its whiskers reach from the
    least to the most.

    Args:
        comparison: `PairwiseComparison`, of `compare_all`.

    Returns:
        `matplotlib.figure.Figure`.

    Raises:
        ImportError: If matplotlib is not installed.

    Example:

    >>> masks = mpt_keras.analysis.masks_of(model)
    >>> comparison = mpt_keras.analysis.compare_all({"a": masks, "b": masks})
    >>> figure = mpt_keras.analysis.draw_jaccard(comparison)
    >>> figure.axes[0].get_ylabel()
    'Jaccard index'
    """
    rows = [*comparison.layers, comparison.total]
    axes = _axes_over_layers([row.name for row in rows], 2 * len(rows))
    axes.set_ylabel("Jaccard index")
    spreads = [row.jaccard for row in rows]
    count = len(comparison.pairs)
    pairs = f"{count} pairs" if count > 1 else "one pair"
    axes.errorbar(
        range(len(rows)),
        [spread.mean for spread in spreads],
        # A mean may round to a little beyond.
        yerr=[
            [max(spread.mean - spread.least, 0.0) for spread in spreads],
            [max(spread.most - spread.mean, 0.0) for spread in spreads],
        ],
        linestyle="none",
        capsize=3,
        color=theme().colours[0],
        marker=MARKERS[0],
        label=f"mean, least and most of {pairs}",
    )
    axes.scatter(
        range(len(rows)),
        [spread.by_chance for spread in spreads],
        s=160,
        marker="_",
        linewidths=2,
        color=theme().colours[1],
        label="by chance",
    )
    axes.set_ylim(0, None)
    _finish(axes, _ABOVE)
    return axes.figure


@picture
def draw_churn(histories: Mapping[str, Any]) -> Any:
    """Draws the fraction of the mask that each epoch changed.

    Args:
        histories: Dictionary, label -> sequence of numbers in [0, 1], one per
            epoch: what `mpt_keras.callbacks.MaskChurn` logs as `mask_churn`.

    Returns:
        `matplotlib.figure.Figure`.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there is no history.

    Example:

    >>> figure = mpt_keras.analysis.draw_churn({"run": [0.2, 0.1, 0.05]})
    >>> figure.axes[0].lines[0].get_ydata().tolist()
    [0.2, 0.1, 0.05]
    """
    if not histories:
        raise ValueError("Expected the history of one run at least.")
    axes = new_figure(7, 4.5).add_subplot()
    axes.set(xlabel="Epoch", ylabel="Mask entries changed in the epoch")
    colours = theme().colours
    for number, (label, churn) in enumerate(histories.items()):
        axes.plot(
            np.arange(1, len(churn) + 1),
            np.asarray(churn, "float64"),
            label=short(label),
            color=colours[number % len(colours)],
            marker=MARKERS[number % len(MARKERS)],
            linestyle=("-", "--", ":")[number // len(colours) % 3],
            markevery=max(len(churn) // 20, 1),
        )
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylim(0, None)
    has_few = len(histories) <= _MOST_NAMES
    _finish(axes, None if has_few else _RIGHT)
    if has_few:
        _name_lines(axes)
    return axes.figure


def _name_lines(axes):
    """Writes their labels behind the last point of each."""
    label_ends(
        axes,
        [
            (line.get_label(), *line.get_xydata()[-1], line.get_color())
            for line in axes.lines
            if len(line.get_xydata())
        ],
    )


def _axes_over_layers(names, marks):
    width = min(max(0.16 * marks, 0.35 * len(names), 5), 16)
    axes = new_figure(width + 1, 4.5).add_subplot()
    labels = [short(name) for name in names]
    too_long = sum(map(len, labels)) > 10 * width
    slanted = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(
        range(len(names)), labels, fontsize=8, **slanted if too_long else {}
    )
    axes.set_xlim(-0.6, len(names) - 0.4)
    # What is said of all layers together stands apart.
    axes.axvline(len(names) - 1.5, color=theme().quiet, linewidth=0.8)
    return axes


def _finish(axes, legend=_RIGHT):
    axes.yaxis.set_major_formatter(percents)
    axes.grid(axis="y")
    if legend:
        axes.figure.legend(loc=legend, ncols=2 if legend == _ABOVE else 1)


def _pruned(masks, name):
    """Of a layer or of all; None where there is no such layer."""
    if name == _TOTAL:
        parts = list(masks.values())
    elif name in masks:
        parts = [masks[name]]
    else:
        return None
    weights = sum(mask.size for mask in parts)
    kept = sum(np.count_nonzero(mask) for mask in parts)
    return 1.0 - kept / max(weights, 1)
