"""Checkpoints and backups that are whole at every moment.

Both write beside what is there and then rename, so that an interruption, a
full disk or a killed process leaves the last whole file where it was.
"""

import contextlib
import math
import os
import pathlib
import re
import shutil
import tempfile

import keras
import numpy as np
from keras import ops

_EPOCHS = re.compile(r"epochs-(\d+)")
_RANDOM_STATES = "random.npz"
_PLACEHOLDER = re.compile(r"\{.*?\}")


class AtomicCheckpoint(keras.callbacks.ModelCheckpoint):
    """Keras' `ModelCheckpoint`, once per epoch, never half a file.

    Keras writes into a folder `partial-<name>` beside the file, from which
    what is whole is moved. Its folder is made when training begins.

    Args:
        filepath: Where the model is saved, a path that ends in `.keras`, or
            in `.weights.h5` with `save_weights_only=True`. The name may hold
            Keras' placeholders, such as `m-{epoch:02d}.keras`.
        monitor, save_best_only, mode, initial_value_threshold, ...: As for
            `keras.callbacks.ModelCheckpoint`.

    Raises:
        ValueError: If `filepath` is not on a local disk or its folder has
            placeholders, or for `save_freq` other than `"epoch"`.
        OSError: If the file cannot be written, for example on a full disk.
            The checkpoint of an earlier epoch is still there, whole.

    Example:

    >>> callback = mpt_keras.callbacks.AtomicCheckpoint("last.keras")
    >>> history = model.fit(images, labels, callbacks=[callback], verbose=0)
    >>> keras.models.load_model("last.keras").name == model.name
    True
    """

    def __init__(self, filepath, *args, **kwargs):
        self.path = _local_path(filepath)
        name = _PLACEHOLDER.sub("N", self.path.name)
        self._beside = self.path.with_name(f"partial-{name}")
        super().__init__(self._beside / self.path.name, *args, **kwargs)
        if self.save_freq != "epoch":
            raise ValueError(
                "AtomicCheckpoint saves at the end of an epoch. Expected "
                f"save_freq='epoch'. Received: save_freq={self.save_freq!r}"
            )

    def on_train_begin(self, logs=None):
        with _unharmed(self.path, self._beside):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _remove(self._beside)

    def on_epoch_end(self, epoch, logs=None):
        with _unharmed(self.path, self._beside):
            _remove(self._beside)  # what a killed run left
            self._beside.mkdir(parents=True)
            _check_room(self._beside, self.model)
            super().on_epoch_end(epoch, logs)
            for file in self._beside.iterdir():
                _flush(file)
                file.replace(self.path.with_name(file.name))
            self._beside.rmdir()


