"""Two lottery tickets on handwritten digits, in under a minute.

The digits are those that scikit-learn brings along, so nothing is downloaded:

    python examples/quickstart.py

First a ticket with binary weights, then one with binary weights and
activations. Neither trains a weight: both are sub-networks of a random
network. Each is frozen to an ordinary Keras model and exported as a
SavedModel, which `examples/serve_savedmodel.py` serves.
"""

import sys

import command
import experiment
import keras
import run_folder
import sparsity_flag
from absl import flags

import mpt_keras as mpt
from mpt_keras.experiments.data import read
from mpt_keras.experiments.place import Place

FLAGS = flags.FLAGS

flags.adopt_module_key_flags(sparsity_flag)
flags.DEFINE_integer("batch_size", 32, "Images per step, over all devices.")
flags.register_validator(
    "batch_size", lambda value: value > 0, "Expected a positive number."
)


def binary_weights(sparsity):
    """Random binary weights, real activations: no batch norm needed."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
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
            keras.Input((8, 8, 1)),
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


def main(_):
    recipe = experiment.Recipe(
        epochs=FLAGS.epochs or 20,
        batch_size=FLAGS.batch_size,
        schedule="cosine",
    )
    devices = experiment.start(recipe)
    data = read("digits", Place())
    folder = run_folder.open_run_folder("quickstart", devices)
    for build in (binary_weights, binary_weights_and_activations):
        with devices.scope():
            network = build(FLAGS.sparsity)
        own_folder = folder / network.name
        own_folder.mkdir(exist_ok=True)
        result = experiment.train(
            network, data, recipe, own_folder, devices, verbose=0
        )
        if devices.writes_files:
            experiment.report(result)
    if devices.writes_files and result["saved_model"]:
        print(
            f"Serve one: {sys.executable} examples/serve_savedmodel.py "
            f"--saved_model={result['saved_model']}"
        )


if __name__ == "__main__":
    command.run(main)
