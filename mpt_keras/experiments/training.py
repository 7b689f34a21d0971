"""The training loop of every run, and how it survives interruptions."""

import contextlib
import dataclasses
import time

import keras
import numpy as np

from mpt_keras.callbacks.backup import AtomicBackup
from mpt_keras.callbacks.check_finite import CheckFinite
from mpt_keras.callbacks.checkpoint import AtomicCheckpoint
from mpt_keras.experiments import history, optimization
from mpt_keras.experiments.errors import RunError
from mpt_keras.experiments.following import in_force_of

BACKUP = "backup"


class Stopped(KeyboardInterrupt):
    """A run was stopped by hand, and can be continued.

    Attributes:
        folder: Path of the run's folder, or of the training's.
        epochs: Whole epochs that are kept of the training that was stopped;
            None between two of them.
    """

    def __init__(self, folder, epochs):
        self.folder, self.epochs = folder, epochs
        super().__init__(f"Stopped: what is whole is kept in '{folder}'.")


@dataclasses.dataclass(frozen=True)
class Trained:
    """A training that came to its end.

    Attributes:
        figures: What the epochs say together (`history.figures`); None in a
            worker that writes no files.
        backup: `AtomicBackup`, to be removed when all that follows is done.
    """

    figures: dict | None
    backup: AtomicBackup


def train(
    network, prepared, folder, callbacks=(), first_step=0, distilled=None
):
    """Trains a network, or goes on where a training was interrupted.

    Leaves `history.csv`, `last.keras`, where images were held out
    `best.keras`, and on TensorFlow `tensorboard/`.

    Args:
        network: Keras model from normalised images to logits, built in
            `prepared.devices.scope()`.
        prepared: `preparation.Prepared`.
        folder: Path of the training's folder, which is there.
        callbacks: Further Keras callbacks, such as `GlobalSparsity`.
        first_step: Steps that count as done, for a network that was set back
            to where it was after as many.
        distilled: Function that makes the model to train (a Distiller) of
            the one from images to logits.

    Returns:
        A `Trained`.

    Raises:
        RunError: If the training cannot go on, with what is kept.
        Stopped: On Ctrl-C.
    """
    settings, devices = prepared.settings, prepared.devices
    devices.synchronize_batch_norms(network)
    with devices.scope():
        whole = with_preprocessing(network, prepared.images)
        model = distilled(whole) if distilled else whole
        model.compile(
            optimizer=optimization.optimizer(settings),
            loss=optimization.loss(settings),
            metrics=["accuracy"],
        )
    backup = AtomicBackup(
        folder / BACKUP,
        read_only=not devices.writes_files,
        run=_of_the_training(settings),
    )
    batches = prepared.batches()
    evaluations = [] if devices.workers > 1 else [_Testing(prepared, callbacks)]
    callbacks = [
        *evaluations,
        _Seconds(),
        *callbacks,
        CheckFinite(),
        keras.callbacks.LearningRateScheduler(
            lambda epoch, _: optimization.learning_rate(settings, epoch)
        ),
        *(_saving(whole, folder, backup) if devices.writes_files else ()),
        backup,
    ]
    with _survived(prepared, folder, backup, callbacks):
        _fit(model, prepared, batches, backup, callbacks, first_step)
    figures = None
    if devices.writes_files:
        rows = history.read(folder / history.FILE)
        if not rows or int(rows[-1]["epoch"]) + 1 != settings.epochs:
            raise RunError(
                f"'{folder / history.FILE}' does not end with the last epoch: "
                "it, or the whole folder, was changed during the run. Begin "
                "anew in another folder."
            )
        figures = history.figures(
            rows,
            batches.per_epoch,
            prepared.images.train_count,
            settings.batch_size,
            first_step,
        )
    return Trained(figures, backup)


