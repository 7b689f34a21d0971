"""What masks look like, how they change and what they cost."""

import numpy as np
from gallery_style import WIDTH, read, resized, say

from mpt_keras import figure_words, figures
from mpt_keras.analysis import draw_churn, draw_inputs, draw_kernels


def filters():
    """The first kernel of Conv-4, by signs."""
    figure = draw_kernels({"conv1_1": read("filters.npz")["signs"] / 1.0})
    return resized(
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
    return resized(
        figure, 5.4, "The mask of the first layer learns where digits are"
    )


def churn():
    """The fraction of each layer's mask that each epoch changed."""
    found = read("churn.json")["churn"]
    return resized(
        draw_churn(found),
        4.0,
        "Fewer and fewer weights change sides as the search cools down",
    )


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
            color=figure_words.ink(colour),
        )
    axes.set(xlabel="Epoch", ylabel="Bits per weight", ylim=(0, None))
    axes.grid(axis="y")
    return figure
