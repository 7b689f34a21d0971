"""What follows every epoch: a test, the seconds it took, files for users."""

import time

import keras

from mpt_keras.callbacks.checkpoint import AtomicCheckpoint
from mpt_keras.experiments import history


def saving(model, folder, backup):
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


class Seconds(keras.callbacks.Callback):
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


class Testing(keras.callbacks.Callback):
    """Evaluates on the test images after every epoch.

    What it finds is logged under `test_`, and chooses nothing.
    """

    def __init__(self, prepared, callbacks):
        super().__init__()
        self._images = prepared.images
        self._batch = prepared.evaluation_batch(prepared.images.test_count)
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
