"""What the examples share: training, its interruptions, export, the report."""

import contextlib
import dataclasses
import json
import math
import shutil
import time

import distribution
import keras
import numpy as np
import run_folder
from absl import flags
from command import RunError

import mpt_keras as mpt

FLAGS = flags.FLAGS

flags.DEFINE_integer("seed", 0, "Seed of weights, scores, order and crops.")
flags.DEFINE_integer(
    "epochs", None, "Epochs of training; by default the example's own."
)
flags.register_validator(
    "epochs",
    lambda value: value is None or value > 0,
    "Expected a positive number.",
)
flags.DEFINE_bool(
    "drop_remainder",
    None,
    "End an epoch with its last whole batch. By default only on several "
    "devices, which share every batch evenly.",
)
flags.DEFINE_bool(
    "deterministic",
    False,
    "Let TensorFlow use only operations that repeat their results to the "
    "bit, also on GPUs; slower.",
)

_EVALUATION_BATCH = 500
_COMPARED = 100


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
    warmup_epochs: int = 0
    label_smoothing: float = 0.0
    milestones: tuple = ()

    def make_optimizer(self):
        if self.optimizer == "sgd":
            return keras.optimizers.SGD(
                self.learning_rate, momentum=self.momentum
            )
        return keras.optimizers.Adam(self.learning_rate)

    def make_loss(self):
        """From logits and integer labels; also that of the evaluation."""
        if self.label_smoothing:
            return mpt.losses.SmoothedCrossentropy(self.label_smoothing)
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def learning_rate_at(self, epoch):
        """Per epoch, as in the authors' code; never quite 0."""
        if epoch < self.warmup_epochs:
            return self.learning_rate * (epoch + 1) / self.warmup_epochs
        if self.schedule == "constant":
            return self.learning_rate
        if self.schedule == "steps":
            drops = sum(epoch >= milestone for milestone in self.milestones)
            return self.learning_rate * 0.1**drops
        epochs = self.epochs - self.warmup_epochs
        turn = math.pi * (epoch - self.warmup_epochs) / epochs
        return 0.5 * (1.0 + math.cos(turn)) * self.learning_rate


def start(recipe):
    """Seeds everything and returns the `Devices` to compute on."""
    keras.utils.set_random_seed(FLAGS.seed)
    devices = distribution.start(recipe.batch_size)
    if FLAGS.deterministic and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    return devices


def train(
    network,
    data,
    recipe,
    folder,
    devices,
    callbacks=(),
    verbose="auto",
    first_step=0,
    ships=True,
    distilled=None,
):
    """Searches for a ticket (or trains a dense network), exports, reports.

    A run that was interrupted continues after its last whole epoch; one that
    had come to its end only returns its result.

    Args:
        network: Keras model from normalised images to logits, built in
            `devices.scope()`.
        data: `ImageData`, or `StreamedImages`, which offers the same.
        recipe: `Recipe`.
        folder: Path of the run's folder.
        devices: `Devices`.
        callbacks: Further Keras callbacks, such as `GlobalSparsity`.
        verbose: As for `keras.Model.fit`.
        first_step: Steps that count as done, for a network that was set back
            to where it was after as many.
        ships: Whether to leave a frozen ticket and a SavedModel.
        distilled: Function that makes the model to train (a Distiller) of
            the one from images to logits.

    Returns:
        The dictionary that was also written to `result.json`; None in the
        workers that write no files.
    """
    if (folder / "result.json").exists():
        return json.loads((folder / "result.json").read_text())
    devices.synchronize_batch_norms(network)
    with devices.scope():
        whole = with_preprocessing(network, data)
        model = distilled(whole) if distilled else whole
        model.compile(
            optimizer=recipe.make_optimizer(),
            loss=recipe.make_loss(),
            metrics=["accuracy"],
        )
    backup = mpt.callbacks.AtomicBackup(
        folder / "backup",
        read_only=not devices.writes_files,
        run={"recipe": dataclasses.asdict(recipe), "seed": FLAGS.seed},
    )
    callbacks = [
        *callbacks,
        mpt.callbacks.CheckFinite(),
        keras.callbacks.LearningRateScheduler(
            lambda epoch, _: recipe.learning_rate_at(epoch)
        ),
        *(_saving(whole, folder, backup) if devices.writes_files else ()),
        backup,
    ]
    with _surviving_the_loss_of_workers(devices):
        try:
            with data.reading():
                _fit(
                    *(model, data, recipe, backup, callbacks, devices, verbose),
                    first_step=first_step,
                )
                result = None
                if devices.writes_files:
                    name = network.name
                    result = _finish(name, data, recipe, folder, devices, ships)
        except FloatingPointError as error:
            epochs = backup.completed_epochs
            raise RunError(
                f"{error} "
                + (
                    f"The {epochs} epochs before are kept: last.keras and "
                    f"best.keras in '{folder}'."
                    if epochs
                    else "No epoch was completed."
                )
            ) from error
        except OSError as error:
            raise RunError(
                f"{error} {backup.completed_epochs} epochs are whole in "
                f"'{folder}'; --resume continues after them."
            ) from error
        finally:
            _close_files(callbacks)
        if devices.workers > 1:
            _multiworker().wait_for_all(devices)
    backup.remove()
    return result


