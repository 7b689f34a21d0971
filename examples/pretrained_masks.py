"""Masks over trained weights: other tasks for a network, a mask for each.

    python examples/pretrained_masks.py

trains a network on the digits 0 to 4 of scikit-learn, and freezes its weights.
For 5 to 9 it searches masks over them (`mpt.convert(model, kernel="keep")`)
and trains a new head; what the network did before is the task that prunes
nothing. Beside it stand masks over random weights, a new head alone, and all
weights trained on. A task is a ticket against the network that all share.

    python examples/pretrained_masks.py --dataset=mnist --images=mnist.npz \\
        --other_images=fashion_mnist.npz

does it from MNIST to other images of its size; without `--other_images` from
its first five classes to the others.
"""

import os
import pathlib

# What TensorFlow says of itself would bury the results.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from absl import app, flags

import mpt_keras as mpt
from mpt_keras.experiments import Place
from mpt_keras.experiments.command import in_one_line
from mpt_keras.experiments.data import read as read_images
from mpt_keras.experiments.flags import define, read
from mpt_keras.experiments.tables import print_table

FLAGS = flags.FLAGS

flags.DEFINE_enum(
    "dataset", "digits", ["digits", "mnist", "cifar10"], "The images."
)
flags.DEFINE_multi_string(
    "other_images",
    [],
    "Plain file, as for --images, of a task whose images have the same size; "
    "or several. By default the task is half of the classes.",
)
flags.DEFINE_integer("width", 32, "Filters of the first layer.", lower_bound=1)
flags.DEFINE_float("sparsity", 0.3, "Fraction of weights pruned, in [0, 1).")
flags.DEFINE_integer("epochs", 20, "Of each training.", lower_bound=1)
flags.DEFINE_integer("batch_size", 64, "Images per step.", lower_bound=1)
flags.DEFINE_integer(
    "train_images", None, "Of each other task; all by default.", lower_bound=1
)
flags.DEFINE_float("learning_rate", 3e-3, "Of Adam at first, for weights.")
flags.DEFINE_float("scores_learning_rate", 3e-3, "Likewise, beside masks.")
flags.DEFINE_integer("seed", 0, "Of everything.", lower_bound=0)
flags.DEFINE_string("output_dir", "pretrained_masks", "Folder for tickets.")
define(
    (Place,),
    without=(
        *("distribute", "tpu", "worker_timeout", "cpu_devices"),
        *("deterministic", "evaluation_batch", "verbose"),
    ),
)

_HEAD = "logits"
_MASKS = {
    "keep": "masks over its weights",
    "random": "masks over random weights",
}
_WEIGHTS = {"head": "a new head alone", "all": "all weights"}


def read_tasks():
    """The number of classes of a task; name -> `(train, test)`.

    Each is images and labels. The network is trained on the first task.
    """
    data = read_images(FLAGS.dataset, read(Place))
    if FLAGS.other_images:
        found = {FLAGS.dataset: splits(data)}
        for path in FLAGS.other_images:
            name = pathlib.Path(path).stem
            if name in found:
                raise ValueError(
                    f"Two tasks would be called '{name}'. Expected files of "
                    f"other names. Received: other_images={path}"
                )
            other = read_images(FLAGS.dataset, Place(images=path))
            found[name] = splits(other)
        return data.classes, found
    half = data.classes // 2
    return half, {
        f"from-{first}-to-{first + half - 1}": [
            chosen(*split, first, half) for split in splits(data)
        ]
        for first in (0, half)
    }


def splits(data):
    return (
        (data.train_images, data.train_labels),
        (data.test_images, data.test_labels),
    )


def chosen(images, labels, first, count):
    there = (labels >= first) & (labels < first + count)
    return images[there], labels[there] - first


def network(images, classes):
    """An ordinary convolutional network, from images (uint8) to logits."""
    width = FLAGS.width
    return keras.Sequential(
        [
            keras.Input(images.shape[1:], dtype="uint8"),
            keras.layers.Rescaling(1 / images.max()),
            keras.layers.Conv2D(width, 3, padding="same", activation="relu"),
            keras.layers.Conv2D(
                2 * width, 3, padding="same", activation="relu"
            ),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(
                2 * width, 3, padding="same", activation="relu"
            ),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(4 * width, activation="relu"),
            keras.layers.Dense(classes, name=_HEAD),
        ],
        name="network",
    )


