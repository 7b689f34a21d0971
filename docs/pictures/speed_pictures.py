"""How fast tickets answer."""

import numpy as np
from gallery_style import WIDTH, read, say

from mpt_keras import figure_words, figures
from mpt_keras.experiments.plot_style import style_of


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
        figure_words.label_ends(axes, ends)
    panels[0].xaxis.set_major_formatter(figure_words.percents)
    panels[0].set(xlabel="Weights pruned")
    panels[1].set(xlabel="Width, 75 % pruned")
    panels[0].plot(
        [], [], ":", color=theme.quiet, label="in proportion to weights kept"
    )
    panels[0].legend(loc="lower left")
    return figure
