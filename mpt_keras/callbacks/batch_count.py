"""How many batches a training has seen, in all its calls of `fit`.

The optimizer's counter does not tell: it stands still while gradients are
accumulated, and where a step in float16 is skipped.
"""

import weakref

import keras
from keras import ops

# Optimizer, or a model without one -> batches, and the optimizer's own count
# at that time.
_noted = weakref.WeakKeyDictionary()


def completed_batches(model) -> int:
    """Batches that a model's optimizer has been given, epoch by epoch.

    Where nobody counted, the updates times the batches accumulated for each.
    """
    optimizer = model.optimizer
    batches, updates = _noted.get(optimizer or model, (0, 0))
    accumulated = getattr(optimizer, "gradient_accumulation_steps", None) or 1
    return batches + (_updates(optimizer) - updates) * accumulated


def note_completed_batches(model, batches):
    """Says how many they are, as of now."""
    _noted[model.optimizer or model] = batches, _updates(model.optimizer)


def _updates(optimizer):
    if optimizer is None:
        return 0
    return int(ops.convert_to_numpy(optimizer.iterations))


class BatchCountingCallback(keras.callbacks.Callback):
    """Counts the batches; several of these count the same."""

    def on_epoch_begin(self, epoch, logs=None):
        self.batches_before_epoch = completed_batches(self.model)
        self._batches_in_epoch = 0

    def on_train_batch_end(self, batch, logs=None):
        self._batches_in_epoch = batch + 1

    def on_epoch_end(self, epoch, logs=None):
        note_completed_batches(
            self.model, self.batches_before_epoch + self._batches_in_epoch
        )
