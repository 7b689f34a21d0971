"""Learning curves, and where early stopping would have ended them.

Figures of matplotlib, which is imported where something is drawn.
"""

import math

from mpt_keras import figure_words, figures
from mpt_keras.experiments.columns import pruned
from mpt_keras.experiments.groups import by_seed
from mpt_keras.experiments.plot_style import (
    add_legend,
    has_few,
    height,
    name_ends,
    seeds,
    styles,
)
from mpt_keras.experiments.spread import SeedSpread


def has_curves(comparison):
    """Whether a line says the accuracy after each epoch."""
    return any(_curve(group) for group in comparison.groups)


@figures.picture
def draw_curves(comparison):
    """The test accuracy after each epoch, a panel for each sparsity.

    Networks that are not pruned stand in every panel. Bands reach one
    standard deviation up and down; a large mark is where early stopping by
    the validation loss would have ended, on average.
    """
    looks = styles(comparison)
    groups = [group for group in comparison.groups if _curve(group)]
    sparsities = sorted({group.sparsity for group in groups} - {None})
    panels = sparsities or [None]
    columns = min(len(panels), 3 if len(panels) <= 9 else 4)
    rows = math.ceil(len(panels) / columns)
    figure = figures.new_figure(
        max(3.5 * columns + 2, 7.5), max(2.8 * rows + 1, height(looks))
    )
    figure_words.headline(figure, f"{comparison.title}\n{seeds(comparison)}")
    grid = figure.subplots(
        *(rows, columns), sharex=True, sharey=True, squeeze=False
    )
    handles = {}
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for sparsity, axes in zip(panels, grid.flat, strict=False):
        if sparsity is not None:
            axes.set_title(f"{pruned(sparsity)} pruned")
        for group in groups:
            if group.sparsity in (None, sparsity):
                label = comparison.label(group)
                handles[label] = _draw_curve(axes, group, looks[label])
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.yaxis.set_major_formatter(figure_words.percents)
        axes.tick_params(labelbottom=True)
        axes.grid(axis="y")
    figure.supxlabel("Epoch", fontsize=10)
    figure.supylabel("Test accuracy", fontsize=10)
    named = {label: handles[label] for label in looks if label in handles}
    if len(panels) == 1 and has_few(named):
        name_ends(
            axes,
            {
                label: (line.get_ydata()[-1], line.get_color())
                for label, line in named.items()
            },
        )
        named = {}
    if any(_stop(group) for group in groups):
        quiet = figures.theme().quiet
        named["early stopping"] = _large_mark("o", quiet)
    if named:
        add_legend(figure, named)
    return figure


def _curve(group):
    """A `SeedSpread` for each epoch; empty if a line does not say."""
    name = "test_accuracy_per_epoch"
    curves = [line.get(name) for line in group.lines]
    if not all(curves):
        return []
    epochs = range(min(map(len, curves)))
    return [
        SeedSpread.of(list(_at_epoch(group, name, epoch).values()))
        for epoch in epochs
    ]


def _at_epoch(group, name, epoch):
    lines = [line | {name: line[name][epoch]} for line in group.lines]
    return by_seed(lines, name)


def _draw_curve(axes, group, style):
    curve = _curve(group)
    epochs = range(1, len(curve) + 1)
    means = [spread.mean for spread in curve]
    (line,) = axes.plot(
        epochs,
        means,
        markersize=4,
        markevery=max(len(curve) // 8, 1),
        **style,
    )
    if len(group.seeds) > 1:
        axes.fill_between(
            epochs,
            [spread.mean - spread.deviation for spread in curve],
            [spread.mean + spread.deviation for spread in curve],
            color=style["color"],
            alpha=0.1,
            linewidth=0,
        )
    if _stop(group):
        mark = _large_mark(style["marker"], style["color"])
        mark.set_data(*([value] for value in _stop(group)))
        axes.add_line(mark)
    return line


def _stop(group):
    """Where early stopping would have ended: epoch and accuracy, or None."""
    place = (
        group.mean("early_stop.epoch"),
        group.mean("early_stop.test_accuracy"),
    )
    return None if None in place else place


def _large_mark(marker, colour):
    from matplotlib.lines import Line2D

    return Line2D(
        [],
        [],
        linestyle="none",
        marker=marker,
        markersize=8,
        markerfacecolor="none",
        markeredgecolor=colour,
        markeredgewidth=1.6,
        zorder=3,
    )
