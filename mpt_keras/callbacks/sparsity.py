"""Sparsity during training: layer-wise schedules, one global threshold.

The callbacks change variables, never Python attributes, because a compiled
step sees only variables; and they are functions of the epoch or of the
optimizer's step counter, so that a resumed run continues where it stopped.
"""

import math
import warnings

from keras import ops

from mpt_keras import _fusion, schedules, selection
from mpt_keras.callbacks.of_masked_models import OfMaskedModels
from mpt_keras.callbacks.running_fit import (
    completed_batches,
    take_back_variables,
)
from mpt_keras.layers.traversal import masked_layers


class _SparsityCallback(OfMaskedModels):
    """What both callbacks share: the log entry."""

    def _log_sparsity(self, logs):
        if logs is not None:
            logs["sparsity"] = overall_sparsity(self.model)


def _check_callable(schedule):
    if not callable(schedule):
        raise ValueError(
            "Invalid value for argument `schedule`. Expected a callable, time "
            "-> sparsity, such as mpt_keras.schedules.Constant(0.8). Received: "
            f"schedule={schedule!r}"
        )


def overall_sparsity(model) -> float:
    """Returns the fraction of all masked weights that is pruned now.

    Args:
        model: A built Keras model with masked layers.
    """
    kernels = [
        m for layer in masked_layers(model) for m in layer.masked_kernels
    ]
    kept = sum(int(masked.kept()) for masked in kernels)
    return 1.0 - kept / sum(masked.size for masked in kernels)


class SparsitySchedule(_SparsityCallback):
    """Sets the sparsity of every masked layer as a schedule says.

    Each layer prunes `floor(schedule(time) * n)` of its own `n` weights. The
    sparsity in force is written to `logs["sparsity"]` (fraction pruned) at
    the end of every epoch.

    Args:
        schedule: Callable, time -> sparsity in [0, 1); one of
            `mpt_keras.schedules` or your own.
        per: `"epoch"` or `"step"`: what the schedule counts. A step is a
            batch; the count comes from the optimizer, so it continues in a
            resumed run. With `steps_per_execution` it advances that many at
            a time.

    Raises:
        ValueError: If `per` is unknown, the model has no masked layer, or
            the schedule gives a value outside [0, 1).

    Example:

    >>> ramp = mpt_keras.schedules.Polynomial(0.0, 0.9, end=20)
    >>> callback = mpt_keras.callbacks.SparsitySchedule(ramp)
    >>> history = model.fit(images, labels, callbacks=[callback], verbose=0)
    >>> history.history["sparsity"]
    [0.0]
    """

    def __init__(self, schedule, per="epoch"):
        super().__init__()
        _check_callable(schedule)
        if per not in ("epoch", "step"):
            raise ValueError(
                "Invalid value for argument `per`. Expected 'epoch' or "
                f"'step'. Received: per={per!r}"
            )
        self.schedule = schedule
        self.per = per
        self._steps_before_epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        if self.per == "epoch":
            self._set(self.schedule(epoch))
        else:
            self._steps_before_epoch = completed_batches(self.model)

    def on_train_batch_begin(self, batch, logs=None):
        if self.per == "step":
            self._set(self.schedule(self._steps_before_epoch + batch))

    def on_epoch_end(self, epoch, logs=None):
        self._log_sparsity(logs)

    def _set(self, sparsity):
        take_back_variables(self.model)
        for masked in self.masked_kernels:
            masked.set_sparsity(sparsity)


@_fusion.jitted
def _shares(scores, kept, guess, minimum):
    shares, raw_shares, key = selection.shares_of_global_selection(
        scores, kept, minimum, guess
    )
    return [shares[index] for index in range(len(scores))], raw_shares, key


