"""A comparison as pictures: accuracies of tickets, and learning curves.

Figures of matplotlib, which is imported where something is drawn.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable

from mpt_keras import figures
from mpt_keras.experiments.columns import pruned
from mpt_keras.experiments.groups import by_seed
from mpt_keras.experiments.spread import Spread

_LINES = ("-", ":", "-.")
_MOST_TICKS = 8
# Points, about: how wide the axes are, and how far apart marks of one place.
_WIDTH, _APART = 330, 5


@dataclasses.dataclass(frozen=True)
class _Axis:
    """The horizontal axis of a picture of accuracies.

    Attributes:
        label: What it says.
        place: Where a group lies on it, None for one that has no place, whose
            accuracy is drawn as a level.
        written: How a place is written.
        is_falling: Whether large values are on the left.
        is_logarithmic: Whether it is.
    """

    label: str
    place: Callable
    written: Callable
    is_falling: bool = False
    is_logarithmic: bool = True


def _of(name):
    return lambda group: group.mean(name)


def _sparsity(group):
    return group.sparsity


def _fraction_kept(group):
    kept, weights = group.mean("weights_kept"), group.mean("weights")
    known = group.sparsity is not None and kept and weights
    return kept / weights if known else None


def _count(value, _):
    for unit, size in ((" M", 1e6), (" k", 1e3)):
        if value >= size:
            return f"{value / size:,.4g}{unit}"
    return f"{value:.4g}"


_PRUNED = _Axis(
    "Weights pruned", _sparsity, figures.percents, is_logarithmic=False
)
_FRACTION = _Axis("Weights kept", _fraction_kept, figures.percents, True)
_COUNT = _Axis("Weights kept", _of("weights_kept"), _count)
_BYTES = _Axis(
    "Ticket, kB",
    _of("ticket_bytes"),
    lambda value, _: f"{value / 1000:,.4g}",
)


def pictures(comparison):
    """Name -> function that draws it, of those that have something to show."""
    sizes = {group.mean("weights") for group in comparison.groups} - {None}
    axes = {
        "accuracy": _PRUNED,
        # Networks of several widths are told apart by numbers.
        "weights_kept": _COUNT if len(sizes) > 1 else _FRACTION,
        "ticket_bytes": _BYTES,
    }
    found = {
        name: lambda axis=axis: draw_accuracy(comparison, axis)
        for name, axis in axes.items()
        if any(axis.place(group) is not None for group in comparison.groups)
    }
    if any(_curve(group) for group in comparison.groups):
        found["learning_curves"] = lambda: draw_curves(comparison)
    return found


# --- Accuracies -----------------------------------------------------------


def draw_accuracy(comparison, axis):
    """The last test accuracy of all groups over an axis.

    Bars and bands reach one standard deviation up and down.
    """
    styles = _styles(comparison)
    figure = figures.new_figure(8, _height(styles))
    axes = figure.add_subplot()
    axes.set(
        title=f"{comparison.title}\n{_seeds(comparison)}",
        xlabel=axis.label,
        ylabel="Test accuracy after the last epoch",
    )
    places = {axis.place(group) for group in comparison.groups} - {None}
    _scale(axes, axis, sorted(places))
    step = _step(axis, sorted(places), len(styles))
    # The outermost marks are moved by this much.
    axes.margins(x=0.05 + step * len(styles) / 2 / _WIDTH)
    handles = {}
    for number, (label, style) in enumerate(styles.items()):
        own = [
            one for one in comparison.groups if comparison.label(one) == label
        ]
        placed = [one for one in own if axis.place(one) is not None]
        if placed:
            shift = (number - (len(styles) - 1) / 2) * step
            handles[label] = _draw_points(axes, axis, placed, style, shift)
        for one in own:
            if one not in placed:
                handles[label] = _draw_level(axes, one, style)
    axes.yaxis.set_major_formatter(figures.percents)
    _finish(axes)
    _add_legend(figure, handles)
    return figure


def _styles(comparison):
    """Label -> how it is drawn, the same in all pictures of a comparison."""
    labels = dict.fromkeys(map(comparison.label, comparison.groups))
    colours, markers = figures.COLOURS, figures.MARKERS
    return {
        label: {
            "color": colours[number % len(colours)],
            # Where colours begin anew, markers and lines are others.
            "marker": markers[(number + number // len(colours)) % len(markers)],
            "linestyle": _LINES[number // len(colours) % len(_LINES)],
        }
        for number, label in enumerate(labels)
    }


def _height(styles):
    return max(4.5, 1.0 + 0.19 * len(styles))


def _seeds(comparison):
    counts = {len(group.seeds) for group in comparison.groups}
    least, most = min(counts), max(counts)
    if most == 1:
        return "one seed"
    seeds = f"{least} to {most}" if least < most else f"{most}"
    return f"mean and standard deviation over {seeds} seeds"


def _scale(axes, axis, places):
    if axis.is_logarithmic:
        # Wide enough for a mark in any case.
        low, high = places[0] / 1.6, places[-1] * 1.6
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        axes.set_xticks(_round_numbers(low, high))
        axes.xaxis.minorticks_off()
    elif len(places) == 1:
        axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(axis.written)
    if axis.is_falling:
        axes.invert_xaxis()


def _round_numbers(low, high):
    """Powers of ten in a range, and twice and five times these if few."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
    for factors in (1, 2, 5), (1,):
        found = [
            factor * 10.0**exponent
            for exponent in exponents
            for factor in factors
            if low <= factor * 10.0**exponent <= high
        ]
        if len(found) <= _MOST_TICKS:
            break
    return found


