"""Draws the pictures of the gallery anew, for light and for dark pages.

    python docs/pictures/draw.py
    python docs/pictures/draw.py --only=ticket,churn --output_dir=figures

What is drawn stands in `docs/results/` and in `data/` beside this program;
`measure.py` and the commands that `docs/gallery.md` names measured it. Nothing
is trained.
"""

import contextlib
import json
import pathlib
import textwrap

import numpy as np
from absl import app, flags

from mpt_keras import figures
from mpt_keras.analysis import (
    dark_background,
    draw_churn,
    draw_inputs,
    draw_kernels,
)
from mpt_keras.analysis.tiles import tiled
from mpt_keras.experiments import lines, plots
from mpt_keras.experiments.groups import comparisons
from mpt_keras.experiments.plot_style import style_of

FLAGS = flags.FLAGS
flags.DEFINE_list("only", [], "Names of pictures; all by default.")
flags.DEFINE_string("output_dir", None, "By default, beside this program.")

HERE = pathlib.Path(__file__).parent
DATA = HERE / "data"
RESULTS = HERE.parent / "results"
# Inches, so that ten points can still be read on a telephone.
WIDTH = 4.3


def read(name):
    """A data file: arrays by name, or JSON."""
    path = DATA / name
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return dict(arrays)
    return json.loads(path.read_text())


def say(figure, sentence):
    """The headline of a picture is what it shows."""
    lines = len(textwrap.wrap(sentence, 40))
    # Of about the same length.
    width = min(
        width
        for width in range(12, 41)
        if len(textwrap.wrap(sentence, width)) <= lines
    )
    figures.headline(figure, textwrap.fill(sentence, width))


# --- What a ticket is -----------------------------------------------------


@figures.picture
def ticket():
    """One layer, from random weights to what is shipped."""
    found = read("layer.npz")
    weights, mask = found["weights"], found["mask"]
    signs = np.sign(weights) * mask
    theme = figures.theme()
    blue, orange, *_ = theme.colours
    figure = figures.new_figure(WIDTH, 5.9)
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
    figure = figures.new_figure(WIDTH, 5.0)
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
    return f"{size}, {bits:.2g} bits a weight"


# --- Masks ----------------------------------------------------------------


def filters():
    """The first kernel of Conv-4, by signs."""
    figure = draw_kernels({"conv1_1": read("filters.npz")["signs"] / 1.0})
    return _resized(
        figure,
        5.3,
        "64 random filters, half of their weights cut away",
    )


def inputs():
    """Where LeNet's first layer looks, epoch by epoch."""
    found = read("inputs.npz")
    rows, columns = found["shape"]
    masks = np.unpackbits(found["masks"]).astype(bool)
    masks = masks.reshape(-1, rows, columns)
    titles = [
        f"after epoch {epoch}" if epoch else "before training"
        for epoch in found["epochs"]
    ]
    figure = draw_inputs(dict(zip(titles, masks, strict=True)), (28, 28))
    return _resized(
        figure, 5.4, "The mask of the first layer learns where digits are"
    )


def churn():
    """The fraction of each layer's mask that each epoch changed."""
    found = read("churn.json")["churn"]
    return _resized(
        draw_churn(found),
        4.0,
        "Fewer and fewer weights change sides as the search cools down",
    )


@figures.picture
def _resized(figure, height, sentence):
    figure.set_size_inches(WIDTH, height)
    say(figure, sentence)
    return figure


