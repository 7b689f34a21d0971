"""How accurate tickets are, beside their bytes, epochs and weights."""

from gallery_style import DATA, RESULTS, WIDTH, resized, say

from mpt_keras import figure_words, figures
from mpt_keras.experiments import lines, plots
from mpt_keras.experiments.groups import comparisons
from mpt_keras.experiments.plot_style import style_of


def pareto():
    """Accuracy against bytes of all methods, on scikit-learn's digits."""
    figure = _accuracy_against("ticket_bytes", DATA / "digits.jsonl")
    return resized(
        figure,
        5.6,
        "Tickets of random weights are as accurate, in a tenth of the bytes",
    )


def mnist():
    """Accuracy against bytes of some methods, on MNIST."""
    figure = _accuracy_against("ticket_bytes", RESULTS / "methods.jsonl")
    return resized(figure, 5.2, "Weights that follow from a seed take no bytes")


def winning():
    """Winning tickets of an ordinary network, beside their controls."""
    figure = _accuracy_against("weights_kept", RESULTS / "winning.jsonl")
    return resized(
        figure,
        4.2,
        "Winning tickets beat the whole network; their controls fall behind",
    )


def _accuracy_against(name, path):
    """A picture of a report, of the only comparison in a file of lines."""
    (found,) = comparisons(lines.read(path))
    return plots.pictures(found, WIDTH)[name]()


@figures.picture
def learning_curves():
    """Test accuracy of Conv-4, dense and as tickets, epoch by epoch."""
    found = lines.read(RESULTS / "long.jsonl")
    figure = figures.new_figure(WIDTH, 4.0)
    say(
        figure,
        "Half of a random network meets the trained one",
    )
    axes = figure.add_subplot()
    ends = []
    for number, line in enumerate(found):
        curve = [*enumerate(line["test_accuracy_per_epoch"], 1)]
        looks = style_of(line["method"])
        pruned = line["sparsity"]
        looks |= {"marker": figures.MARKERS[number], "markevery": 5}
        axes.plot(*zip(*curve, strict=True), **looks)
        label = f"{100 * pruned:.0f} % pruned" if pruned else "dense"
        ends.append((label, *curve[-1], looks["color"]))
    axes.set(xlabel="Epoch", ylabel="Test accuracy")
    axes.yaxis.set_major_formatter(figure_words.percents)
    axes.grid(axis="y")
    figure_words.label_ends(axes, ends)
    return figure
