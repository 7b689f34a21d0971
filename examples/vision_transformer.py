"""A vision transformer and its tickets, converted by one call.

    python examples/vision_transformer.py

builds a small ViT of Keras' own layers for scikit-learn's digits. It is
trained the ordinary way; beside it `mpt.convert` makes masked networks of it,
random ones whose weights are never trained: with binary weights (MPT-1/32) and
with masked real ones (edge-popup), for equal epochs.

    python examples/vision_transformer.py --dataset=cifar10 --download \\
        --data_dir=data --patch=4 --epochs=100 --seeds=0,1

does it for CIFAR-10. With `--output_dir` the tickets are kept, and the figures
as lines, from which the same command continues after an interruption.
"""

import os
import pathlib
import time

# What TensorFlow says of itself would bury the results.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from absl import app, flags

import mpt_keras as mpt
from mpt_keras.experiments import Place, lines
from mpt_keras.experiments.command import in_one_line
from mpt_keras.experiments.data import read as read_images
from mpt_keras.experiments.flags import define, read
from mpt_keras.experiments.pivot import pivot
from mpt_keras.experiments.tables import print_table

FLAGS = flags.FLAGS

# Way -> what it says to `convert`.
WAYS = {
    "dense": None,
    "mpt_1_32": {"binarize": True},
    "edge_popup": {"binarize": False},
}

flags.DEFINE_enum(
    "dataset", "digits", ["digits", "mnist", "cifar10"], "The images."
)
flags.DEFINE_multi_enum("way", list(WAYS), list(WAYS), "Of training; or more.")
flags.DEFINE_list("seeds", "0", "A training of each way for each of them.")
flags.DEFINE_integer("patch", 2, "Side of a patch, in pixels.", lower_bound=1)
flags.DEFINE_integer("width", 64, "Numbers per patch.", lower_bound=4)
flags.DEFINE_integer("blocks", 4, "Of attention and MLP.", lower_bound=1)
flags.DEFINE_float("sparsity", 0.5, "Fraction of weights pruned, in [0, 1).")
flags.DEFINE_integer("epochs", 30, "Of each training.", lower_bound=1)
flags.DEFINE_integer("batch_size", 128, "Images per step.", lower_bound=1)
flags.DEFINE_integer(
    "train_images", None, "The first so many, instead of all.", lower_bound=1
)
flags.DEFINE_float("learning_rate", 3e-3, "Of Adam at first, for weights.")
flags.DEFINE_float("scores_learning_rate", 0.03, "Likewise, for tickets.")
flags.DEFINE_string("output_dir", None, "Folder for tickets and figures.")
define(
    (Place,),
    without=(
        *("distribute", "tpu", "worker_timeout", "cpu_devices"),
        *("deterministic", "evaluation_batch", "verbose"),
    ),
)

_HEADS = 4
_SETTINGS = (
    *("dataset", "patch", "width", "blocks", "sparsity", "epochs"),
    *("batch_size", "train_images", "learning_rate", "scores_learning_rate"),
)
_FIGURES = (
    *("test_accuracy", "weights_kept:,.0f", "ticket_bytes:,.0f"),
    "epoch_seconds:.2g",
)


def vision_transformer(data):
    """An ordinary Keras model, from images (uint8) to logits."""
    height, width, channels = data.image_shape
    side = FLAGS.patch
    if height % side or width % side:
        raise ValueError(
            f"Images of {height}x{width} pixels are not whole patches of "
            f"{side}x{side}. Expected a side that divides both. Received: "
            f"patch={side}"
        )
    rows, columns = height // side, width // side
    images = keras.Input(data.image_shape, dtype="uint8")
    x = keras.layers.Normalization(
        mean=data.mean, variance=np.square(data.std)
    )(images)
    x = keras.layers.Reshape((rows, side, columns, side, channels))(x)
    x = keras.layers.Permute((1, 3, 2, 4, 5))(x)
    x = keras.layers.Reshape((rows * columns, -1))(x)
    # A bias for every patch: the learned positions.
    x = keras.layers.EinsumDense(
        "bpi,io->bpo",
        (rows * columns, FLAGS.width),
        bias_axes="po",
        name="patches",
    )(x)
    for number in range(1, FLAGS.blocks + 1):
        x = block(x, number)
    x = keras.layers.LayerNormalization()(x)
    x = keras.layers.GlobalAveragePooling1D()(x)
    logits = keras.layers.Dense(data.classes, name="logits")(x)
    return keras.Model(images, logits, name="vit")


