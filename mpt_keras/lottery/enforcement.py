"""Masks of an ordinary Keras model, held through training."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from mpt_keras.lottery.kernels import prunable_kernels
from mpt_keras.lottery.masks import check_fit


class Pruned(keras.constraints.Constraint):
    """Constraint `where(mask, constraint(w), 0)` of a kernel.

    Keras applies a weight's constraint after every step of an optimizer, so
    that what is pruned is exactly 0 whatever the optimizer's momentum says.
    Its averages (`use_ema=True`) need `PrunedAverages` as well. Set by
    `apply_masks`.

    Args:
        mask: Boolean array of the kernel's shape, True at the weights kept.
        constraint: The constraint that the kernel had before, or None.

    Example:

    >>> pruned = mpt_keras.lottery.Pruned(np.array([True, False]))
    >>> keras.ops.convert_to_numpy(pruned(np.array([-3.0, 5.0]))).tolist()
    [-3.0, 0.0]
    """

    def __init__(self, mask: Any, constraint: Any = None) -> None:
        self.mask = np.asarray(mask, bool)
        self.constraint = keras.constraints.get(constraint)

    def __call__(self, w: Any) -> Any:
        if self.constraint is not None:
            w = self.constraint(w)
        return _masked(w, self.mask)

    def get_config(self):
        constraint = self.constraint
        if constraint is not None:
            constraint = keras.constraints.serialize(constraint)
        return {"mask": self.mask.tolist(), "constraint": constraint}


class PrunedAverages(keras.callbacks.Callback):
    """Keeps what is pruned at 0 in an optimizer's averages of the weights.

    With `use_ema=True` Keras averages the weights before their constraints,
    and puts the averages in their place when `fit` ends. This callback prunes
    both before every evaluation and after every epoch. A `TicketSearch` has
    it among `level.callbacks`; without averages it does nothing.

    Example:

    >>> model = mpt_keras.models.lenet_300_100(masked=False)
    >>> weights = mpt_keras.lottery.kernel_values(model)
    >>> masks = mpt_keras.lottery.magnitude_masks(weights, 0.9)
    >>> mpt_keras.lottery.apply_masks(model, masks)
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> model.compile(keras.optimizers.Adam(use_ema=True), loss)
    >>> averages = mpt_keras.lottery.PrunedAverages()
    >>> history = model.fit(
    ...     digits, digit_labels, callbacks=[averages], verbose=0
    ... )
    >>> kernel = mpt_keras.lottery.kernel_values(model)["logits"]
    >>> int((kernel != 0).sum())
    100
    """

    def on_test_begin(self, logs=None):
        self._prune()

    def on_epoch_end(self, epoch, logs=None):
        self._prune()

    def on_train_end(self, logs=None):
        self._prune()

    def _prune(self):
        # Both, because `SwapEMAWeights` may have exchanged them.
        for pair in _weights_and_averages(self.model.optimizer):
            constraint = pair[0].constraint
            if isinstance(constraint, Pruned):
                for variable in pair:
                    variable.assign(_masked(variable, constraint.mask))


def apply_masks(model: keras.Model, masks: Mapping[str, np.ndarray]) -> None:
    """Prunes a model: sets weights to 0, and holds them there.

    From now on every step of training ends with the pruned weights exactly
    0. (A compiled model must be compiled again, which a fresh optimizer needs
    anyway: its training step knows the masks of its first step.) An optimizer
    with `use_ema=True` needs `PrunedAverages` as well, because Keras ends
    `fit` with its averages. The masks are not saved with the model; the zeros
    are.

    Args:
        model: A built Keras model.
        masks: Name of a kernel, as in `prunable_kernels`, -> boolean array of
            its shape, True at the weights kept.

    Raises:
        ValueError: If names or shapes are others than the model's. Nothing
            is changed then.

    Example:

    >>> model = mpt_keras.models.lenet_300_100(masked=False)
    >>> weights = mpt_keras.lottery.kernel_values(model)
    >>> masks = mpt_keras.lottery.magnitude_masks(weights, 0.9)
    >>> mpt_keras.lottery.apply_masks(model, masks)
    """
    kernels = prunable_kernels(model)
    check_fit(masks, {name: k.shape for name, k in kernels.items()})
    for name, kernel in kernels.items():
        before = kernel.constraint
        if isinstance(before, Pruned):
            before = before.constraint
        kernel.constraint = Pruned(masks[name], before)
        kernel.assign(_masked(kernel, masks[name]))


def remove_masks(model: keras.Model) -> None:
    """Lets all weights train again; their values stay as they are.

    Args:
        model: A built Keras model, compiled again before it is trained.

    Example:

    >>> model = mpt_keras.models.lenet_300_100(masked=False)
    >>> mpt_keras.lottery.remove_masks(model)
    """
    for kernel in prunable_kernels(model).values():
        if isinstance(kernel.constraint, Pruned):
            kernel.constraint = kernel.constraint.constraint


def _masked(w, mask):
    w = ops.convert_to_tensor(w)
    return ops.where(mask, w, ops.zeros_like(w))


def _weights_and_averages(optimizer):
    """Pairs, also of the optimizers inside of one."""
    inside = [getattr(optimizer, "inner_optimizer", None)]
    for inner in inside + list(getattr(optimizer, "optimizers", ())):
        if inner is not None:
            yield from _weights_and_averages(inner)
    averages = getattr(optimizer, "_model_variables_moving_average", None)
    if averages:
        for pair in zip(optimizer._trainable_variables, averages, strict=True):
            if pair[1] is not None:
                yield pair
