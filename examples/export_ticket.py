"""A ticket for every engine that is installed, checked, weighed and timed.

    python examples/export_ticket.py
    python examples/export_ticket.py --ticket=runs/.../ticket.keras

Without a ticket, the quickstart's first one is searched on scikit-learn's
digits. The exports stand in `--output_dir`; an engine that is not installed
(`pip install "mpt_keras[engines]"`) is left out, with the reason.
"""

import pathlib

import command
import keras
import quickstart
from absl import flags
from command import RunError

import mpt_keras as mpt
from mpt_keras.engines import saved_model
from mpt_keras.experiments import tables
from mpt_keras.experiments.data import read
from mpt_keras.experiments.place import Place

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "ticket", None, "A .keras file (masked or frozen) or a ticket file."
)
flags.DEFINE_string("exports_dir", "exports", "Folder for the exports.")
flags.DEFINE_integer("threads", 1, "Of each engine.", lower_bound=1)
flags.DEFINE_integer("rounds", 50, "How often each is timed.", lower_bound=1)
flags.DEFINE_bool("layers", False, "Say of each layer how it is stored.")


def found_ticket():
    """Twenty epochs of the quickstart's first network."""
    data = read("digits", Place())
    network = quickstart.binary_weights(FLAGS.sparsity)
    network.compile(
        keras.optimizers.Adam(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    images = (data.train_images - data.mean) / data.std
    network.fit(
        images,
        data.train_labels,
        batch_size=FLAGS.batch_size,
        epochs=FLAGS.epochs or 20,
        verbose=0,
    )
    return network


def load(path):
    if not pathlib.Path(path).exists():
        raise RunError(f"no file '{path}' (--ticket).")
    if path.endswith(".keras"):
        return keras.models.load_model(path, compile=False)
    return mpt.load_ticket(path)


def main(_):
    if not saved_model.limit_threads(FLAGS.threads):
        print("TensorFlow began with another number of threads.")
    model = load(FLAGS.ticket) if FLAGS.ticket else found_ticket()
    folder = pathlib.Path(FLAGS.exports_dir)
    folder.mkdir(parents=True, exist_ok=True)
    found = mpt.engines.benchmark(
        model, folder, threads=FLAGS.threads, rounds=FLAGS.rounds
    )
    for variant in found.variants:
        if FLAGS.layers and variant.report:
            print(variant.report, end="\n\n")
    print(f"One example at a time, threads: {found.threads}, {found.processor}")
    tables.print_table(found.table())
    for label, reason in found.left_out.items():
        print(f"{label}: {reason}")


if __name__ == "__main__":
    command.run(main)
