"""One run of a small network with batch norms, for test_distribution.

Every worker leaves `worker<i>.npz` in the run's folder: the value of every
variable in each of its replicas, and its masks.
"""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parents[1] / "examples"))

import command
import experiment
import keras
import numpy as np
import quickstart
import run_folder
from absl import flags

import mpt_keras as mpt

FLAGS = flags.FLAGS

flags.DEFINE_bool("global_sparsity", False, "One threshold over all layers.")


def network():
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            mpt.MPTConv2D(8, 3, binarize=False, seed=1),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.Activation("tanh"),
            mpt.MPTConv2D(16, 3, strides=2, binarize=False, seed=2),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.Activation("tanh"),
            keras.layers.Flatten(),
            mpt.MPTDense(10, seed=3, scores_regularizer="l2"),
        ],
        name="small",
    )


def main(_):
    recipe = experiment.Recipe(
        epochs=FLAGS.epochs,
        batch_size=FLAGS.batch_size,
        optimizer="sgd",
        learning_rate=0.1,
        schedule="cosine",
        augment=True,
    )
    devices = experiment.start(recipe)
    with devices.scope():
        small = network()
    folder = run_folder.open_run_folder("distributed", devices)
    callbacks = []
    if FLAGS.global_sparsity:
        ramp = mpt.schedules.Polynomial(0.5, 0.6, end=2)
        callbacks.append(mpt.callbacks.GlobalSparsity(schedule=ramp))
    experiment.train(
        small, quickstart.digits(), recipe, folder, devices, callbacks
    )
    values = {}
    for variable in small.variables:
        local = [variable.value]
        if devices.strategy is not None:
            local = devices.strategy.experimental_local_results(local[0])
        for replica, value in enumerate(local):
            value = keras.ops.convert_to_numpy(value)
            values[f"{variable.path} of {replica}"] = value
    for layer in mpt.masked_layers(small):
        mask = keras.ops.convert_to_numpy(layer.mask())
        values[f"mask of {layer.name}"] = mask
    np.savez(folder / f"worker{devices.index}.npz", **values)


if __name__ == "__main__":
    command.run(main)
