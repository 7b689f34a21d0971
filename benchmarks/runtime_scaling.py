"""Does the runtime's time fall with the weights that are left?

    python benchmarks/runtime_scaling.py --rounds=50 --plot=docs/runtime.png

One image, one thread, every ticket in turn: first sparser and sparser ones,
then wider and wider ones. The lines drawn beside the times are in proportion
to the weights kept.
"""

import pathlib
import statistics
import tempfile

import harness
import keras
import networks
import numpy as np
from absl import app, flags

import mpt_keras as mpt
from mpt_keras.runtime import load

FLAGS = flags.FLAGS
flags.DEFINE_list(
    "networks", ["vgg_small:1/1", "conv4:1/32"], "Tickets, NETWORK:BITS."
)
flags.DEFINE_list(
    "percents",
    ["0", "25", "50", "75", "90", "95", "98", "99"],
    "Percent pruned, at width 1.",
)
flags.DEFINE_list("widths", ["0.25", "0.5", "1", "1.5", "2"], "Widths.")
flags.DEFINE_string(
    "percent", "75", "Percent pruned of the networks of widths."
)
flags.DEFINE_string("plot", None, "File for the picture.")


def settings():
    """(network, percent pruned, width, which of the two series)."""
    for network in FLAGS.networks:
        for percent in FLAGS.percents:
            yield network, percent, 1.0, "sparsity"
        for width in FLAGS.widths:
            yield network, FLAGS.percent, float(width), "width"


def prepared(network, percent, width):
    """A network that runs, and how many weights it keeps."""
    model = networks.ticket(f"{network}:{percent}", width)
    frozen = mpt.freeze(model) if mpt.masked_layers(model) else model
    kept = sum(
        np.count_nonzero(array)
        for array in frozen.get_weights()
        if array.ndim > 1
    )
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "network.ticket"
        mpt.save_ticket(model, path)
        return load(path), kept


def draw(rows):
    from mpt_keras import figures

    figure = figures.new_figure(9, 4)
    left, right = figure.subplots(1, 2)
    for axes, series in ((left, "sparsity"), (right, "width")):
        for network, colour, marker in zip(
            FLAGS.networks, figures.COLOURS, figures.MARKERS, strict=False
        ):
            found = [
                row
                for row in rows
                if (row["what"], row["series"]) == (network, series)
            ]
            places = [row[series] for row in found]
            times = [row["ms"] for row in found]
            kept = np.array([row["weights kept"] for row in found])
            axes.plot(places, times, color=colour, marker=marker, label=network)
            largest = kept.argmax()
            axes.plot(
                places,
                times[largest] * kept / kept[largest],
                color=colour,
                linestyle="--",
            )
        axes.set(xlabel=series, ylim=(0, None))
    left.xaxis.set_major_formatter(figures.percents)
    left.set(ylabel="ms, one image")
    right.set(xlabel=f"width, {FLAGS.percent} % pruned")
    left.plot([], [], "k--", label="in proportion to the weights kept")
    left.legend()
    figure.savefig(FLAGS.plot, dpi=150)


def main(_):
    found, kept = {}, {}
    for setting in settings():
        found[setting], kept[setting] = prepared(*setting[:3])
        keras.backend.clear_session()
    shape = next(iter(found.values())).input_shape
    image = np.random.default_rng(0).standard_normal((1, *shape), "float32")
    times = harness.in_turn(
        {
            str(number): lambda network=network: network(image)
            for number, network in enumerate(found.values())
        }
    )
    rows = []
    for setting, ms in zip(found, times.values(), strict=True):
        network, percent, width, series = setting
        median = statistics.median(ms)
        rows.append(
            {
                "what": network,
                "series": series,
                "sparsity": float(percent) / 100,
                "width": width,
                "weights kept": kept[setting],
                "ms": median,
                "ns per weight kept": 1e6 * median / kept[setting],
            }
        )
    if FLAGS.plot:
        draw(rows)
    level = next(iter(found.values())).level
    harness.report(f"One image, one thread, runtime {level}", rows)


if __name__ == "__main__":
    app.run(main)
