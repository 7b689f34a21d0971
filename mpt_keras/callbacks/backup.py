"""Backups that are whole at every moment, to resume a training from."""

import contextlib
import json
import math
import os
import pathlib
import re
import shutil
import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

from mpt_keras.callbacks.atomic import check_room, flush, unharmed
from mpt_keras.callbacks.batch_count import (
    BatchCountingCallback,
    completed_batches,
    note_completed_batches,
)

_EPOCHS = re.compile(r"epochs-(\d+)")
_OWN = re.compile(r"(partial-|removed-)*epochs-\d+")
_RANDOM_STATES = "random.npz"
_STOPPED = "stopped"
_DESCRIPTION = "description.json"


class AtomicBackup(BatchCountingCallback):
    """Keras' `BackupAndRestore`, safe against a kill at any moment.

    At the end of every epoch the weights, the optimizer's state and the number
    of the epoch are written by `keras.callbacks.BackupAndRestore` into a new
    folder `epochs-<completed>`, which then takes the place of the last one;
    beside them the states of random generators (dropout), which Keras leaves
    out. (On PyTorch those without a seed draw from its global generator, whose
    state nobody keeps. What other callbacks remember, such as the patience of
    `EarlyStopping` or the best value of a checkpoint, is not kept either.)
    `fit` with the same callback continues after the last whole epoch: the
    epoch that was interrupted is repeated from its beginning. Masks are then
    those of a run without interruption if the data are, so start them at
    `completed_epochs` (and shuffle by the number of the epoch: of a
    `keras.utils.PyDataset` that draws a new order in `on_epoch_end`, batches
    of the next epoch may have been made before). Unlike Keras' own, the backup
    stays after training, so that what follows it can be interrupted as well.
    The same script run again therefore trains nothing, with a warning, until
    `remove` is called.

    Put it last among the callbacks, so that a completed epoch is one whose
    other files are written.

    Args:
        folder: Where the backups are kept, a folder of their own.
        read_only: Restores and writes nothing, for all but one of several
            workers that share the folder.
        run: What tells this training from others, a dictionary of JSON, empty
            if nothing does. By default what `fit` is known to be: its number
            of epochs and, where the data say it, of steps. The class of the
            optimizer is known in any case.

    Raises:
        ValueError: If the model is not built; or if the folder holds the
            backup of another model, whose variables have other shapes, of
            another optimizer, or of another `run`. Nothing is changed then.
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

    def __init__(
        self,
        folder: str | os.PathLike[str],
        read_only: bool = False,
        run: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.folder = pathlib.Path(folder)
        self.read_only = read_only
        self.run = run
        self._written_for = (None, None)

    @property
    def completed_epochs(self) -> int:
        """Epochs in the last whole backup; 0 where there is none."""
        return max(self._whole(), default=0)

    def on_train_begin(self, logs=None):
        if not self.model.variables:
            raise ValueError(
                "AtomicBackup needs a model whose weights exist before "
                "training, to restore them. Start the model with "
                "keras.Input(...), or call it once. Received: "
                f"'{self.model.name}', which is not built"
            )
        completed = self.completed_epochs
        if not completed:
            return
        folder = self._path(completed)
        there = json.loads((folder / _DESCRIPTION).read_text())
        continues = self._written_for == (self.model, self.model.optimizer)
        if not continues:
            self._check_same(there)
        self._keras_backup(folder).on_train_begin()
        if not continues and (folder / _STOPPED).exists():
            completed = self.model._initial_epoch = self.params["epochs"]
        if not continues and completed >= self.params["epochs"]:
            self._warn_of_end(completed)
        _load_random_states(self.model, folder / _RANDOM_STATES)
        note_completed_batches(self.model, there["completed_batches"])

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        self.model._initial_epoch = None

    def on_train_end(self, logs=None):
        # Keras would begin every later `fit` of the model at that epoch.
        self.model._initial_epoch = None
        last = self._path(self.completed_epochs)
        if self.model.stop_training and last.exists() and not self.read_only:
            (last / _STOPPED).touch()  # by another callback, before the end

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        if self.read_only:
            return
        final = self._path(epoch + 1)
        beside = final.with_name(f"partial-{final.name}")
        with unharmed(self.folder, beside):
            shutil.rmtree(beside, ignore_errors=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            check_room(beside, self.model)
            self._keras_backup(beside).on_epoch_end(epoch, logs)
            _save_random_states(self.model, beside / _RANDOM_STATES)
            description = {
                **self._description(),
                "completed_batches": completed_batches(self.model),
            }
            (beside / _DESCRIPTION).write_text(json.dumps(description))
            for file in beside.iterdir():
                flush(file)
            _discard(final)
            beside.replace(final)
        self._written_for = self.model, self.model.optimizer
        for epochs in self._whole():
            if epochs != epoch + 1:
                _discard(self._path(epochs))

    def _description(self):
        """What makes a training the same, where it can be known."""
        run = self.run
        if run is None:
            known = {name: self.params[name] for name in ("epochs", "steps")}
            run = {k: v for k, v in known.items() if v is not None}
        shapes = [list(variable.shape) for variable in self.model.variables]
        run = {**run, "optimizer": type(self.model.optimizer).__name__}
        text = json.dumps({"run": run, "variables": shapes}, default=str)
        return json.loads(text)

    def _warn_of_end(self, completed):
        warnings.warn(
            f"'{self.folder}' holds the backup of a training that has come to "
            f"its end, after {completed} epochs: it is restored, nothing is "
            "trained, and the history is empty. To train anew, remove it "
            "first: AtomicBackup(folder).remove().",
            stacklevel=3,
        )

    def _check_same(self, there):
        here = self._description()
        names = here["run"].keys() | there["run"].keys()
        if self.run is None:
            names = here["run"].keys() & there["run"].keys()
        different = [
            f"{name}: {there['run'].get(name)} there, "
            f"{here['run'].get(name)} here"
            for name in sorted(names)
            if there["run"].get(name) != here["run"].get(name)
        ]
        if here["variables"] != there["variables"]:
            different.append(
                f"a model of {_size(there)} there, of {_size(here)} here"
            )
        if different:
            raise ValueError(
                f"'{self.folder}' holds the backup of another training. "
                f"Received: {'; '.join(different)}. Repeat that training as it "
                "was, choose another folder, or remove the backup: "
                "AtomicBackup(folder).remove(). Nothing was changed."
            )

    def remove(self) -> None:
        """Removes the backup, when nothing is left to be done.

        The folder goes as well, unless there are other files in it.
        """
        if self.read_only or not self.folder.exists():
            return
        for path in [*self.folder.glob("*epochs-*")]:
            if _OWN.fullmatch(path.name):
                _discard(path)
        with contextlib.suppress(OSError):  # what is not ours stays
            self.folder.rmdir()

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


def _discard(path):
    """Removes a folder; what is left by a kill has another name."""
    if path.exists():
        removed = path.with_name(f"removed-{path.name}")
        shutil.rmtree(removed, ignore_errors=True)
        path.rename(removed)
        shutil.rmtree(removed)


def _size(description):
    shapes = description["variables"]
    numbers = sum(map(math.prod, shapes))
    return f"{len(shapes)} variables with {numbers:,} numbers"


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
