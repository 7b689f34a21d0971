"""Does the runtime's time fall with the weights that are left?

    python benchmarks/runtime_scaling.py --rounds=50

One image, one thread, every ticket in turn: first sparser and sparser ones,
then wider and wider ones. `--json=docs/pictures/data/scaling.json` is what
`docs/pictures/draw.py` draws, beside times in proportion to the weights kept.
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
        int(np.count_nonzero(array))
        for array in frozen.get_weights()
        if array.ndim > 1
    )
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "network.ticket"
        mpt.save_ticket(model, path)
        return load(path), kept


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
    level = next(iter(found.values())).level
    harness.report(f"One image, one thread, runtime {level}", rows)


if __name__ == "__main__":
    app.run(main)
