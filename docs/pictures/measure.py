"""Measures what pictures of the gallery show of trained masks.

    python docs/pictures/measure.py layer
    python docs/pictures/measure.py inputs --files=1.keras,4.keras,10.keras
    python docs/pictures/measure.py churn --files=1.keras,2.keras,...

`layer` trains a network on scikit-learn's digits, in seconds, and keeps its
first layer. The others read models of LeNet-300-100 and of Conv-4, copies of a
run's `last.keras` that are called as the epoch after which they were made;
`--run` is the command that trained them. Into `data/`, beside this program,
goes no more than what is drawn, with the command that found it.
"""

import json
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import sklearn.datasets
from absl import app, flags

import mpt_keras as mpt

FLAGS = flags.FLAGS
flags.DEFINE_list("files", [], "Models, EPOCH.keras each.")
flags.DEFINE_string("run", None, "The command that trained them.")
flags.DEFINE_integer("epochs", 20, "Of the training of `layer`.")

DATA = pathlib.Path(__file__).parent / "data"


def layer():
    """Weights, scores and mask of sixteen filters that found digits."""
    bunch = sklearn.datasets.load_digits()
    images = bunch.images[..., None].astype("float32") / 8 - 1
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = images[order], bunch.target[order]
    keras.utils.set_random_seed(0)
    first = mpt.MPTConv2D(16, 3, activation="relu", sparsity=0.5, seed=0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            first,
            mpt.MPTConv2D(64, 3, activation="relu", sparsity=0.5, seed=1),
            keras.layers.Flatten(),
            mpt.MPTDense(128, activation="relu", sparsity=0.5, seed=2),
            mpt.MPTDense(10, sparsity=0.5, seed=3),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(images[:1437], labels[:1437], epochs=FLAGS.epochs, verbose=0)
    _, accuracy = model.evaluate(images[1437:], labels[1437:], verbose=0)
    (masked,) = first.masked_kernels
    write(
        "layer",
        "python docs/pictures/measure.py layer",
        weights=array(masked.kernel),
        scores=array(masked.scores),
        mask=array(masked.mask()),
        gain=np.float32(first.gain()),
        accuracy=np.float32(accuracy),
    )
    print(f"Test accuracy {accuracy:.2%}")


def inputs():
    """How many weights of each pixel the first mask of LeNet keeps."""
    models = [start(FLAGS.files[0]), *map(load, FLAGS.files)]
    masks = [mpt.analysis.masks_of(model)["dense1"] for model in models]
    write(
        "inputs",
        FLAGS.run,
        epochs=np.array([0, *(int(pathlib.Path(p).stem) for p in FLAGS.files)]),
        shape=np.array(masks[0].shape),
        masks=np.packbits(masks),
    )


def churn():
    """Layer by layer, what each epoch changed; and the first filters."""
    models = [start(FLAGS.files[0]), *map(load, FLAGS.files)]
    found = mpt.analysis.mask_churn([*map(mpt.analysis.masks_of, models)])
    with (DATA / "churn.json").open("w") as file:
        rounded = {
            name: [round(value, 6) for value in values]
            for name, values in found.items()
        }
        json.dump({"command": FLAGS.run, "churn": rounded}, file, indent=1)
        file.write("\n")
    first = mpt.masked_layers(models[-1])[0]
    (masked,) = first.masked_kernels
    signs = np.sign(array(masked.kernel)) * array(masked.mask())
    write("filters", FLAGS.run, signs=signs.astype("int8"))


def load(path):
    return keras.models.load_model(path, compile=False)


def start(path):
    """The network of a file as it was before training, drawn from its seeds."""
    trained = load(path)
    model = keras.models.clone_model(trained)
    for before, after in zip(
        mpt.masked_layers(model), mpt.masked_layers(trained), strict=True
    ):
        if not np.array_equal(array(before.kernel), array(after.kernel)):
            raise ValueError(f"'{path}': its kernels follow from no seed.")
    return model


def array(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def write(name, command, **arrays):
    np.savez_compressed(DATA / f"{name}.npz", command=command, **arrays)


def main(arguments):
    for name in arguments[1:]:
        {"layer": layer, "inputs": inputs, "churn": churn}[name]()


if __name__ == "__main__":
    app.run(main)
