"""Checkpoints that are whole at every moment."""

import os
import pathlib
import re
from typing import Any

import keras

from mpt_keras.callbacks.atomic import check_room, flush, remove, unharmed

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

    def __init__(
        self, filepath: str | os.PathLike[str], *args: Any, **kwargs: Any
    ) -> None:
        self.path = _local_path(filepath)
        name = _PLACEHOLDER.sub("N", self.path.name)
        self._beside = self.path.with_name(f"partial-{name}")
        super().__init__(self.path, *args, **kwargs)
        if self.save_freq != "epoch":
            raise ValueError(
                "AtomicCheckpoint saves at the end of an epoch. Expected "
                f"save_freq='epoch'. Received: save_freq={self.save_freq!r}"
            )

    def on_train_begin(self, logs=None):
        with unharmed(self.path, self._beside):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            remove(self._beside)

    def on_epoch_end(self, epoch, logs=None):
        with unharmed(self.path, self._beside):
            remove(self._beside)  # what a killed run left
            self._beside.mkdir(parents=True)
            check_room(self._beside, self.model)
            self.filepath = str(self._beside / self.path.name)
            try:
                super().on_epoch_end(epoch, logs)
            finally:
                self.filepath = str(self.path)
            for file in self._beside.iterdir():
                flush(file)
                file.replace(self.path.with_name(file.name))
            self._beside.rmdir()


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
