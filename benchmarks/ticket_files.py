"""How long do saving and loading a ticket take, and how much memory?

    python benchmarks/ticket_files.py --network=resnet18
    python benchmarks/ticket_files.py --file=run/last.keras

The scores of a network are moved as by a search, and those of a file are as
they were found. Memory is the most that NumPy and Python hold at one moment
beyond what there was before, in units of the float32 kernels; what a loaded
model itself holds (kernels and scores) is TensorFlow's and not in it.
"""

import pathlib
import statistics
import tempfile
import tracemalloc

import harness
import keras
import networks
from absl import app, flags

import mpt_keras as mpt
from mpt_keras.layers.traversal import masked_kernels

FLAGS = flags.FLAGS
flags.DEFINE_enum("network", "conv4", networks.NAMES, "Network.")
flags.DEFINE_string("file", None, "A model (.keras) instead.")


def most_held(work):
    tracemalloc.start()
    work()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def main(_):
    if FLAGS.file:
        model = keras.models.load_model(FLAGS.file, compile=False)
    else:
        model = networks.searched(networks.build(FLAGS.network, masked=True))
    kernels = 4 * sum(masked.size for masked in masked_kernels(model).values())
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "network.ticket"
        frozen = pathlib.Path(folder) / "frozen.keras"
        mpt.freeze(model).save(frozen)
        work = {
            "save_ticket": lambda: mpt.save_ticket(model, path),
            "read_ticket": lambda: mpt.ticket.read_ticket(path),
            "load_ticket": lambda: mpt.load_ticket(path),
        }
        times = harness.in_turn(work)
        rows = [
            {
                "what": name,
                "ms": statistics.median(times[name]),
                "held, in kernels": most_held(function) / kernels,
            }
            for name, function in work.items()
        ]
        ticket, dense = path.stat().st_size, frozen.stat().st_size
    harness.report(
        f"Tickets of '{model.name}': {ticket:,} bytes, frozen as .keras "
        f"{dense:,}, {dense / ticket:.0f} times as many",
        rows,
    )


if __name__ == "__main__":
    app.run(main)
