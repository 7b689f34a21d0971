"""One threshold over all masked layers."""

import math
import warnings
from collections.abc import Callable

from keras import ops

from mpt_keras import compilation, schedules
from mpt_keras.callbacks.masked_model_callback import (
    Layers,
    MaskedModelCallback,
    overall_sparsity,
)
from mpt_keras.callbacks.schedule import check_callable, warn_of_early_end
from mpt_keras.global_selection import shares_of_global_selection
from mpt_keras.layers.traversal import masked_layers
from mpt_keras.sparsity import check_sparsity, pruned_count


def prune_globally(model, sparsity):
    """Prunes a fraction of all masked weights, those of smallest scores.

    As `GlobalSparsity` does before a batch, once.

    Args:
        model: A built model with masked layers.
        sparsity: Number in [0, 1), the fraction of all weights pruned.
    """
    callback = GlobalSparsity(sparsity, layers=masked_layers(model))
    callback.set_model(model)
    callback.refresh()


@compilation.in_one_graph
def _shares(scores, kept, guess, minimum):
    shares, raw_shares, key = shares_of_global_selection(
        scores, kept, minimum, guess
    )
    return [shares[index] for index in range(len(scores))], raw_shares, key


class GlobalSparsity(MaskedModelCallback):
    """One threshold for the scores of all masked layers together.

    Of all `N` weights exactly `N - floor(sparsity * N)` are kept, those of
    largest `abs(score)` wherever they stand; ties are broken by layer, then
    by position. The threshold is found anew before every batch, before
    evaluation and prediction, and at the end of every epoch. What each layer
    keeps is stored in its `sparsity`, so a saved model needs no callback to
    predict; `evaluate` and `predict` by themselves set it back afterwards.
    Put it first among the callbacks: those that save or restore weights at
    the end of an epoch must come after it.

    Weights that are pruned or kept for ever (`frozen_pruned`, `frozen_kept`)
    count, and stay so.

    Args:
        sparsity: Number in [0, 1), the fraction of all weights pruned.
        schedule: Callable, epoch -> sparsity; instead of `sparsity`. The
            authors' ramp is `schedules.Polynomial(0.5, 0.95, end=10)`.
        minimum: Weights that every kernel keeps at least. A layer that would
            fall below is filled up, beyond the total, and a warning names it
            when it happens.
        layers: None for all masked layers that train; or layers, names or
            patterns such as `"stage4_*"`, which then share the threshold.

    A warning says so if the training ends before the schedule does.

    Raises:
        ValueError: If not exactly one of `sparsity` and `schedule` is given,
            a value is out of range or beyond what frozen weights allow, the
            model has no masked layer, or it was compiled with
            `steps_per_execution` other than 1 (there would be no moment
            between the batches).

    Example:

    >>> callback = mpt_keras.callbacks.GlobalSparsity(0.5)
    >>> history = model.fit(images, labels, callbacks=[callback], verbose=0)
    >>> history.history["sparsity"]
    [0.5]

    Reference:
        Diffenderfer et al., "A Winning Hand: Compressing Deep Networks Can
        Improve Out-of-Distribution Robustness", NeurIPS 2021.
    """

    def __init__(
        self,
        sparsity: float | None = None,
        schedule: Callable[[int], float] | None = None,
        minimum: int = 1,
        layers: Layers = None,
    ) -> None:
        super().__init__(layers)
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
            schedule = schedules.Constant(check_sparsity(sparsity))
        check_callable(schedule)
        self.schedule = schedule
        self.minimum = int(minimum)
        self.sparsity = sparsity

    def set_model(self, model):
        if model is not self._model:
            # Before the first epoch a schedule has nothing to say, and a model
            # that is only evaluated keeps the masks it was trained with.
            self.current_sparsity = self.sparsity
        super().set_model(model)
        # A new model, a new graph over its variables.
        self._assign_shares = compilation.in_graph(self._assign_shares_eagerly)
        # The last threshold, where the search for the next one starts.
        self._key = ops.convert_to_tensor(0, "int32")
        self._raw_shares = None
        self._already_named = set()
        self._is_training = False

    def on_train_begin(self, logs=None):
        if getattr(self.model, "steps_per_execution", 1) != 1:
            raise ValueError(
                "GlobalSparsity finds its threshold anew before every batch, "
                "so the model must be compiled with steps_per_execution=1. "
                f"Received: {self.model.steps_per_execution}"
            )
        warn_of_early_end(self.schedule, "epoch", self.params)
        self._is_training = True

    def on_train_end(self, logs=None):
        self._is_training = False
        if getattr(self.model.optimizer, "use_ema", False):
            self.refresh()  # for the averages that Keras has put in place

    def on_epoch_begin(self, epoch, logs=None):
        self.current_sparsity = self.schedule(epoch)

    def on_train_batch_begin(self, batch, logs=None):
        # Those of the batch before: nobody has to wait for them any more.
        self._warn_of_starved_layers(f" in batch {batch}" if batch else "")
        self.refresh()

    def on_test_begin(self, logs=None):
        if not self._is_training:
            self._pruned_before = [
                ops.copy(masked.pruned) for masked in self.masked_kernels
            ]
        self.refresh()
        self._warn_of_starved_layers()

    def on_test_end(self, logs=None):
        if not self._is_training:
            kernels = self.masked_kernels
            for masked, pruned in zip(
                kernels, self._pruned_before, strict=True
            ):
                masked.pruned.assign(pruned)

    def on_predict_begin(self, logs=None):
        self.on_test_begin()

    def on_predict_end(self, logs=None):
        self.on_test_end()

    def on_epoch_end(self, epoch, logs=None):
        self.refresh()
        self._warn_of_starved_layers()
        if logs is not None:
            logs["sparsity"] = overall_sparsity(self.model)

    def refresh(self):
        """Finds the threshold for the scores as they are now, and sets it."""
        if self.current_sparsity is None:
            return
        kernels = self.masked_kernels
        total = sum(masked.size for masked in kernels)
        pruned = pruned_count(self.current_sparsity, total)
        self._check_frozen_parts_allow(pruned, total)
        self._raw_shares, self._key = self._assign_shares(
            ops.convert_to_tensor(total - pruned, "int32"), self._key
        )

    def _assign_shares_eagerly(self, kept, guess):
        kernels = self.masked_kernels
        frozen = any(masked.frozen is not None for masked in kernels)
        shares, raw_shares, key = _shares(
            [masked.compared_scores(among_frozen=frozen) for masked in kernels],
            kept,
            guess,
            minimum=tuple(map(self._least, kernels)),
        )
        for masked, share in zip(kernels, shares, strict=True):
            masked.set_kept(share)
        return raw_shares, key

    def _least(self, masked):
        return min(self.minimum, masked.most_kept)

    def _check_frozen_parts_allow(self, pruned, total):
        parts = [
            masked.frozen_part
            for masked in self.masked_kernels
            if masked.frozen_part is not None
        ]
        fewest = sum(part.pruned for part in parts)
        most = total - sum(part.kept for part in parts)
        if not fewest <= pruned <= most:
            raise ValueError(
                f"Of {total} weights under one threshold, {fewest} are pruned "
                f"and {total - most} are kept for ever (frozen_pruned, "
                "frozen_kept). Expected a global sparsity between "
                f"{fewest / total:.6g} and {most / total:.6g}. Received: "
                f"{self.current_sparsity}"
            )

    def _warn_of_starved_layers(self, when=""):
        if self._raw_shares is None:
            return
        raw_shares = ops.convert_to_numpy(self._raw_shares)
        for masked, share in zip(self.masked_kernels, raw_shares, strict=True):
            least = self._least(masked)
            path = masked.kernel.path
            if share < least and path not in self._already_named:
                self._already_named.add(path)
                warnings.warn(
                    f"Layer '{masked.layer_name}' would keep {share} of its "
                    f"{math.prod(masked.kernel.shape)} weights ({path}) under "
                    f"a global sparsity of {self.current_sparsity:.4g}{when}; "
                    f"it is kept alive with {least}. Consider a ramp "
                    "(`schedule=mpt_keras.schedules.Polynomial(...)`), a lower "
                    "sparsity, or a larger `minimum`.",
                    stacklevel=2,
                )