@figures.picture
def bits():
    """Bits per weight of the mask, epoch by epoch."""
    rows = read("mask_bits.json")["rows"]
    blue, orange, *_ = figures.theme().colours
    figure = figures.new_figure(WIDTH, 4.0)
    say(
        figure,
        "Who knows where the search began needs a third of the bits",
    )
    axes = figure.add_subplot()
    columns = {
        "bound": ("entropy of the mask", figures.theme().quiet, "--", -13),
        "ticket": ("mask in the ticket", blue, "-", 9),
        "update": ("update only", orange, "-", 9),
    }
    for column, (label, colour, line, above) in columns.items():
        known = [
            (epoch, 8 * row[column] / row["weights"])
            for epoch, row in enumerate(rows, 1)
            if row.get(column)
        ]
        axes.plot(
            *zip(*known, strict=True),
            color=colour,
            linestyle=line,
            marker=None if line == "--" else "o",
        )
        axes.annotate(
            *(label, known[len(known) // 2]),
            xytext=(0, above),
            textcoords="offset points",
            ha="center",
            fontsize=9,
            color=figures.ink(colour),
        )
    axes.set(xlabel="Epoch", ylabel="Bits per weight", ylim=(0, None))
    axes.grid(axis="y")
    return figure


# --- Methods --------------------------------------------------------------


def pareto():
    """Accuracy against bytes of all methods, on scikit-learn's digits."""
    (found,) = comparisons(lines.read(RESULTS / "digits.jsonl"))
    figure = plots.pictures(found, WIDTH)["ticket_bytes"]()
    return _resized(
        figure,
        5.6,
        "For the same accuracy, a ticket takes a tenth of the bytes",
    )


def mnist():
    """Accuracy against bytes of some methods, on MNIST."""
    (found,) = comparisons(lines.read(RESULTS / "methods.jsonl"))
    figure = plots.pictures(found, WIDTH)["ticket_bytes"]()
    return _resized(
        figure, 5.2, "Weights that follow from a seed take no bytes"
    )


def winning():
    """Winning tickets of an ordinary network, beside their controls."""
    (found,) = comparisons(lines.read(RESULTS / "winning.jsonl"))
    figure = plots.pictures(found, WIDTH)["weights_kept"]()
    return _resized(
        figure,
        4.2,
        "Winning tickets beat the whole network; their controls fall behind",
    )


@figures.picture
def learning_curves():
    """Test accuracy of Conv-4, dense and as tickets, epoch by epoch."""
    found = lines.read(DATA / "learning_curves.jsonl")
    figure = figures.new_figure(WIDTH, 4.0)
    say(
        figure,
        "Half of a random network comes close to the trained one",
    )
    axes = figure.add_subplot()
    ends = []
    for number, line in enumerate(found):
        curve = [
            (epoch, value)
            for epoch, value in enumerate(line["test_accuracy_per_epoch"], 1)
            if value is not None
        ]
        looks = style_of(line["method"])
        pruned = line["sparsity"]
        looks["marker"] = figures.MARKERS[number]
        axes.plot(*zip(*curve, strict=True), **looks)
        label = f"{100 * pruned:.0f} % pruned" if pruned else "dense"
        ends.append((label, *curve[-1], looks["color"]))
    axes.set(xlabel="Epoch", ylabel="Test accuracy")
    axes.yaxis.set_major_formatter(figures.percents)
    axes.grid(axis="y")
    figures.label_ends(axes, ends)
    return figure


# --- Speed ----------------------------------------------------------------


@figures.picture
def engines():
    """Milliseconds for an image, of the runtime and of other engines."""
    rows = read("engines.json")["rows"]
    theme = figures.theme()
    networks = {
        "vgg_small:1/1:75": "VGG-Small, binary activations, 75 % pruned",
        "resnet18:1/1:75": "ResNet-18, binary activations, 75 % pruned",
        "conv4:1/32:80": "Conv-4, real activations, 80 % pruned",
    }
    names = {
        "TensorFlow": "TensorFlow",
        "LiteRT": "LiteRT",
        "LiteRT int8": "LiteRT, int8",
        "runtime avx512_popcnt": "mpt.runtime",
    }
    figure = figures.new_figure(WIDTH, 5.4)
    say(
        figure,
        "With binary activations, the runtime is 17 and 21 times as fast "
        "as TensorFlow",
    )
    panels = figure.subplots(len(networks), 1)
    for axes, (network, title) in zip(panels, networks.items(), strict=True):
        times = {
            name: row["ms"]
            for what, name in names.items()
            for row in rows
            if (row["network"], row["what"]) == (network, what)
        }
        ours = times["mpt.runtime"]
        axes.barh(
            [*times],
            [*times.values()],
            height=0.7,
            color=[
                theme.colours[0] if name == "mpt.runtime" else theme.quiet
                for name in times
            ],
        )
        for place, (name, ms) in enumerate(times.items()):
            ratio = "" if name == "mpt.runtime" else f"  ({ms / ours:.2g} x)"
            axes.annotate(
                *(f"{ms:.2g} ms{ratio}", (ms, place)),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
            )
        axes.invert_yaxis()
        axes.margins(x=0.35)
        axes.set_title(title, fontsize=9)
        axes.set(xticks=[])
        axes.spines[["bottom"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    return figure


@figures.picture
def scaling():
    """Milliseconds over the weights pruned, and over the width."""
    rows = read("scaling.json")["rows"]
    figure = figures.new_figure(WIDTH, 6.4)
    say(figure, "The fewer weights are kept, the sooner the answer")
    panels = figure.subplots(2, 1)
    theme = figures.theme()
    names = {
        "vgg_small:1/1": ("VGG-Small, binary", style_of("mpt_1_1")),
        "conv4:1/32": ("Conv-4, real", style_of("mpt_1_32")),
    }
    for axes, series in zip(panels, ("sparsity", "width"), strict=True):
        ends = []
        for network, (name, looks) in names.items():
            own = [
                row
                for row in rows
                if (row["what"], row["series"]) == (network, series)
            ]
            places = [row[series] for row in own]
            times = np.array([row["ms"] for row in own])
            kept = np.array([row["weights kept"] for row in own])
            most = kept.argmax()
            axes.plot(
                places,
                times[most] * kept / kept[most],
                color=looks["color"],
                linestyle=":",
                linewidth=1,
            )
            axes.plot(places, times, **looks)
            ends.append((name, places[-1], times[-1], looks["color"]))
        axes.set(ylabel="ms, one image", ylim=(0, None))
        axes.grid(axis="y")
        figures.label_ends(axes, ends)
    panels[0].xaxis.set_major_formatter(figures.percents)
    panels[0].set(xlabel="Weights pruned")
    panels[1].set(xlabel="Width, 75 % pruned")
    panels[0].plot(
        [], [], ":", color=theme.quiet, label="in proportion to weights kept"
    )
    panels[0].legend(loc="lower left")
    return figure


PICTURES = {
    picture.__name__: picture
    for picture in (
        *(ticket, size, filters, inputs, churn, bits),
        *(pareto, mnist, learning_curves, winning, engines, scaling),
    )
}
# Pictures that other pages show, where only one background is known.
PAGES = {
    "lottery_ticket": winning,
    "ticket_accuracy": mnist,
    "ticket_size": bits,
    "runtime": scaling,
}
THEMES = {"light": contextlib.nullcontext, "dark": dark_background}


def main(_):
    unknown = set(FLAGS.only) - PICTURES.keys()
    if unknown:
        raise app.UsageError(
            f"No picture {', '.join(sorted(unknown))}. Expected any of "
            f"{', '.join(PICTURES)}."
        )
    folder = pathlib.Path(FLAGS.output_dir or HERE)
    folder.mkdir(parents=True, exist_ok=True)
    for name in FLAGS.only or PICTURES:
        for theme, drawing in THEMES.items():
            with drawing():
                figure = PICTURES[name]()
            path = folder / f"{name}.{theme}.svg"
            figures.save(figure, path, transparent=True)
            print(path)
    for name, picture in PAGES.items():
        if not FLAGS.output_dir and not FLAGS.only:
            figures.save(picture(), HERE.parent / f"{name}.png")


if __name__ == "__main__":
    app.run(main)