def _close_files(callbacks):
    """Closes what `CSVLogger` leaves open when a training fails."""
    for callback in callbacks:
        if getattr(callback, "csv_file", None):
            callback.csv_file.close()


def _multiworker():
    import multiworker  # imports TensorFlow

    return multiworker


def _surviving_the_loss_of_workers(devices):
    if devices.workers == 1:
        return contextlib.nullcontext()
    return _multiworker().start_again_when_alone(devices)


def _saving(model, folder, backup):
    """The callbacks that write what a user looks at."""
    before = backup.completed_epochs
    history = folder / "history.csv"
    run_folder.cut_history(history, before)
    best = [row["val_accuracy"] for row in run_folder.read_history(history)]
    writers = [
        _Seconds(),
        keras.callbacks.CSVLogger(history, append=True),
        _Checkpoint(model, folder / "last.keras"),
        _Checkpoint(
            model,
            folder / "best.keras",
            "val_accuracy",
            mode="max",
            save_best_only=True,
            initial_value_threshold=max(best, default=None),
        ),
    ]
    if keras.backend.backend() == "tensorflow":
        writers.append(
            keras.callbacks.TensorBoard(
                folder / "tensorboard", write_graph=False
            )
        )
    return writers


class _Checkpoint(mpt.callbacks.AtomicCheckpoint):
    """Saves the model itself, also where it trains inside another."""

    def __init__(self, model, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._saved = model
        self._trained = None

    def set_model(self, model):
        self._trained = model
        super().set_model(self._saved)

    def on_epoch_end(self, epoch, logs=None):
        if keras.backend.backend() == "jax":
            self._trained.jax_state_sync()
        super().on_epoch_end(epoch, logs)


class _Seconds(keras.callbacks.Callback):
    """Logs how long an epoch took, evaluation included."""

    def on_epoch_begin(self, epoch, logs=None):
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        logs["seconds"] = time.perf_counter() - self._started


def _fit(
    model, data, recipe, backup, callbacks, devices, verbose, first_step=0
):
    batches = data.batches(
        recipe.batch_size,
        FLAGS.seed,
        recipe.augment,
        _drops_remainder(devices),
    )
    if batches.per_epoch == 0:
        raise RunError(
            f"--batch_size={recipe.batch_size} is more than the "
            f"{data.train_count} images of an epoch."
        )
    if backup.completed_epochs >= recipe.epochs:
        return
    first, batch = divmod(first_step, batches.per_epoch)
    if backup.completed_epochs > first:
        first, batch = backup.completed_epochs, 0
    if devices.workers > 1:
        if first_step or not hasattr(model.loss, "call"):
            raise RunError(
                "--distribute=multiworker cannot rewind or distil. Train on "
                "one machine, with --distribute=mirrored."
            )
        batches = dataclasses.replace(
            batches, parts=devices.replicas, own_parts=devices.own_replicas
        )
        _multiworker().fit(
            model, batches, first, recipe.epochs, callbacks, devices
        )
        return
    test_batch = _evaluation_batch(data.test_count, devices)

    def fit(epoch, batch, epochs):
        model.fit(
            batches.from_epoch(epoch, batch),
            initial_epoch=epoch,
            epochs=epochs,
            steps_per_epoch=batches.per_epoch - batch,
            validation_data=data.test_data(test_batch),
            validation_batch_size=test_batch,
            callbacks=callbacks,
            shuffle=False,
            verbose=verbose,
        )

    if batch:  # the rest of an epoch
        fit(first, batch, first + 1)
        first += 1
    fit(first, 0, recipe.epochs)


def _drops_remainder(devices):
    if FLAGS.drop_remainder is None:
        return devices.replicas > 1
    if devices.replicas > 1 and not FLAGS.drop_remainder:
        raise RunError(
            f"--nodrop_remainder needs one device: {devices.replicas} replicas "
            "cannot share the last, smaller batch of an epoch evenly."
        )
    return FLAGS.drop_remainder


def _evaluation_batch(count, devices):
    """A batch size that leaves no replica without an image."""
    # JAX spreads arrays over devices in equal parts only.
    unequal = devices.strategy is not None or devices.replicas == 1
    each = min(_EVALUATION_BATCH, count) // devices.replicas
    # Keras adds up the replicas' parts of the first batch, to see their kind.
    largest = max(each, 1) * devices.replicas
    for size in range(largest, 0, -devices.replicas):
        rest = count % size
        if rest == 0 or (rest >= devices.replicas and unequal):
            return size
    raise RunError(
        f"The {count} test images cannot be shared evenly by the "
        f"{devices.replicas} replicas of --distribute={FLAGS.distribute}. Use "
        "a number of devices that divides them."
    )


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


def _finish(name, data, recipe, folder, devices, ships):
    """Exports what was found and describes it, from the files of the run."""
    model = keras.models.load_model(folder / "last.keras")
    is_ticket = bool(mpt.masked_layers(model))
    shipped = {"ticket": None, "saved_model": None}
    if ships:
        shipped = ship(model, data, folder, devices)
    history = run_folder.read_history(folder / "history.csv")
    seconds = sum(row["seconds"] for row in history)
    accuracies = [row["val_accuracy"] for row in history]
    result = {
        "data": data.name,
        "model": name,
        "recipe": dataclasses.asdict(recipe),
        "seed": FLAGS.seed,
        "replicas": devices.replicas,
        "test_accuracy": accuracies[-1],
        "best_test_accuracy": max(accuracies),
        "test_accuracy_per_epoch": accuracies,
        "test_loss": history[-1]["val_loss"],
        "train_loss": history[-1]["loss"],
        "seconds": round(seconds, 1),
        "images_per_second": round(
            len(history) * data.train_count / seconds, 1
        ),
        **(sparsity_figures(model) if is_ticket else {}),
        **shipped,
        "versions": run_folder.versions(),
    }
    run_folder.write_json(folder / "result.json", result)
    return result


def ship(model, data, folder, devices):
    """Leaves a trained model as a plain Keras file and as a SavedModel.

    Returns:
        The paths of `ticket` and `saved_model`, a dictionary of texts.
    """
    shipped = mpt.freeze(model) if mpt.masked_layers(model) else model
    ticket = folder / "ticket.keras"
    shipped.save(folder / "partial-ticket.keras")
    (folder / "partial-ticket.keras").replace(ticket)
    exported = None
    if keras.backend.backend() == "tensorflow":
        images = data.first_test_images(_compared(devices))
        exported = folder / "saved_model"
        _export_and_compare(shipped, model, images, exported)
    return {"ticket": str(ticket), "saved_model": exported and str(exported)}


def _compared(devices):
    return devices.replicas * max(_COMPARED // devices.replicas, 1)


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


def _export_and_compare(shipped, model, images, path):
    """Exports a SavedModel and accepts it only if it predicts the same."""
    import tensorflow as tf

    beside = path.with_name("partial-saved_model")
    try:
        shipped.export(beside, verbose=False)
    except tf.errors.OpError as error:
        raise OSError(f"Could not write '{beside}': {error}") from error
    serve = tf.saved_model.load(str(beside)).signatures["serving_default"]
    (served,) = serve(tf.constant(images)).values()
    expected = model.predict(images, verbose=0)
    if not np.allclose(served, expected, rtol=1e-5, atol=1e-5):
        raise RunError(
            f"The SavedModel in '{beside}' does not predict what the model "
            "predicts: largest difference "
            f"{np.abs(served - expected).max():.3g}, expected 1e-5 at most. "
            "Please report this with the flags used."
        )
    shutil.rmtree(path, ignore_errors=True)
    beside.replace(path)


def report(result):
    """One line for the end of a run."""
    pruned = (
        f", {result['weights_kept']:,} of {result['weights']:,} weights kept"
        if "weights" in result
        else ""
    )
    shipped = (
        f"SavedModel: {result['saved_model']}"
        if result["saved_model"]
        else f"Ticket: {result['ticket']}"
    )
    print(
        f"{result['model']} on {result['data']}: test accuracy "
        f"{result['test_accuracy']:.2%} "
        f"(best {result['best_test_accuracy']:.2%})"
        f"{pruned}, {result['seconds']} s. {shipped}"
    )
