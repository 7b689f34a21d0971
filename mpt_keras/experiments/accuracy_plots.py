"""Accuracies over the weights pruned, the weights kept or the bytes of tickets.

Over bytes, a line joins the Pareto front: what no other network here beats,
being both smaller and more accurate.

Figures of matplotlib, which is imported where something is drawn.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable

from mpt_keras import figure_words, figures
from mpt_keras.experiments import pareto
from mpt_keras.experiments.plot_style import (
    add_legend,
    has_few,
    height,
    name_ends,
    seeds,
    styles,
)

_MOST_TICKS = 8
# Points, about: how wide the axes are, and how far apart marks of one place.
_WIDTH, _APART = 330, 3.5


@dataclasses.dataclass(frozen=True)
class _Axis:
    """The horizontal axis of a picture of accuracies.

    Attributes:
        label: What it says.
        place: Where a group lies on it, None for one that has no place. The
            accuracy of a network that is not pruned is then a level.
        written: How a place is written.
        is_falling: Whether large values are on the left.
        is_logarithmic: Whether it is.
        is_cost: Whether less is better, so that there is a Pareto front.
    """

    label: str
    place: Callable
    written: Callable
    is_falling: bool = False
    is_logarithmic: bool = True
    is_cost: bool = False


def _of(name):
    return lambda group: group.mean(name)


def _sparsity(group):
    return group.sparsity


def _fraction_kept(group):
    kept, weights = group.mean("weights_kept"), group.mean("weights")
    known = group.sparsity is not None and kept and weights
    return kept / weights if known else None


def _bytes(group):
    """Of the ticket; a network that is not pruned has four for each weight."""
    weights = group.mean("weights")
    if group.sparsity is None and weights:
        return 4 * weights
    return group.mean("ticket_bytes")


def _count(value, _):
    for unit, size in ((" M", 1e6), (" k", 1e3)):
        if value >= size:
            return f"{value / size:,.4g}{unit}"
    return f"{value:.4g}"


_PRUNED = _Axis(
    "Weights pruned", _sparsity, figure_words.percents, is_logarithmic=False
)
_FRACTION = _Axis("Weights kept", _fraction_kept, figure_words.percents, True)
_COUNT = _Axis("Weights kept", _of("weights_kept"), _count)
_BYTES = _Axis(
    "Ticket, kB (not pruned: 4 bytes a weight)",
    _bytes,
    lambda value, _: f"{value / 1000:,.4g}",
    is_cost=True,
)


def accuracy_plots(comparison, width=8):
    """Name -> function that draws it, of those that have something to show."""
    axes = {
        "accuracy": _PRUNED,
        # Networks of several widths are told apart by numbers.
        "weights_kept": _COUNT if comparison.varies("width") else _FRACTION,
        "ticket_bytes": _BYTES,
    }
    return {
        name: lambda axis=axis: _draw(comparison, axis, width)
        for name, axis in axes.items()
        if _has_places(comparison, axis)
    }


def _has_places(comparison, axis):
    """Whether something is placed, and not only what is compared with."""
    return any(
        axis.place(group) is not None
        for group in comparison.groups
        if group.sparsity is not None or not axis.is_cost
    )


@figures.picture
def _draw(comparison, axis, width):
    """The last test accuracy of all groups over an axis.

    Bars and bands reach one standard deviation up and down.
    """
    looks = styles(comparison)
    figure = figures.new_figure(width, height(looks))
    axes = figure.add_subplot()
    axes.grid(axis="y")
    axes.set(
        title=f"{comparison.title}\n{seeds(comparison)}",
        xlabel=axis.label,
        ylabel="Test accuracy after the last epoch",
    )
    places = {axis.place(group) for group in comparison.groups} - {None}
    _scale(axes, axis, sorted(places))
    step = _step(axis, sorted(places), len(looks))
    # The outermost marks are moved by this much.
    axes.margins(x=0.05 + step * len(looks) / 2 / _WIDTH)
    handles, ends = {}, {}
    for number, (label, style) in enumerate(looks.items()):
        own = [
            one for one in comparison.groups if comparison.label(one) == label
        ]
        placed = [one for one in own if axis.place(one) is not None]
        if placed:
            shift = (number - (len(looks) - 1) / 2) * step
            handles[label] = _draw_points(axes, axis, placed, style, shift)
        for one in own:
            if one not in placed and one.sparsity is None:
                handles[label] = _draw_level(axes, one, style)
                placed = [one]
        if placed:
            last = min if axis.is_falling else max
            end = last(placed, key=lambda one: axis.place(one) or 0)
            ends[label] = end.mean("test_accuracy"), style["color"]
    axes.yaxis.set_major_formatter(figure_words.percents)
    if axis.is_cost:
        handles["Pareto front"] = _draw_front(axes, axis, comparison.groups)
    if has_few(looks) and not axis.is_cost:
        name_ends(axes, ends)
    else:
        add_legend(figure, handles)
    return figure


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
    elif _narrowest(places) * _MOST_TICKS >= 1:
        # Marks that stand side by side belong to these.
        axes.set_xticks(places)
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
    return min(_APART, 0.5 * _WIDTH * _narrowest(places) / count)


def _narrowest(places):
    """The narrowest gap between neighbours, as a fraction of the whole."""
    if len(places) == 1:
        return 0.5
    gaps = [after - before for before, after in itertools.pairwise(places)]
    return min(gaps) / (places[-1] - places[0])


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


def _draw_front(axes, axis, groups):
    """The most accuracy for so many bytes, as steps behind the points."""
    points = pareto.front(
        (axis.place(group), group.mean("test_accuracy"))
        for group in groups
        if axis.place(group) is not None
    )
    # From the lower edge to the right one.
    (_, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    axes.set_ylim(low, high)
    (least, _), (_, most) = points[0], points[-1]
    points = [(least, low), *points, (right, most)]
    (line,) = axes.plot(
        *zip(*points, strict=True),
        drawstyle="steps-post",
        color=figures.theme().quiet,
        linewidth=5,
        alpha=0.35,
        solid_capstyle="round",
        zorder=1,
    )
    return line


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
