"""Stops a search that has gone wrong, while what it found is still there."""

import math

import keras
import numpy as np
from keras import ops

from mpt_keras.layers.traversal import masked_layers


class CheckFinite(keras.callbacks.Callback):
    """Stops training when the loss or a weight is NaN or infinite.

    The loss is looked at after every batch, the weights at the end of every
    epoch and as soon as the loss fails. Activations that are NaN reach the
    loss, also through the binary ones of `mpt_keras.quantizers`. A score that
    is NaN need not show in the loss: it ranks highest and its weight is kept.
    Put it before the callbacks that save: what they saved last is then still
    good.

    Raises:
        FloatingPointError: With the epoch, the batch, and the names of the
            layers whose scores or other weights are NaN or infinite, in the
            order of the model.

    Example:

    >>> callback = mpt_keras.callbacks.CheckFinite()
    >>> history = model.fit(images, labels, callbacks=[callback], verbose=0)
    """

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            self._stop(f"loss {loss} in batch {batch + 1}", self._not_finite())

    def on_epoch_end(self, epoch, logs=None):
        found = self._not_finite()
        if found:
            self._stop("weights that are no numbers", found)

    def _not_finite(self):
        """What is NaN or infinite, a list of texts."""
        model = self.model
        scores = {
            id(masked.scores): f"scores of layer '{layer.name}'"
            for layer in masked_layers(model)
            for masked in layer.masked_kernels
        }
        found = []
        for variable in model.weights:
            if not keras.backend.is_float_dtype(variable.dtype):
                continue
            if bool(ops.all(ops.isfinite(variable))):
                continue
            values = np.asarray(ops.convert_to_numpy(variable), "float32")
            what = scores.get(id(variable), f"weight '{variable.path}'")
            count = int((~np.isfinite(values)).sum())
            found.append(f"{what} ({count} of {values.size})")
        return found

    def _stop(self, what, where):
        raise FloatingPointError(
            f"Training has failed: {what} of epoch {self._epoch + 1}. NaN or "
            f"infinite: {', '.join(where) or 'no weight, the loss alone'}. "
            "Lower the learning rate, clip the gradients (`clipnorm`) or, in "
            "half precision, use bfloat16; and look for NaN among the inputs."
        )
