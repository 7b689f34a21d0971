"""What is a ticket in each engine: how large, how far off, how fast?

    python benchmarks/engines.py --network=conv4
    python benchmarks/engines.py --network=vgg_small --binary_activations

One image at a time, every engine with `--threads`, in turn. An engine that is
not installed is left out; Larq Compute Engine needs an environment of its own.
"""

import tempfile

import harness
import keras
import numpy as np
from absl import app, flags, logging

import mpt_keras as mpt
from mpt_keras.engines import saved_model

FLAGS = flags.FLAGS
flags.DEFINE_enum(
    "network", "conv4", ["conv2", "conv4", "vgg_small", "resnet18"], "Network."
)
flags.DEFINE_bool("binary_activations", False, "Sign instead of ReLU.")
flags.DEFINE_float("width", 1.0, "Multiplier of every layer's width.")
flags.DEFINE_float("sparsity", 0.5, "Fraction pruned.")
flags.DEFINE_integer("threads", 1, "Of each engine.", lower_bound=1)


def network():
    """Untrained, but with batch norms that have seen a batch."""
    model = getattr(mpt.models, FLAGS.network)(
        sparsity=FLAGS.sparsity,
        binary_activations=FLAGS.binary_activations,
        width=FLAGS.width,
        seed=0,
    )
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    images = np.random.default_rng(0).standard_normal(
        (32, *model.input_shape[1:]), "float32"
    )
    model(images, training=True)
    return model


def main(_):
    logging.set_verbosity(logging.WARNING)  # TensorFlow tells what it writes
    if not saved_model.limit_threads(FLAGS.threads):
        print("TensorFlow began with another number of threads.")
    with tempfile.TemporaryDirectory() as folder:
        found = mpt.engines.benchmark(
            network(), folder, threads=FLAGS.threads, rounds=FLAGS.rounds
        )
    names, *rows = found.table()
    harness.report(
        f"Exports, {FLAGS.network}, one image, threads: {FLAGS.threads}",
        [dict(zip(("what", *names[1:]), row, strict=True)) for row in rows],
    )
    for label, reason in found.left_out.items():
        print(f"without {label}: {reason}")


if __name__ == "__main__":
    app.run(main)