def _of_the_training(settings):
    """What makes a training the same, whatever else its run trains."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in in_force_of(settings).items()
        if name not in settings.may_grow
    }


def with_preprocessing(network, images):
    """Raw images in, class scores in float32 out; for training and serving."""
    return keras.Sequential(
        [
            keras.Input(images.image_shape, dtype="uint8", name="images"),
            keras.layers.Normalization(
                mean=images.mean,
                variance=np.square(images.std),
                name="normalize",
            ),
            network,
            keras.layers.Activation("linear", dtype="float32", name="scores"),
        ],
        name=f"{images.name}_{network.name}",
    )


# --- The loop -------------------------------------------------------------


def _fit(model, prepared, batches, backup, callbacks, first_step):
    """All epochs that are left, the first perhaps from its middle on."""
    epochs = prepared.settings.epochs
    if backup.completed_epochs >= epochs:
        return
    first, batch = divmod(first_step, batches.per_epoch)
    if backup.completed_epochs > first:
        first, batch = backup.completed_epochs, 0
    if prepared.devices.workers > 1:
        _fit_on_all_workers(model, prepared, batches, first, callbacks)
        return
    held_out = _validation(prepared)

    def fit(epoch, batch, epochs):
        model.fit(
            batches.from_epoch(epoch, batch),
            initial_epoch=epoch,
            epochs=epochs,
            steps_per_epoch=batches.per_epoch - batch,
            callbacks=callbacks,
            shuffle=False,
            verbose=_verbose(prepared.place),
            **held_out,
        )

    if batch:  # the rest of an epoch
        fit(first, batch, first + 1)
        first += 1
    if first < epochs:
        fit(first, 0, epochs)


def _validation(prepared):
    count = prepared.images.validation_count
    if not count:
        return {}
    size = _evaluation_batch(prepared, count)
    return {
        "validation_data": prepared.images.validation_data(size),
        "validation_batch_size": size,
    }


def _evaluation_batch(prepared, count):
    return prepared.devices.evaluation_batch(
        count, prepared.place.evaluation_batch
    )


def _verbose(place):
    return place.verbose if place.verbose == "auto" else int(place.verbose)


def _fit_on_all_workers(model, prepared, batches, first, callbacks):
    from mpt_keras.experiments import multiworker  # imports TensorFlow

    devices = prepared.devices
    multiworker.fit(
        model,
        dataclasses.replace(
            batches, parts=devices.replicas, own_parts=devices.own_replicas
        ),
        first,
        prepared.settings.epochs,
        callbacks,
        devices,
        prepared.place.evaluation_batch,
        _verbose(prepared.place),
    )


@contextlib.contextmanager
def _survived(prepared, folder, backup, callbacks):
    """Says of whatever ends a training what is kept of it."""
    try:
        with prepared.images.reading():
            yield
    except FloatingPointError as error:
        raise RunError(f"{error} {_kept(folder, backup)}") from error
    except OSError as error:
        raise RunError(
            f"{error} {backup.completed_epochs} epochs are whole in "
            f"'{folder}'; the run can be resumed after them."
        ) from error
    except KeyboardInterrupt as error:
        raise Stopped(folder, backup.completed_epochs) from error
    finally:
        for callback in callbacks:
            # `CSVLogger` leaves it open when a training fails.
            if getattr(callback, "csv_file", None):
                callback.csv_file.close()


def _kept(folder, backup):
    epochs = backup.completed_epochs
    if not epochs:
        return "No epoch was completed."
    return f"The {epochs} epochs before are kept: last.keras in '{folder}'."


# --- Callbacks ------------------------------------------------------------


def _saving(model, folder, backup):
    """The callbacks that write what a user looks at."""
    file = folder / history.FILE
    history.cut(file, backup.completed_epochs)
    before = [
        row["val_accuracy"]
        for row in history.read(file)
        if "val_accuracy" in row
    ]
    writers = [
        keras.callbacks.CSVLogger(file, append=True),
        _Checkpoint(model, folder / "last.keras"),
        _BestCheckpoint(
            model,
            folder / "best.keras",
            "val_accuracy",
            mode="max",
            save_best_only=True,
            initial_value_threshold=max(before, default=None),
        ),
    ]
    if keras.backend.backend() == "tensorflow":
        writers.append(
            keras.callbacks.TensorBoard(
                folder / "tensorboard", write_graph=False
            )
        )
    return writers


class _Checkpoint(AtomicCheckpoint):
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


class _BestCheckpoint(_Checkpoint):
    """That of the best epoch, which only held-out images can choose."""

    def on_epoch_end(self, epoch, logs=None):
        if self.monitor in logs:
            super().on_epoch_end(epoch, logs)


class _Seconds(keras.callbacks.Callback):
    """Logs how long an epoch took, in all and its steps after the first."""

    def on_epoch_begin(self, epoch, logs=None):
        self._started = self._first_step_ended = time.perf_counter()
        self._ended = None

    def on_train_batch_end(self, batch, logs=None):
        self._ended = time.perf_counter()
        if batch == 0 and self.params["steps"] != 1:
            self._first_step_ended = self._ended

    def on_epoch_end(self, epoch, logs=None):
        logs["training_seconds"] = self._ended - self._first_step_ended
        logs["seconds"] = time.perf_counter() - self._started


class _Testing(keras.callbacks.Callback):
    """Evaluates on the test images after every epoch.

    What it finds is logged under `test_`, and chooses nothing.
    """

    def __init__(self, prepared, callbacks):
        super().__init__()
        self._images = prepared.images
        self._batch = _evaluation_batch(prepared, prepared.images.test_count)
        self._others = _DuringTests(callbacks)

    def on_epoch_end(self, epoch, logs=None):
        found = self._images.test_data(self._batch)
        arrays = isinstance(found, tuple)
        images, labels = found if arrays else (found, None)
        results = self.model.evaluate(
            images,
            labels,
            batch_size=self._batch if arrays else None,
            callbacks=[self._others],
            verbose=0,
            return_dict=True,
        )
        for name, value in results.items():
            logs[f"test_{name}"] = value


class _DuringTests(keras.callbacks.Callback):
    """Passes the beginning and the end of an evaluation on to others."""

    def __init__(self, others):
        super().__init__()
        self._them = list(others)

    def on_test_begin(self, logs=None):
        for callback in self._them:
            callback.on_test_begin(logs)

    def on_test_end(self, logs=None):
        for callback in self._them:
            callback.on_test_end(logs)
