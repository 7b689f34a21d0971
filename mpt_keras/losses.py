"""The loss of the ImageNet recipe, which Keras has for one-hot labels only."""

from typing import Any

import keras
from keras import ops

__all__ = ["SmoothedCrossentropy"]


@keras.saving.register_keras_serializable(package="mpt_keras")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy of logits and integer labels, with label smoothing.

    The probability asked for is `1 - label_smoothing` for the label's class,
    and `label_smoothing` is spread evenly over all classes.

    Args:
        label_smoothing: Number in [0, 1).
        reduction: As for every Keras loss.
        name: Name of the loss.
        dtype: Type of the loss's computations.

    Raises:
        ValueError: If `label_smoothing` is outside [0, 1).

    Example:

    >>> loss = mpt_keras.losses.SmoothedCrossentropy(0.1)
    >>> scores = np.array([[9.0, 0.0, 0.0]])
    >>> round(float(loss(np.array([0]), scores)), 3)
    0.6

    Reference:
        Szegedy et al., CVPR 2016.
    """

    def __init__(
        self,
        label_smoothing: float = 0.1,
        reduction: str | None = "sum_over_batch_size",
        name: str = "smoothed_crossentropy",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if not 0.0 <= label_smoothing < 1.0:
            raise ValueError(
                "Invalid value for argument `label_smoothing`. Expected a "
                "number in [0, 1). Received: "
                f"label_smoothing={label_smoothing!r}"
            )
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        labels = ops.cast(ops.reshape(y_true, ops.shape(y_pred)[:-1]), "int32")
        classes = y_pred.shape[-1]
        return keras.losses.categorical_crossentropy(
            ops.one_hot(labels, classes, dtype=y_pred.dtype),
            y_pred,
            from_logits=True,
            label_smoothing=self.label_smoothing,
        )

    def get_config(self):
        return {
            **super().get_config(),
            "label_smoothing": self.label_smoothing,
        }