class GlobalSparsity(_SparsityCallback):
    """One threshold for the scores of all masked layers together.

    Of all `N` weights exactly `N - floor(sparsity * N)` are kept, those of
    largest `abs(score)` wherever they stand; ties are broken by layer, then
    by position. The threshold is found anew before every batch, before
    evaluation and prediction, and at the end of every epoch. What each layer
    keeps is stored in its `sparsity`, so a saved model needs no callback to
    predict. Put it first among the callbacks: those that save or restore
    weights at the end of an epoch must come after it.

    Args:
        sparsity: Number in [0, 1), the fraction of all weights pruned.
        schedule: Callable, epoch -> sparsity; instead of `sparsity`. The
            authors' ramp is `mpt_keras.schedules.CubicRamp(0.95)`.
        minimum: Weights that every kernel keeps at least. A layer that would
            fall below is filled up, beyond the total, and a warning names it
            when it happens.

    Raises:
        ValueError: If not exactly one of `sparsity` and `schedule` is given,
            a value is out of range, the model has no masked layer, or it was
            compiled with `steps_per_execution` other than 1 (there would be
            no moment between the batches).

    Example:

    >>> callback = mpt_keras.callbacks.GlobalSparsity(0.5)
    >>> history = model.fit(images, labels, callbacks=[callback], verbose=0)
    >>> history.history["sparsity"]
    [0.5]

    Reference:
        Diffenderfer et al., "A Winning Hand: Compressing Deep Networks Can
        Improve Out-of-Distribution Robustness", NeurIPS 2021.
    """

    def __init__(self, sparsity=None, schedule=None, minimum=1):
        super().__init__()
        if (sparsity is None) == (schedule is None):
            raise ValueError(
                "GlobalSparsity needs either `sparsity` or `schedule`. "
                f"Received: sparsity={sparsity!r}, schedule={schedule!r}"
            )
        if minimum < 1:
            raise ValueError(
                "Invalid value for argument `minimum`. Expected at least 1 "
                f"weight. Received: minimum={minimum!r}"
            )
        if schedule is None:
            schedule = schedules.Constant(selection.check_sparsity(sparsity))
        _check_callable(schedule)
        self.schedule = schedule
        self.minimum = int(minimum)
        # Before the first epoch a schedule has nothing to say, and a model
        # that is only evaluated keeps the masks it was trained with.
        self.current_sparsity = sparsity

    def set_model(self, model):
        super().set_model(model)
        # A new model, a new graph over its variables.
        self._assign_shares = _fusion.in_graph(self._assign_shares_eagerly)
        # The last threshold, where the search for the next one starts.
        self._key = ops.convert_to_tensor(0, "int32")
        self._raw_shares = None
        self._already_named = set()

    def on_train_begin(self, logs=None):
        if getattr(self.model, "steps_per_execution", 1) != 1:
            raise ValueError(
                "GlobalSparsity finds its threshold anew before every batch, "
                "so the model must be compiled with steps_per_execution=1. "
                f"Received: {self.model.steps_per_execution}"
            )

    def on_epoch_begin(self, epoch, logs=None):
        self.current_sparsity = self.schedule(epoch)

    def on_train_batch_begin(self, batch, logs=None):
        # Those of the batch before: nobody has to wait for them any more.
        self._warn_of_starved_layers(f" in batch {batch}" if batch else "")
        self.refresh()

    def on_test_begin(self, logs=None):
        self.refresh()
        self._warn_of_starved_layers()

    def on_predict_begin(self, logs=None):
        self.refresh()

    def on_epoch_end(self, epoch, logs=None):
        self.refresh()
        self._warn_of_starved_layers()
        self._log_sparsity(logs)

    def refresh(self):
        """Finds the threshold for the scores as they are now, and sets it."""
        if self.current_sparsity is None:
            return
        take_back_variables(self.model)
        total = sum(masked.size for masked in self.masked_kernels)
        pruned = selection.pruned_count(self.current_sparsity, total)
        self._raw_shares, self._key = self._assign_shares(
            ops.convert_to_tensor(total - pruned, "int32"), self._key
        )

    def _assign_shares_eagerly(self, kept, guess):
        shares, raw_shares, key = _shares(
            [ops.copy(masked.scores) for masked in self.masked_kernels],
            kept,
            guess,
            minimum=self.minimum,
        )
        for masked, share in zip(self.masked_kernels, shares, strict=True):
            masked.set_kept(share)
        return raw_shares, key

    def _warn_of_starved_layers(self, when=""):
        if self._raw_shares is None:
            return
        raw_shares = ops.convert_to_numpy(self._raw_shares)
        for masked, share in zip(self.masked_kernels, raw_shares, strict=True):
            least = min(self.minimum, masked.size)
            path = masked.kernel.path
            if share < least and path not in self._already_named:
                self._already_named.add(path)
                warnings.warn(
                    f"Layer '{masked.layer_name}' would keep {share} of its "
                    f"{math.prod(masked.kernel.shape)} weights ({path}) under "
                    f"a global sparsity of {self.current_sparsity:.4g}{when}; "
                    f"it is kept alive with {least}. Consider a ramp "
                    "(`schedule=mpt_keras.schedules.CubicRamp(...)`), a lower "
                    "sparsity, or a larger `minimum`.",
                    stacklevel=2,
                )
