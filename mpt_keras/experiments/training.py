"""The training loop of every run, and how it survives interruptions."""

import contextlib
import dataclasses

import keras
import numpy as np

from mpt_keras.callbacks.backup import AtomicBackup
from mpt_keras.callbacks.check_finite import CheckFinite
from mpt_keras.experiments import history, optimization
from mpt_keras.experiments.errors import RunError
from mpt_keras.experiments.following import in_force_of
from mpt_keras.experiments.training_callbacks import Seconds, Testing, saving

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
    evaluations = [] if devices.workers > 1 else [Testing(prepared, callbacks)]
    callbacks = [
        *evaluations,
        Seconds(),
        *callbacks,
        CheckFinite(),
        keras.callbacks.LearningRateScheduler(
            lambda epoch, _: optimization.learning_rate(settings, epoch)
        ),
        *(saving(whole, folder, backup) if devices.writes_files else ()),
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
    size = prepared.evaluation_batch(count)
    return {
        "validation_data": prepared.images.validation_data(size),
        "validation_batch_size": size,
    }


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
        prepared.largest_evaluation_batch,
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
