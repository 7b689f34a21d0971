"""Sparsity layer by layer, as a schedule says.

The callbacks change variables, never Python attributes, because a compiled
step sees only variables; and they are functions of the epoch or of the batches
counted, so that a resumed run continues where it stopped.
"""

import math
import warnings
from collections.abc import Callable

from mpt_keras import schedules
from mpt_keras.callbacks.batch_count import (
    BatchCountingCallback,
    completed_batches,
)
from mpt_keras.callbacks.masked_model_callback import (
    Layers,
    MaskedModelCallback,
    overall_sparsity,
)


class SparsitySchedule(MaskedModelCallback, BatchCountingCallback):
    """Sets the sparsity of every masked layer as a schedule says.

    Each layer prunes `floor(schedule(time) * n)` of its own `n` weights. The
    sparsity in force is written to `logs["sparsity"]` (fraction pruned) at
    the end of every epoch.

    Args:
        schedule: Callable, time -> sparsity in [0, 1); one of
            `mpt_keras.schedules` or your own.
        per: `"epoch"` or `"step"`: what the schedule counts. A step is a
            batch; the count goes on from one `fit` to the next with the same
            optimizer, and in a run that `AtomicBackup` resumes. With
            `steps_per_execution` it advances that many at a time.
        layers: None for every masked layer that trains; or layers, names or
            patterns such as `"stage4_*"`.

    A warning says so if the training ends before the schedule does.

    Raises:
        ValueError: If `per` is unknown, the model has no such layer, or the
            schedule gives a value outside [0, 1).

    Example:

    >>> ramp = mpt_keras.schedules.Polynomial(0.0, 0.5, end=2, power=1)
    >>> callback = mpt_keras.callbacks.SparsitySchedule(ramp)
    >>> history = model.fit(
    ...     images, labels, epochs=3, callbacks=[callback], verbose=0
    ... )
    >>> history.history["sparsity"]
    [0.0, 0.25, 0.5]
    """

    def __init__(
        self,
        schedule: Callable[[int], float],
        per: str = "epoch",
        layers: Layers = None,
    ) -> None:
        super().__init__(layers)
        check_callable(schedule)
        if per not in ("epoch", "step"):
            raise ValueError(
                "Invalid value for argument `per`. Expected 'epoch' or "
                f"'step'. Received: per={per!r}"
            )
        self.schedule = schedule
        self.per = per

    def on_train_begin(self, logs=None):
        before = completed_batches(self.model) if self.per == "step" else 0
        warn_of_early_end(self.schedule, self.per, self.params, before)

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        if self.per == "epoch":
            self._set(self.schedule(epoch))

    def on_train_batch_begin(self, batch, logs=None):
        if self.per == "step":
            self._set(self.schedule(self.batches_before_epoch + batch))

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        if logs is not None:
            logs["sparsity"] = overall_sparsity(self.model)

    def _set(self, sparsity):
        for layer in self.chosen_layers:
            layer.sparsity = sparsity


def check_callable(schedule):
    """Raises `ValueError` if a schedule is not one."""
    if not callable(schedule):
        raise ValueError(
            "Invalid value for argument `schedule`. Expected a callable, time "
            "-> sparsity, such as mpt_keras.schedules.Constant(0.8). Received: "
            f"schedule={schedule!r}"
        )


def warn_of_early_end(schedule, per, params, before=0):
    """Warns if a `fit` ends before its schedule is at its final sparsity.

    Args:
        schedule: The schedule.
        per: What it counts.
        params: Those of the callback.
        before: Steps of earlier calls of `fit`.
    """
    final = schedules.final_sparsity(schedule)
    times = params["epochs"]
    if per == "step":
        steps = params["steps"]
        times = before + times * steps if steps else None
    if final is None or times is None:
        return
    last = schedule(times - 1)
    if not math.isclose(last, final):
        warnings.warn(
            f"Training ends at {per} {times - 1}, with a sparsity of "
            f"{last:.4g}, before its schedule has come to {final:.4g}: "
            f"{schedule}. Train longer, or give the schedule fewer {per}s.",
            stacklevel=3,
        )