def train(model, images, labels, learning_rate):
    steps = FLAGS.epochs * -(-len(labels) // FLAGS.batch_size)
    model.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(learning_rate, steps)
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(
        *(images, labels),
        batch_size=FLAGS.batch_size,
        epochs=FLAGS.epochs,
        verbose=0,
    )


def accuracy(model, images, labels):
    logits = [
        keras.ops.convert_to_numpy(model(images[first : first + 500]))
        for first in range(0, len(images), 500)
    ]
    return np.mean(np.concatenate(logits).argmax(-1) == labels)


def with_new_head(model):
    """The same model, whose last layer begins anew."""
    head = model.get_layer(_HEAD)
    head.kernel.assign(keras.initializers.GlorotUniform()(head.kernel.shape))
    head.bias.assign(np.zeros(head.bias.shape))
    return model


def search(pretrained, kernel, others, folder):
    """Searches masks for other tasks; returns what is then in files."""
    # A network whose biases know nothing either, for random weights.
    untrained = keras.models.clone_model(pretrained)
    model = mpt.convert(
        pretrained if kernel == "keep" else untrained,
        sparsity=0.0,
        binarize=False,
        kernel=kernel,
        layers=lambda name, layer: name != _HEAD,
        seed=FLAGS.seed,
    )
    tasks = mpt.TaskMasks(model)
    tasks.add("first")  # prunes nothing: the network as it was
    for name, (images, _) in others.items():
        tasks.add(name)
        for layer in mpt.masked_layers(model):
            layer.sparsity = FLAGS.sparsity
        with_new_head(model)
        train(model, *images, FLAGS.scores_learning_rate)
    tasks.save(folder)
    return mpt.TaskMasks.load(folder)


def train_on(pretrained, images, parts):
    """A copy of the network with a new head, all or only that trained."""
    model = with_new_head(keras.models.clone_model(pretrained))
    for layer, other in zip(model.layers, pretrained.layers, strict=True):
        if layer.name != _HEAD:
            layer.set_weights(other.get_weights())
            layer.trainable = parts == "all"
    train(model, *images, FLAGS.learning_rate)
    return model


def run():
    folder = pathlib.Path(FLAGS.output_dir)
    if folder.exists():
        raise ValueError(
            f"Invalid value for argument `output_dir`. '{folder}' is there "
            "already. Expected a new folder."
        )
    keras.utils.set_random_seed(FLAGS.seed)
    classes, others = read_tasks()
    first = next(iter(others))
    images, held_out = others.pop(first)
    count = FLAGS.train_images
    others = {
        name: ([part[:count] for part in split], test)
        for name, (split, test) in others.items()
    }
    pretrained = network(images[0], classes)
    train(pretrained, *images, FLAGS.learning_rate)
    before = accuracy(pretrained, *held_out)
    print(f"{first}: {before:.2%}, the network trained for it", flush=True)
    rows = [("task", "trained", "test accuracy %", "bytes")]

    def note(name, what, model, size):
        found = accuracy(model, *others[name][1])
        rows.append((name, what, f"{100 * found:.2f}", f"{size:,}"))

    for kernel, what in _MASKS.items():
        tasks = search(pretrained, kernel, others, folder / kernel)
        for name in others:
            tasks.switch(name)
            file = folder / kernel / "tasks" / f"{name}.ticket"
            note(name, what, tasks.model, file.stat().st_size)
        if kernel == "keep":
            tasks.switch("first")
            after = accuracy(tasks.model, *held_out)
    shared = (folder / "keep" / "network.ticket").stat().st_size
    for name, (images, _) in others.items():
        for parts, what in _WEIGHTS.items():
            model = train_on(pretrained, images, parts)
            size = sum(np.prod(w.shape) for w in model.trainable_weights)
            note(name, what, model, 4 * int(size))
    print_table([rows[0], *sorted(rows[1:], key=lambda row: row[0])])
    print(
        f"{first}: {after:.2%} still. {shared:,} bytes are the network, over "
        "which masks and heads are."
    )


def main(_):
    with in_one_line("pretrained_masks.py"):
        run()


if __name__ == "__main__":
    app.run(main)
