"""How far an engine's outputs lie from those of the Keras model."""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Differences:
    """Outputs of an engine beside those of Keras.

    For outputs `y` of the engine and `r` of Keras::

        absolute = max |y - r|
        relative = max |y - r| / max |r|
        ulp      = max |y - r| / (unit in the last place of max |r|, float32)

    each for the output of the model in which it is largest. A difference where
    one of the two is not a number is infinite, unless both are.

    Attributes:
        absolute: Largest difference.
        relative: The same, as a fraction of the largest output.
        ulp: The same, in units of the last place of the largest output.
        same_class: Fraction of the inputs whose largest output is at the same
            place; None where no output has several entries.
        inputs: Number of inputs compared.
    """

    absolute: float
    relative: float
    ulp: float
    same_class: float | None
    inputs: int


def differences(
    outputs: Sequence[np.ndarray], reference: Sequence[np.ndarray]
) -> Differences:
    """Compares the outputs of one batch.

    Args:
        outputs: Arrays of an engine, one for every output of the model, the
            batch first.
        reference: Those of Keras, in the same order.

    Raises:
        ValueError: If the number of outputs or a shape differs.

    Example:

    >>> found = differences([np.array([[1.0, 3.0]])], [np.array([[1.0, 4.0]])])
    >>> found.absolute, found.relative, found.same_class
    (1.0, 0.25, 1.0)
    """
    shapes = [np.shape(output) for output in outputs]
    expected = [np.shape(output) for output in reference]
    if shapes != expected:
        raise ValueError(
            f"The engine returns other outputs than the model. Expected shapes "
            f"{expected}. Received: {shapes}"
        )
    pairs = [
        (np.asarray(output, "float64"), np.asarray(other, "float64"))
        for output, other in zip(outputs, reference, strict=True)
    ]
    largest = [np.max(by_input(*pair), initial=0.0) for pair in pairs]
    scales = [scale(other) for _, other in pairs]
    units = [float(np.spacing(np.float32(number))) for number in scales]
    return Differences(
        absolute=float(max(largest)),
        relative=float(max(np.divide(largest, scales))),
        ulp=float(max(np.divide(largest, units))),
        same_class=_same_class(pairs),
        inputs=len(pairs[0][0]),
    )


def scale(reference: np.ndarray) -> float:
    """Largest magnitude of the outputs; 1 where all are 0."""
    finite = np.abs(reference[np.isfinite(reference)])
    return float(np.max(finite, initial=0.0)) or 1.0


def by_input(output: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Largest difference of each input of the batch."""
    both_nan = np.isnan(output) & np.isnan(reference)
    with np.errstate(invalid="ignore"):
        found = np.where(output == reference, 0.0, np.abs(output - reference))
    found = np.where(np.isnan(found), np.where(both_nan, 0.0, np.inf), found)
    return found.reshape(len(found), -1).max(axis=1, initial=0.0)


def _same_class(pairs):
    for output, other in pairs:
        if other.ndim > 1 and other.shape[-1] > 1:
            return float(np.mean(output.argmax(-1) == other.argmax(-1)))
    return None
