"""What a ticket is, and what it weighs."""

import numpy as np
from gallery_style import WIDTH, read, say

from mpt_keras import figures
from mpt_keras.analysis.tiles import tiled


@figures.picture
def ticket():
    """One layer, from random weights to what is shipped."""
    found = read("layer.npz")
    weights, mask = found["weights"], found["mask"]
    signs = np.sign(weights) * mask
    theme = figures.theme()
    blue, orange, *_ = theme.colours
    figure = figures.new_figure(WIDTH, 5.6)
    say(figure, "A ticket is what a search keeps of random weights")
    panels = figure.subplots(2, 2, gridspec_kw={"wspace": 0.22, "hspace": 0.24})
    shown = {
        "Random weights\nfrom a seed, never trained": (
            *(weights, (orange, theme.pruned, blue), 1.0),
        ),
        "Scores\ntrained, one per weight": (
            *(np.abs(found["scores"]), (theme.pruned, theme.kept), 0.0),
        ),
        "Ticket\nsigns of what is kept": (
            *(signs, (orange, theme.pruned, blue), 1.0),
        ),
        "Mask\nthe half of largest scores": (
            *(mask, (theme.pruned, theme.kept), 0.0),
        ),
    }
    for axes, (title, (values, colours, below)) in zip(
        panels.flat, shown.items(), strict=True
    ):
        image, _ = tiled(values)
        largest = np.nanmax(np.abs(image))
        axes.imshow(
            image,
            cmap=_colours(*colours),
            vmin=-below * largest,
            vmax=largest,
            interpolation="nearest",
        )
        name, what = title.split("\n")
        axes.set_title(f"\n\n{what}", fontsize=9, color=theme.quiet)
        axes.text(
            *(0, 1.14, name),
            transform=axes.transAxes,
            fontsize=11,
            fontweight="bold",
        )
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    (weights_at, scores_at), (ticket_at, mask_at) = panels
    _arrow(figure, scores_at, (0.5, -0.03), mask_at, (0.5, 1.27))
    _arrow(figure, weights_at, (0.5, -0.03), ticket_at, (0.5, 1.27))
    _arrow(figure, mask_at, (-0.03, 0.5), ticket_at, (1.03, 0.5))
    return figure


def _arrow(figure, start, start_at, end, end_at):
    from matplotlib.patches import ConnectionPatch

    figure.add_artist(
        ConnectionPatch(
            *(start_at, end_at, "axes fraction", "axes fraction"),
            axesA=start,
            axesB=end,
            arrowstyle="-|>",
            mutation_scale=16,
            linewidth=2,
            color=figures.theme().quiet,
        )
    )


def _colours(*colours):
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("of the theme", colours)


@figures.picture
def size():
    """The same network in four files, as areas."""
    rows = read("sizes.json")["files"]
    theme = figures.theme()
    blue, orange, green, *_ = theme.colours
    figure = figures.new_figure(WIDTH, 4.8)
    smallest, largest = rows[-1], rows[0]
    times = largest["bytes"] / smallest["bytes"]
    say(figure, f"This ticket is {times:.0f} times smaller than its network")
    axes = figure.add_subplot()
    side = np.sqrt(largest["bytes"])
    colours = (theme.quiet, orange, green, blue)
    for row, colour in zip(rows, colours, strict=True):
        width = np.sqrt(row["bytes"]) / side
        axes.add_patch(_square(width, colour))
        words = f"{row['what']}\n{_in_words(row)}"
        weight = "bold" if row is smallest else "normal"
        looks = {"va": "top", "fontsize": 9, "fontweight": weight}
        if width > 0.4:
            axes.text(0.02, width - 0.02, words, **looks)
            continue
        # Beside its square, at the end of a line.
        axes.plot([width, 0.52], [width, width], color=colour, linewidth=1)
        axes.text(0.54, width + 0.035, words, **looks)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.axis("off")
    return figure


def _square(width, colour):
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Rectangle

    return Rectangle(
        (0, 0),
        width,
        width,
        facecolor=to_rgba(colour, 0.22),
        edgecolor=colour,
        linewidth=1.6,
    )


def _in_words(row):
    bits = 8 * row["bytes"] / row["weights"]
    size = row["bytes"] / 1000
    size = f"{size / 1000:.1f} MB" if size > 1000 else f"{size:.0f} kB"
    unit = "bit" if round(bits, 2) == 1 else "bits"
    return f"{size}, {bits:.2g} {unit} a weight"