class AtomicBackup(keras.callbacks.Callback):
    """Keras' `BackupAndRestore`, safe against a kill at any moment.

    At the end of every epoch the weights, the optimizer's state and the number
    of the epoch are written by `keras.callbacks.BackupAndRestore` into a new
    folder `epochs-<completed>`, which then takes the place of the last one;
    beside them the states of random generators (dropout), which Keras leaves
    out.
    `fit` with the same callback continues after the last whole epoch: the
    epoch that was interrupted is repeated from its beginning. Masks are then
    those of a run without interruption if the data are, so start them at
    `completed_epochs`. Unlike Keras' own, the backup stays after training, so
    that what follows it can be interrupted as well; see `remove`.

    Put it last among the callbacks, so that a completed epoch is one whose
    other files are written.

    Args:
        folder: Where the backups are kept, a folder of their own.
        read_only: Restores and writes nothing, for all but one of several
            workers that share the folder.

    Raises:
        OSError: If a backup cannot be written, for example on a full disk.
            The last one is still there, whole.

    Example:

    >>> backup = mpt_keras.callbacks.AtomicBackup("backup")
    >>> backup.completed_epochs
    0
    >>> history = model.fit(
    ...     images, labels, epochs=2, callbacks=[backup], verbose=0
    ... )
    >>> backup.completed_epochs
    2
    >>> backup.remove()
    """

    def __init__(self, folder, read_only=False):
        super().__init__()
        self.folder = pathlib.Path(folder)
        self.read_only = read_only

    @property
    def completed_epochs(self) -> int:
        """Epochs in the last whole backup; 0 where there is none."""
        return max(self._whole(), default=0)

    def on_train_begin(self, logs=None):
        if self.completed_epochs:
            folder = self._path(self.completed_epochs)
            self._keras_backup(folder).on_train_begin()
            _load_random_states(self.model, folder / _RANDOM_STATES)

    def on_epoch_end(self, epoch, logs=None):
        if self.read_only:
            return
        final = self._path(epoch + 1)
        beside = final.with_name(f"partial-{final.name}")
        with _unharmed(self.folder, beside):
            shutil.rmtree(beside, ignore_errors=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            _check_room(beside, self.model)
            self._keras_backup(beside).on_epoch_end(epoch, logs)
            _save_random_states(self.model, beside / _RANDOM_STATES)
            for file in beside.iterdir():
                _flush(file)
            shutil.rmtree(final, ignore_errors=True)
            beside.replace(final)
        for epochs in self._whole():
            if epochs != epoch + 1:
                shutil.rmtree(self._path(epochs))

    def remove(self):
        """Removes the backup, when nothing is left to be done."""
        if not self.read_only:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _whole(self):
        names = [path.name for path in self.folder.glob("epochs-*")]
        matches = [_EPOCHS.fullmatch(name) for name in names]
        return [int(match[1]) for match in matches if match]

    def _path(self, epochs):
        return self.folder / f"epochs-{epochs}"

    def _keras_backup(self, folder):
        backup = keras.callbacks.BackupAndRestore(
            str(folder), delete_checkpoint=False
        )
        backup.set_model(self.model)
        return backup


def _random_states(model):
    weights = {id(variable) for variable in model.weights}
    return [v for v in model.variables if id(v) not in weights]


def _save_random_states(model, path):
    states = map(ops.convert_to_numpy, _random_states(model))
    with path.open("wb") as file:
        np.savez(file, *states)


def _load_random_states(model, path):
    with path.open("rb") as file:
        states = np.load(file)
        for number, variable in enumerate(_random_states(model)):
            variable.assign(states[f"arr_{number}"])


def _local_path(filepath):
    path = pathlib.Path(filepath)
    if "://" in str(filepath) or _PLACEHOLDER.search(str(path.parent)):
        raise ValueError(
            "Invalid value for argument `filepath`. Expected a path on a "
            "local disk, with placeholders in the file's name alone. "
            f"Received: filepath={str(filepath)!r}. Save on a local disk "
            "and copy, or use keras.callbacks.ModelCheckpoint."
        )
    return path


@contextlib.contextmanager
def _unharmed(path, beside):
    """Turns what HDF5 and the system raise into one error that tells all."""
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(OSError):
            _remove(beside)
        if not isinstance(error, (OSError, RuntimeError)):
            raise
        raise OSError(
            f"Could not write '{path}': {error}. What was saved there before "
            "is unharmed. Make room or make the folder writable, then "
            "continue from it."
        ) from error


def _remove(path):
    """Removes a file, a link or a folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def _check_room(path, model):
    """Raises `OSError` where a model does not fit on the disk.

    The HDF5 library would crash the process over it.
    """
    optimizer = getattr(model, "optimizer", None)
    variables = [*model.variables, *(optimizer.variables if optimizer else ())]
    numbers = sum(math.prod(variable.shape) for variable in variables)
    # Four bytes for each, and what HDF5 adds to each variable.
    size = 4 * numbers + 2**12 * (len(variables) + 16)
    if not hasattr(os, "posix_fallocate"):
        return
    with tempfile.TemporaryFile(dir=path.parent) as file:
        os.posix_fallocate(file.fileno(), 0, size)


def _flush(path):
    """Some file systems say only now that there is no room."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
