"""Five tasks in one random network: a mask for each, and nothing forgotten.

    python examples/tasks.py

permutes the pixels of scikit-learn's digits in five ways, and searches a
ticket for each of the five tasks, all in the same random LeNet-300-100. What
is left is that network, which is little more than a seed, and five masks. The
accuracy of each task is measured when it was trained and again at the end;
beside it stands a network of its own for each task, trained alike.

    python examples/tasks.py --dataset=mnist --download --data_dir=data

does it for MNIST; `--kind=split` has tasks of two classes each.
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

FLAGS = flags.FLAGS

flags.DEFINE_enum("dataset", "digits", ["digits", "mnist"], "The images.")
flags.DEFINE_enum(
    "kind",
    "permuted",
    ["permuted", "split"],
    "permuted: all classes, pixels in another order for each task. split: "
    "some of the classes for each task.",
)
flags.DEFINE_integer("tasks", 5, "Number of tasks.", lower_bound=1)
flags.DEFINE_integer("epochs", 20, "Of each task.", lower_bound=1)
flags.DEFINE_integer("batch_size", 64, "Images per step.", lower_bound=1)
flags.DEFINE_float("learning_rate", 3e-3, "Of Adam, at first.", lower_bound=0)
flags.DEFINE_float("sparsity", 0.8, "Fraction of weights pruned, in [0, 1).")
flags.DEFINE_bool("binarize", True, "Binary weights; else masked real ones.")
flags.DEFINE_bool("separate", True, "Train a network for each task as well.")
flags.DEFINE_string("output_dir", "tasks", "Folder for network and tickets.")
define(
    (Place,),
    without=(
        *("distribute", "tpu", "worker_timeout", "cpu_devices"),
        *("deterministic", "evaluation_batch", "verbose"),
    ),
)

_ROW = "{:<10} {:>14} {:>16} {:>13} {:>16} {:>12}"


def permuted(data):
    """The tasks' images and labels; the first one's pixels stay in place."""
    shape = data.image_shape
    size = np.prod(shape)
    for number in range(FLAGS.tasks):
        order = np.arange(size)
        if number:
            order = np.random.default_rng(number).permutation(size)

        def moved(images, order=order):
            pixels = (images.astype("float32") - data.mean) / data.std
            return pixels.reshape(-1, size)[:, order].reshape(-1, *shape)

        train = moved(data.train_images), data.train_labels
        yield (
            f"pixels-{number + 1}",
            train,
            (moved(data.test_images), data.test_labels),
        )


def split(data):
    """The tasks' images and labels: 0 and 1, then 2 and 3, ..."""
    classes = data.classes // FLAGS.tasks
    for number in range(FLAGS.tasks):
        first = number * classes

        def chosen(images, labels, first=first):
            there = (labels >= first) & (labels < first + classes)
            pixels = (images[there].astype("float32") - data.mean) / data.std
            return pixels, labels[there] - first

        yield (
            f"from-{first}-to-{first + classes - 1}",
            chosen(data.train_images, data.train_labels),
            chosen(data.test_images, data.test_labels),
        )


def network(data, seed):
    """A random network, as it follows from its seed."""
    parts = FLAGS.tasks if FLAGS.kind == "split" else 1
    model = mpt.models.lenet_300_100(
        sparsity=FLAGS.sparsity,
        binarize=FLAGS.binarize,
        input_shape=data.image_shape,
        classes=data.classes // parts,
        seed=seed,
    )
    steps = FLAGS.epochs * -(-data.train_count // (parts * FLAGS.batch_size))
    model.compile(  # once: momentum and learning rate begin anew with a task
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(FLAGS.learning_rate, steps)
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def train(model, images, labels):
    model.fit(
        *(images, labels),
        batch_size=FLAGS.batch_size,
        epochs=FLAGS.epochs,
        verbose=0,
    )


def accuracy(model, images, labels):
    logits = model.predict(images, batch_size=500, verbose=0)
    return np.mean(logits.argmax(-1) == labels)


def run():
    folder = pathlib.Path(FLAGS.output_dir)
    if folder.exists():
        raise ValueError(
            f"Invalid value for argument `output_dir`. '{folder}' is there "
            "already. Expected a new folder."
        )
    data = read_images(FLAGS.dataset, read(Place))
    if FLAGS.kind == "split" and FLAGS.tasks > data.classes // 2:
        raise ValueError(
            f"{data.classes} classes make at most {data.classes // 2} tasks "
            f"of two. Received: tasks={FLAGS.tasks}"
        )
    make = permuted if FLAGS.kind == "permuted" else split
    keras.utils.set_random_seed(0)
    tasks = mpt.TaskMasks(network(data, seed=0))
    found, own = {}, {}
    for number, (name, images, held_out) in enumerate(make(data), 1):
        tasks.add(name)
        train(tasks.model, *images)
        found[name] = accuracy(tasks.model, *held_out)
        print(f"{name}: {found[name]:.2%}", flush=True)
        if FLAGS.separate:
            alone = network(data, seed=number)
            train(alone, *images)
            path = folder / "separate" / f"{name}.ticket"
            path.parent.mkdir(parents=True, exist_ok=True)
            mpt.save_ticket(alone, path)
            own[name] = accuracy(alone, *held_out), path.stat().st_size
    tasks.save(folder)
    report(data, make, folder, found, own)


def report(data, make, folder, found, own):
    """Of what is in the files."""
    tasks = mpt.TaskMasks.load(folder)
    titles = ("task", "ticket, bytes", "after training", "at the end")
    others = ("its own network", "bytes") if own else ("", "")
    print(_ROW.format(*titles, *others).rstrip())
    again = {}
    for name, _, held_out in make(data):
        tasks.switch(name)
        again[name] = accuracy(tasks.model, *held_out)
        size = (folder / "tasks" / f"{name}.ticket").stat().st_size
        figures = f"{size:,}", f"{found[name]:.2%}", f"{again[name]:.2%}"
        others = "", ""
        if own:
            others = f"{own[name][0]:.2%}", f"{own[name][1]:,}"
        print(_ROW.format(name, *figures, *others).rstrip())
    total = tasks.summary().total_bytes
    print(
        f"mean {np.mean(list(found.values())):.2%}, {total:,} bytes with the "
        f"network; {'nothing' if again == found else 'something'} is forgotten"
    )
    if own:
        accuracies, sizes = zip(*own.values(), strict=True)
        print(
            f"networks of their own: mean {np.mean(accuracies):.2%}, "
            f"{sum(sizes):,} bytes"
        )


def main(_):
    with in_one_line("tasks.py"):
        run()


if __name__ == "__main__":
    app.run(main)
