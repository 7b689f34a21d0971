"""What the examples share: flags, batches, a run's folder, training, export."""

import dataclasses
import datetime
import json
import math
import os
import pathlib
import platform
import sys
import time

# Before TensorFlow is imported: its start-up notes would bury the results.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags, logging

import mpt_keras as mpt

FLAGS = flags.FLAGS

flags.DEFINE_float("sparsity", 0.5, "Fraction of weights pruned, in [0, 1).")
flags.register_validator(
    "sparsity", lambda value: 0.0 <= value < 1.0, "Expected a number in [0, 1)."
)
flags.DEFINE_integer("seed", 0, "Seed of weights, scores, order and crops.")
flags.DEFINE_integer(
    "epochs", None, "Epochs of training; by default the example's own."
)
flags.register_validator(
    "epochs",
    lambda value: value is None or value > 0,
    "Expected a positive number.",
)
flags.DEFINE_string(
    "output_dir",
    None,
    "New folder for everything that the run writes; by default one under "
    "runs/ that is named after the settings and the time.",
)


class RunError(Exception):
    """A run that cannot start or finish, with what to do about it."""


def run(main):
    """`absl.app.run` that ends a `RunError` in one line instead of a trace."""

    def quietly(arguments):
        logging.set_verbosity(logging.WARNING)
        try:
            main(arguments)
        except RunError as error:
            sys.exit(f"{pathlib.Path(arguments[0]).name}: {error}")

    app.run(quietly)


@dataclasses.dataclass(frozen=True)
class ImageData:
    """Images (uint8, NHWC), labels; mean and std per channel of the uint8s."""

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    mean: tuple
    std: tuple
    classes: int

    @property
    def image_shape(self):
        return self.train_images.shape[1:]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to train: optimizer, learning rate per epoch, batches."""

    epochs: int
    batch_size: int
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    schedule: str = "constant"
    momentum: float = 0.9
    augment: bool = False

    def make_optimizer(self):
        if self.optimizer == "sgd":
            return keras.optimizers.SGD(
                self.learning_rate, momentum=self.momentum
            )
        return keras.optimizers.Adam(self.learning_rate)

    def learning_rate_at(self, epoch):
        """Per epoch, as in the authors' code; never quite 0."""
        if self.schedule == "constant":
            return self.learning_rate
        turn = math.pi * epoch / self.epochs
        return 0.5 * (1.0 + math.cos(turn)) * self.learning_rate


