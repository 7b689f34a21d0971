"""Two lottery tickets on handwritten digits, in under a minute.

The digits are those that scikit-learn brings along, so nothing is downloaded:

    python examples/quickstart.py

First a ticket with binary weights, then one with binary weights and
activations. Neither trains a weight: both are sub-networks of a random
network. Each is left as a file of a few kB, and as a SavedModel, which
`examples/serve_savedmodel.py` serves.
"""

import os
import pathlib
import sys

os.environ.setdefault(
    "TF_CPP_MIN_LOG_LEVEL", "3"
)  # TensorFlow's start-up notes

import keras
import numpy as np
import sklearn.datasets
from absl import app, flags

import mpt_keras as mpt

FLAGS = flags.FLAGS

flags.DEFINE_integer("epochs", 20, "Epochs of training.", lower_bound=1)
flags.DEFINE_float("sparsity", 0.5, "Fraction of weights pruned, in [0, 1).")
flags.DEFINE_string("output_dir", "quickstart", "Folder for the tickets.")


def digits():
    """1,797 images of 8x8 pixels, values 0 to 16; a fifth is held out."""
    bunch = sklearn.datasets.load_digits()
    images = bunch.images[..., None].astype("uint8")
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = images[order], bunch.target[order]
    return images[:1437], labels[:1437], images[1437:], labels[1437:]


def binary_weights(sparsity):
    """Random binary weights, real activations: no batch norm needed."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1), dtype="uint8"),
            keras.layers.Rescaling(1 / 8, offset=-1),
            mpt.MPTConv2D(32, 3, activation="relu", sparsity=sparsity),
            mpt.MPTConv2D(64, 3, activation="relu", sparsity=sparsity),
            keras.layers.Flatten(),
            mpt.MPTDense(128, activation="relu", sparsity=sparsity),
            mpt.MPTDense(10, sparsity=sparsity),
        ],
        name="binary_weights",
    )


def binary_weights_and_activations(sparsity):
    """The image and the scores stay real, all between is +-1."""
    binary = {"sparsity": sparsity, "input_quantizer": "approx_sign"}
    return keras.Sequential(
        [
            keras.Input((8, 8, 1), dtype="uint8"),
            keras.layers.Rescaling(1 / 8, offset=-1),
            mpt.MPTConv2D(32, 3, sparsity=sparsity),
            keras.layers.BatchNormalization(center=False, scale=False),
            mpt.MPTConv2D(64, 3, **binary),
            keras.layers.BatchNormalization(center=False, scale=False),
            keras.layers.Flatten(),
            mpt.MPTDense(128, **binary),
            keras.layers.BatchNormalization(center=False, scale=False),
            mpt.MPTDense(10, **binary),
        ],
        name="binary_weights_and_activations",
    )


def search(network, images, labels, epochs):
    """Trains the scores: which weights stay. The weights stay as they are."""
    steps = epochs * -(-len(images) // 32)
    network.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(1e-2, steps)
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    network.fit(images, labels, batch_size=32, epochs=epochs, verbose=0)


def ship(network, folder):
    """Leaves a small file, an ordinary Keras model, and a SavedModel of it."""
    folder.mkdir(parents=True, exist_ok=True)
    mpt.save_ticket(network, folder / "network.ticket")
    ticket = mpt.freeze(network)  # Conv2D, Dense, ... holding {-a, 0, +a}
    ticket.save(folder / "ticket.keras")
    # Reloaded, and compared with the network before it is kept.
    mpt.export(network, folder / "saved_model", format="saved_model")


def main(_):
    keras.utils.set_random_seed(0)
    train_images, train_labels, test_images, test_labels = digits()
    for build in (binary_weights, binary_weights_and_activations):
        network = build(FLAGS.sparsity)
        search(network, train_images, train_labels, FLAGS.epochs)
        _, accuracy = network.evaluate(test_images, test_labels, verbose=0)
        folder = pathlib.Path(FLAGS.output_dir) / network.name
        ship(network, folder)
        kept = sum(
            int(layer.mask().sum()) for layer in mpt.masked_layers(network)
        )
        print(
            f"{network.name}: test accuracy {accuracy:.2%}, {kept:,} weights, "
            f"{(folder / 'network.ticket').stat().st_size:,} bytes"
        )
    print(
        f"Serve one: {sys.executable} examples/serve_savedmodel.py "
        f"--saved_model={folder / 'saved_model'}"
    )


if __name__ == "__main__":
    app.run(main)