def block(x, number):
    """Attention, then an MLP, each beside a shortcut."""
    y = keras.layers.LayerNormalization()(x)
    attention = keras.layers.MultiHeadAttention(
        _HEADS, FLAGS.width // _HEADS, name=f"attention_{number}"
    )
    x = keras.layers.Add()([x, attention(y, y)])
    y = keras.layers.LayerNormalization()(x)
    y = keras.layers.Dense(
        2 * FLAGS.width, activation="gelu", name=f"mlp_{number}_in"
    )(y)
    y = keras.layers.Dense(FLAGS.width, name=f"mlp_{number}_out")(y)
    return keras.layers.Add()([x, y])


def train(model, images, labels, learning_rate):
    """Returns the seconds of an epoch, the median."""
    steps = FLAGS.epochs * -(-len(labels) // FLAGS.batch_size)
    model.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(learning_rate, steps)
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    times = [time.perf_counter()]
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_: times.append(time.perf_counter())
    )
    model.fit(
        *(images, labels),
        batch_size=FLAGS.batch_size,
        epochs=FLAGS.epochs,
        callbacks=[watch],
        verbose=0,
    )
    return float(np.median(np.diff(times)))


def one_training(way, seed, data, folder):
    """A line of figures; the ticket is left in the folder, if there is one."""
    keras.utils.set_random_seed(seed)
    model = vision_transformer(data)
    if way != "dense":
        model = mpt.convert(
            model, sparsity=FLAGS.sparsity, seed=seed, **WAYS[way]
        )
    rate = FLAGS.learning_rate if way == "dense" else FLAGS.scores_learning_rate
    count = FLAGS.train_images
    seconds = train(
        model, data.train_images[:count], data.train_labels[:count], rate
    )
    _, accuracy = model.evaluate(
        data.test_images, data.test_labels, batch_size=500, verbose=0
    )
    if folder and way != "dense":
        mpt.save_ticket(model, folder / f"{way}-seed{seed}.ticket")
    totals = mpt.summary(model, print_fn=None).totals
    return {
        "folder": f"{way}-seed{seed}",
        "method": way,
        "sparsity": None if way == "dense" else FLAGS.sparsity,
        "seed": seed,
        "model": model.name,
        "data": FLAGS.dataset,
        "epochs": FLAGS.epochs,
        "test_accuracy": accuracy,
        "weights_kept": totals.kept,
        # Of the dense network: its weights, as float32.
        "ticket_bytes": totals.ticket_bytes or totals.float32_bytes,
        "epoch_seconds": seconds,
        "settings": settings(),
    }


def settings():
    return {name: FLAGS[name].value for name in _SETTINGS}


def lines_in(folder):
    """The figures of trainings that are done, with the same settings."""
    found = lines.read(folder / lines.NAME)
    for line in found:
        differ = [
            f"{name}={line['settings'][name]}"
            for name, value in settings().items()
            if line["settings"][name] != value
        ]
        if differ:
            raise ValueError(
                f"'{folder}' holds figures of other settings: "
                f"{', '.join(differ)}. Expected these, or another folder."
            )
    return found


def run():
    data = read_images(FLAGS.dataset, read(Place))
    folder = FLAGS.output_dir and pathlib.Path(FLAGS.output_dir)
    found = []
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        found = lines_in(folder)
    done = {line["folder"] for line in found}
    for seed in map(int, FLAGS.seeds):
        for way in FLAGS.way:
            if f"{way}-seed{seed}" in done:
                continue
            line = one_training(way, seed, data, folder)
            print(f"{line['folder']}: {line['test_accuracy']:.2%}", flush=True)
            found.append(line)
            if folder:
                lines.append(folder / lines.NAME, [line])
    print_table(pivot(found, ["method"], [], _FIGURES))


def main(_):
    with in_one_line("vision_transformer.py"):
        run()


if __name__ == "__main__":
    app.run(main)
