"""How much the masks still change, epoch by epoch."""

import numpy as np
from keras import ops

from mpt_keras.callbacks.masked_model_callback import (
    Layers,
    MaskedModelCallback,
)
from mpt_keras.layers.traversal import masked_kernels


class MaskChurn(MaskedModelCallback):
    """Logs the fraction of the mask that an epoch has changed.

    At the end of every epoch `logs["mask_churn"]` is the number of weights
    that the mask keeps now and did not at the end of the epoch before, or the
    reverse, divided by the number of all masked weights: a number in [0, 1],
    0 where the ticket stands still. The first epoch of a `fit` is compared
    with its own beginning.

    Put it behind `GlobalSparsity`, which finds its last masks at the end of an
    epoch, and before `SparsitySchedule`, which changes them at the beginning
    of one; then a run that was resumed logs what one without interruption
    does.

    Args:
        per_layer: Whether to log `mask_churn/<layer>` as well, each layer's
            changes divided by its own weights. A layer is called as in
            `mpt_keras.analysis.masks_of`.
        layers: None for all masked layers that train; or layers, names or
            patterns such as `"stage4_*"`.

    Raises:
        ValueError: If the model has no masked layer, or they are not built.

    Example:

    >>> callback = mpt_keras.callbacks.MaskChurn()
    >>> history = model.fit(
    ...     images, labels, epochs=3, callbacks=[callback], verbose=0
    ... )
    >>> len(history.history["mask_churn"])
    3
    """

    def __init__(self, per_layer: bool = False, layers: Layers = None) -> None:
        super().__init__(layers)
        self.per_layer = per_layer
        self._before = None

    def on_train_begin(self, logs=None):
        # Not yet the masks: a backup may still have to restore its own.
        self._before = None

    def on_epoch_begin(self, epoch, logs=None):
        if self._before is None:
            self._before = self._masks()

    def on_epoch_end(self, epoch, logs=None):
        masks = self._masks()
        changed = {
            name: int(np.count_nonzero(mask != self._before[name]))
            for name, mask in masks.items()
        }
        self._before = masks
        if logs is None:
            return
        weights = sum(mask.size for mask in masks.values())
        logs["mask_churn"] = sum(changed.values()) / weights
        if self.per_layer:
            for name, mask in masks.items():
                logs[f"mask_churn/{name}"] = changed[name] / mask.size

    def _masks(self):
        chosen = set(map(id, self.masked_kernels))
        return {
            name: np.asarray(ops.convert_to_numpy(masked.mask()))
            for name, masked in masked_kernels(self.model).items()
            if id(masked) in chosen
        }