def training_batches(data, recipe, seed):
    """An endless dataset of shuffled, cropped and flipped batches.

    Batch `i` is a function of the seed and `i` alone: an epoch's order is a
    keyed permutation, crops and flips come from stateless draws.
    """
    images = tf.convert_to_tensor(data.train_images)
    labels = tf.convert_to_tensor(data.train_labels)
    count = len(data.train_labels)
    steps = steps_per_epoch(data, recipe)

    def batch(step):
        epoch, within = step // steps, step % steps
        first = within * recipe.batch_size
        positions = tf.range(
            first, tf.minimum(first + recipe.batch_size, count)
        )
        key = tf.cast(tf.stack([seed, epoch]), tf.uint32)
        order = tf.random.experimental.index_shuffle(
            tf.cast(positions, tf.uint32), key, tf.cast(count - 1, tf.uint32)
        )
        order = tf.cast(order, tf.int32)
        chosen = tf.gather(images, order)
        if recipe.augment:
            chosen = crop_and_flip(chosen, tf.stack([seed, step]))
        return chosen, tf.gather(labels, order)

    return (
        tf.data.Dataset.counter()
        .map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def steps_per_epoch(data, recipe):
    return math.ceil(len(data.train_labels) / recipe.batch_size)


def crop_and_flip(images, seed, pad=4):
    """Crops each image from its zero-padded self and flips half of them.

    Args:
        images: Tensor `(batch, height, width, channels)`.
        seed: Integer tensor of shape `(2,)`.
        pad: Pixels of zeros on every side.
    """
    count, height, width, _ = tf.unstack(tf.shape(images))
    padded = tf.pad(images, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
    draws = tf.random.stateless_uniform(
        (3, count), tf.cast(seed, tf.int64), maxval=2**30, dtype=tf.int32
    )
    top, left, flip = tf.unstack(draws)
    rows = (top % (2 * pad + 1))[:, None] + tf.range(height)
    columns = (left % (2 * pad + 1))[:, None] + tf.range(width)
    # A flip reads the columns backwards.
    backwards = (flip // 2**10 % 2 == 0)[:, None]
    columns = tf.where(backwards, tf.reverse(columns, [1]), columns)
    cropped = tf.gather(padded, rows, axis=1, batch_dims=1)
    cropped = tf.gather(cropped, columns, axis=2, batch_dims=1)
    return tf.ensure_shape(cropped, images.shape)


def with_preprocessing(network, data):
    """Raw images in, class scores in float32 out; for training and serving."""
    return keras.Sequential(
        [
            keras.Input(data.image_shape, dtype="uint8", name="images"),
            keras.layers.Normalization(
                mean=data.mean, variance=np.square(data.std), name="normalize"
            ),
            network,
            keras.layers.Activation("linear", dtype="float32", name="scores"),
        ],
        name=f"{data.name}_{network.name}",
    )


def new_run_folder(name):
    """Creates the run's folder; refuses one that holds anything already."""
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")[:-3]
    path = pathlib.Path(FLAGS.output_dir or f"runs/{name}-{now}")
    try:
        path.mkdir(parents=True, exist_ok=True)
        occupied = any(path.iterdir())
    except OSError as error:
        raise RunError(
            f"Cannot use --output_dir='{path}': {error.strerror}. Expected a "
            "new or empty folder that can be written."
        ) from error
    if occupied:
        raise RunError(
            f"--output_dir='{path}' already holds files, perhaps another run. "
            "Nothing was changed. Choose a new folder, or remove that one."
        )
    ours = {
        flag.name: flag.value
        for module, defined in FLAGS.flags_by_module_dict().items()
        if module.split(".")[0] not in ("absl", "tensorflow_datasets")
        for flag in defined
    }
    write_json(path / "flags.json", ours)
    return path


def write_json(path, content):
    """Writes beside, then renames, so that no half file is ever seen."""
    beside = path.with_suffix(".partial")
    beside.write_text(json.dumps(content, indent=2, default=str) + "\n")
    beside.replace(path)


def train(network, data, recipe, folder, callbacks=(), verbose="auto"):
    """Searches for a ticket (or trains a dense network), exports, reports.

    Args:
        network: Keras model from normalised images to logits.
        data: `ImageData`.
        recipe: `Recipe`.
        folder: Path of the run's folder.
        callbacks: Further Keras callbacks, such as `GlobalSparsity`.
        verbose: As for `keras.Model.fit`.

    Returns:
        `(model, result)`: the trained model with its preprocessing, and the
        dictionary that was also written to `result.json`.
    """
    model = with_preprocessing(network, data)
    model.compile(
        optimizer=recipe.make_optimizer(),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    started = time.perf_counter()
    history = model.fit(
        training_batches(data, recipe, FLAGS.seed),
        epochs=recipe.epochs,
        steps_per_epoch=steps_per_epoch(data, recipe),
        validation_data=(data.test_images, data.test_labels),
        validation_batch_size=500,
        callbacks=[
            *callbacks,
            keras.callbacks.LearningRateScheduler(
                lambda epoch, _: recipe.learning_rate_at(epoch)
            ),
            keras.callbacks.TerminateOnNaN(),
            keras.callbacks.ModelCheckpoint(folder / "last.keras"),
            keras.callbacks.ModelCheckpoint(
                folder / "best.keras", "val_accuracy", save_best_only=True
            ),
            keras.callbacks.CSVLogger(folder / "history.csv"),
            keras.callbacks.TensorBoard(
                folder / "tensorboard", write_graph=False
            ),
        ],
        shuffle=False,
        verbose=verbose,
    ).history
    seconds = time.perf_counter() - started
    if not math.isfinite(history["loss"][-1]):
        raise RunError(
            f"Training diverged: loss {history['loss'][-1]} in epoch "
            f"{len(history['loss'])}. The best checkpoint so far is in "
            f"'{folder}'. Lower --learning_rate."
        )

    is_ticket = bool(mpt.masked_layers(model))
    shipped = mpt.freeze(model) if is_ticket else model
    export_and_compare(shipped, model, data.test_images[:100], folder)
    result = {
        "data": data.name,
        "model": network.name,
        "recipe": dataclasses.asdict(recipe),
        "seed": FLAGS.seed,
        "test_accuracy": history["val_accuracy"][-1],
        "best_test_accuracy": max(history["val_accuracy"]),
        "test_accuracy_per_epoch": history["val_accuracy"],
        "test_loss": history["val_loss"][-1],
        "train_loss": history["loss"][-1],
        "seconds": round(seconds, 1),
        "images_per_second": round(
            recipe.epochs * len(data.train_labels) / seconds, 1
        ),
        **(sparsity_figures(model) if is_ticket else {}),
        "saved_model": str(folder / "saved_model"),
        "versions": {
            "mpt_keras": mpt.__version__,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    write_json(folder / "result.json", result)
    return model, result


def sparsity_figures(model):
    """Weights and weights kept, in all and per masked layer."""
    layers = {
        layer.name: {
            "weights": sum(m.size for m in layer.masked_kernels),
            "kept": sum(int(m.kept()) for m in layer.masked_kernels),
        }
        for layer in mpt.masked_layers(model)
    }
    weights = sum(layer["weights"] for layer in layers.values())
    kept = sum(layer["kept"] for layer in layers.values())
    return {
        "weights": weights,
        "weights_kept": kept,
        "sparsity": 1.0 - kept / weights,
        "layers": layers,
    }


def export_and_compare(shipped, model, images, folder):
    """Exports a SavedModel and accepts it only if it predicts the same."""
    path = folder / "saved_model"
    shipped.export(path, verbose=False)
    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    (served,) = serve(tf.constant(images)).values()
    expected = model.predict(images, verbose=0)
    if not np.allclose(served, expected, rtol=1e-5, atol=1e-5):
        raise RunError(
            f"The SavedModel in '{path}' does not predict what the model "
            "predicts: largest difference "
            f"{np.abs(served - expected).max():.3g}, expected 1e-5 at most. "
            "Please report this with the flags used."
        )


def report(result):
    """One line for the end of a run."""
    pruned = (
        f", {result['weights_kept']:,} of {result['weights']:,} weights kept"
        if "weights" in result
        else ""
    )
    print(
        f"{result['model']} on {result['data']}: test accuracy "
        f"{result['test_accuracy']:.2%} "
        f"(best {result['best_test_accuracy']:.2%})"
        f"{pruned}, {result['seconds']} s. SavedModel: {result['saved_model']}"
    )