def _step(axis, places, count):
    """How far apart, in points, are marks of one place: less where it is tight.

    Otherwise the bars of many methods would lie over each other.
    """
    if axis.is_logarithmic:
        places = [math.log(place) for place in places]
    gaps = [b - a for a, b in itertools.pairwise(places)]
    narrowest = min(gaps) / (places[-1] - places[0]) if gaps else 0.5
    return min(_APART, 0.5 * _WIDTH * narrowest / count)


def _draw_points(axes, axis, groups, style, shift):
    from matplotlib.transforms import ScaledTranslation

    spreads = [group.spread("test_accuracy") for group in groups]
    deviations = [spread.deviation or 0.0 for spread in spreads]
    drawn = axes.errorbar(
        [axis.place(group) for group in groups],
        [spread.mean for spread in spreads],
        yerr=deviations if any(deviations) else None,
        capsize=3,
        markersize=5,
        **style,
    )
    # Only now: the limits of the axes are those of the data.
    moved = ScaledTranslation(shift / 72, 0, axes.figure.dpi_scale_trans)
    for part in drawn.get_children():
        part.set_transform(axes.transData + moved)
    return drawn


def _draw_level(axes, group, style):
    accuracy = group.spread("test_accuracy")
    deviation = accuracy.deviation or 0.0
    axes.axhspan(
        accuracy.mean - deviation,
        accuracy.mean + deviation,
        color=style["color"],
        alpha=0.15,
        linewidth=0,
    )
    return axes.axhline(accuracy.mean, linestyle="--", color=style["color"])


# --- Learning curves ------------------------------------------------------


def draw_curves(comparison):
    """The test accuracy after each epoch, a panel for each sparsity.

    Networks that are not pruned stand in every panel. Bands reach one
    standard deviation up and down; a large mark is where early stopping by
    the validation loss would have ended, on average.
    """
    styles = _styles(comparison)
    groups = [group for group in comparison.groups if _curve(group)]
    sparsities = sorted({group.sparsity for group in groups} - {None})
    panels = sparsities or [None]
    columns = min(len(panels), 3 if len(panels) <= 9 else 4)
    rows = math.ceil(len(panels) / columns)
    figure = figures.new_figure(
        max(3.5 * columns + 2, 7.5), max(2.8 * rows + 1, _height(styles))
    )
    figure.suptitle(f"{comparison.title}\n{_seeds(comparison)}")
    grid = figure.subplots(
        *(rows, columns), sharex=True, sharey=True, squeeze=False
    )
    handles = {}
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for sparsity, axes in zip(panels, grid.flat, strict=False):
        if sparsity is not None:
            axes.set_title(f"{pruned(sparsity)} pruned", fontsize=10)
        for group in groups:
            if group.sparsity in (None, sparsity):
                label = comparison.label(group)
                handles[label] = _draw_curve(axes, group, styles[label])
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.yaxis.set_major_formatter(figures.percents)
        axes.tick_params(labelbottom=True)
        _finish(axes)
    figure.supxlabel("Epoch", fontsize=10)
    figure.supylabel("Test accuracy", fontsize=10)
    named = {label: handles[label] for label in styles if label in handles}
    if any(_stop(group) for group in groups):
        named["early stopping"] = _large_mark("o", "grey")
    _add_legend(figure, named)
    return figure


def _curve(group):
    """A `Spread` for each epoch; empty if a line does not say."""
    name = "test_accuracy_per_epoch"
    curves = [line.get(name) for line in group.lines]
    if not all(curves):
        return []
    epochs = range(min(map(len, curves)))
    return [
        Spread.of(list(_at_epoch(group, name, epoch).values()))
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
        linewidth=1.2,
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


# --- What both share ------------------------------------------------------


def _finish(axes):
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _add_legend(figure, handles):
    figure.legend(
        handles.values(),
        [figures.short(label, 36) for label in handles],
        loc="outside right upper",
        frameon=False,
        fontsize=8,
    )
