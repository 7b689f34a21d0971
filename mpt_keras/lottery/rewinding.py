"""The states that a ticket goes back to: kept, restored, drawn anew."""

import io
import os
import pathlib
import zipfile
from typing import Any

import keras
import numpy as np
from keras import ops

from mpt_keras import files
from mpt_keras.callbacks.batch_count import BatchCountingCallback
from mpt_keras.initial_values import reseeded
from mpt_keras.layers.ordinary import kernels_and_initializers
from mpt_keras.seeds import derived_seed


def save_state(model, path):
    """Saves all variables of a model as they are, never half a file.

    Weights, statistics of batch norms, states of random generators; not the
    optimizer's, which begins anew with every ticket.

    Args:
        model: A built Keras model.
        path: `pathlib.Path` that ends in `.npz`.
    """
    file = io.BytesIO()
    np.savez(file, *map(ops.convert_to_numpy, model.variables))
    files.write_whole(path, file.getvalue())


def load_state(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Sets all variables of a model to a state that was saved, bit for bit.

    Args:
        model: A built Keras model.
        path: A file that a `TicketSearch` wrote, such as `initial.npz` in its
            folder.

    Raises:
        ValueError: If the file is damaged or that of another model. Nothing
            is changed then.

    Example:

    >>> model = mpt_keras.models.lenet_300_100(masked=False)
    >>> search = mpt_keras.lottery.TicketSearch(model, None, "search")
    >>> again = mpt_keras.models.lenet_300_100(masked=False)
    >>> mpt_keras.lottery.load_state(again, "search/initial.npz")
    >>> search = mpt_keras.lottery.TicketSearch(again, None, "search")
    """
    values = _read_state(model, path)
    for variable, value in zip(model.variables, values, strict=True):
        variable.assign(value)


def changed_variables(model, path):
    """Paths of the variables whose values are others than those saved.

    Args:
        model: A built Keras model.
        path: What `save_state` wrote.

    Raises:
        ValueError: As for `load_state`.
    """
    values = _read_state(model, path)
    return [
        variable.path
        for variable, value in zip(model.variables, values, strict=True)
        if not np.array_equal(ops.convert_to_numpy(variable), value)
    ]


def _read_state(model, path):
    path = pathlib.Path(path)
    try:
        with path.open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            values = [arrays[f"arr_{i}"] for i in range(len(arrays.files))]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"Cannot read the state of '{model.name}' from '{path}': {error}. "
            "Remove the folder that holds it, to begin anew."
        ) from error
    shapes = [tuple(variable.shape) for variable in model.variables]
    if shapes != [value.shape for value in values]:
        raise ValueError(
            f"'{path}' holds the state of another model than '{model.name}'. "
            f"Expected variables of the shapes {shapes}. Received: "
            f"{[value.shape for value in values]}"
        )
    return [
        # NumPy does not know bfloat16.
        value.view(ops.convert_to_numpy(variable).dtype)
        if value.dtype.kind == "V"
        else value
        for variable, value in zip(model.variables, values, strict=True)
    ]


class SaveStateAt(BatchCountingCallback):
    """Saves a model's variables after a number of steps of training.

    Args:
        model: Keras model whose variables are saved; it may be a part of the
            one that is trained.
        step: Integer from 1 on, counted from the beginning of training.
        path: `pathlib.Path` that ends in `.npz`.

    Raises:
        ValueError: If training passes over the step, because several steps
            are executed at a time.

    Reference:
        Frankle et al., "Linear Mode Connectivity and the Lottery Ticket
        Hypothesis", ICML 2020.
    """

    def __init__(self, model, step, path):
        super().__init__()
        self._saved_model = model
        self.step = step
        self.path = path

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        if self.batches_before_epoch + batch + 1 == self.step:
            _ = self.model  # on JAX, this brings back what `fit` holds
            save_state(self._saved_model, self.path)

    def on_train_begin(self, logs=None):
        together = getattr(self.model, "steps_per_execution", 1)
        if self.step % together:
            raise ValueError(
                f"The state after step {self.step} cannot be kept when "
                f"{together} steps are executed at a time. Expected a "
                "multiple of steps_per_execution."
            )


@keras.saving.register_keras_serializable(package="mpt_keras")
class Advanced(keras.optimizers.schedules.LearningRateSchedule):
    """A learning-rate schedule that begins at a later step.

    `rate(step) = schedule(first_step + step)`, for the fresh optimizer of a
    ticket that was set back to `first_step`.

    Args:
        schedule: `keras.optimizers.schedules.LearningRateSchedule`.
        first_step: Integer from 0 on, such as `level.first_step`.

    Example:

    >>> decay = keras.optimizers.schedules.PolynomialDecay(1.0, 100, 0.0)
    >>> float(mpt_keras.lottery.Advanced(decay, first_step=40)(10))
    0.5
    """

    def __init__(self, schedule: Any, first_step: int) -> None:
        super().__init__()
        self.schedule = schedule
        self.first_step = int(first_step)

    def __call__(self, step):
        return self.schedule(step + self.first_step)

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            "schedule": serialize(self.schedule),
            "first_step": self.first_step,
        }

    @classmethod
    def from_config(cls, config):
        schedule = keras.saving.deserialize_keras_object(config["schedule"])
        return cls(schedule, config["first_step"])


def reinitialize(model: keras.Model, seed: int) -> None:
    """Draws the prunable kernels of a model anew.

    Each from its layer's own initializer, with another seed; everything else
    stays as it is. The control that tells what the initial weights are worth.

    Args:
        model: A built Keras model.
        seed: Integer from 0 on, of all kernels.

    Raises:
        ValueError: If a layer's initializer is not random.

    Example:

    >>> model = mpt_keras.models.lenet_300_100(masked=False)
    >>> mpt_keras.lottery.reinitialize(model, seed=1)

    Reference:
        Frankle and Carbin, ICLR 2019.
    """
    draws = []
    found = kernels_and_initializers(model)
    for number, (name, (kernel, initializer)) in enumerate(found.items()):
        draw = reseeded(
            initializer, derived_seed(seed, number), f" (layer '{name}')"
        )
        draws.append((kernel, draw))
    for kernel, draw in draws:
        kernel.assign(draw(tuple(kernel.shape), kernel.dtype))
