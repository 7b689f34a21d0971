"""One run of a small network with batch norms, for test_distribution.

Every worker leaves `worker<i>.npz` in the run's folder: the value of every
variable in each of its replicas, and its masks.
"""

import argparse
import pathlib
import sys

import keras
import numpy as np

import mpt_keras as mpt
from mpt_keras.experiments import preparation, restart, shipping, training
from mpt_keras.experiments.errors import RunError, WorkerLost
from mpt_keras.experiments.place import Place
from mpt_keras.experiments.search import Search


def read_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--output_dir", type=pathlib.Path)
    parser.add_argument("--resume", action="store_true")  # there is no other
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--validation", type=float, default=0.0)
    parser.add_argument("--drop_remainder", action="store_true", default=None)
    parser.add_argument("--global_sparsity", action="store_true")
    parser.add_argument("--distribute", default="none")
    parser.add_argument("--cpu_devices", type=int)
    parser.add_argument("--worker_timeout", type=float, default=600.0)
    return parser.parse_args()


def small_network():
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


def main(arguments):
    folder = arguments.output_dir
    search = Search(
        dataset="digits",
        epochs=arguments.epochs,
        batch_size=128,
        optimizer="sgd",
        learning_rate=0.1,
        schedule="cosine",
        augment=True,
        validation=arguments.validation,
        drop_remainder=arguments.drop_remainder,
    )
    place = Place(
        distribute=arguments.distribute,
        cpu_devices=arguments.cpu_devices,
        worker_timeout=arguments.worker_timeout,
        verbose="0",
    )
    callbacks = []
    if arguments.global_sparsity:
        ramp = mpt.schedules.Polynomial(0.5, 0.6, end=2)
        callbacks.append(mpt.callbacks.GlobalSparsity(schedule=ramp))
    settings = search.followed().settings
    with (
        preparation.prepared(settings, place, folder) as prepared,
        prepared.devices.together(),
    ):
        devices = prepared.devices
        if devices.writes_files:
            folder.mkdir(parents=True, exist_ok=True)
        with devices.scope():
            small = small_network()
        trained = training.train(small, prepared, folder, callbacks)
        if devices.writes_files:
            model = keras.models.load_model(folder / "last.keras")
            shipping.ship(model, prepared, folder)
            trained.backup.remove()
        np.savez(folder / f"worker{devices.index}.npz", **found(small, devices))


def found(network, devices):
    """Name -> value, of all variables in each replica and of all masks."""
    values = {}
    for variable in network.variables:
        local = [variable.value]
        if devices.strategy is not None:
            local = devices.strategy.experimental_local_results(local[0])
        for replica, value in enumerate(local):
            value = keras.ops.convert_to_numpy(value)
            values[f"{variable.path} of {replica}"] = value
    for layer in mpt.masked_layers(network):
        mask = keras.ops.convert_to_numpy(layer.mask())
        values[f"mask of {layer.name}"] = mask
    return values


if __name__ == "__main__":
    try:
        main(read_arguments())
    except WorkerLost as error:
        print(error, file=sys.stderr)
        restart.start_again()
    except RunError as error:
        sys.exit(str(error))
