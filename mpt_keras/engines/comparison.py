"""Whether an engine agrees with a frozen Keras model, on one batch."""

import contextlib
import pathlib
from collections.abc import Iterator, Sequence

import keras
import numpy as np

from mpt_keras.engines.differences import (
    Differences,
    by_input,
    differences,
    scale,
)
from mpt_keras.engines.engine import Engine
from mpt_keras.engines.inputs import ModelInput, predict
from mpt_keras.engines.signs import sign_names, undecided


@contextlib.contextmanager
def refusing(engine: Engine, model: keras.Model) -> Iterator[None]:
    """Turns what an engine raises over what it cannot do into `ValueError`."""
    try:
        yield
    except (ImportError, OSError, MemoryError):
        raise
    except Exception as error:
        says = str(error)
        if not isinstance(error, ValueError):
            says = f"The engine says: {type(error).__name__}: {error}"
        kinds = {
            type(layer).__name__
            for layer in model._flatten_layers(include_self=False)
        } - {"InputLayer"}
        raise ValueError(
            f"format={engine.name!r} cannot hold '{model.name}', of layers "
            f"{', '.join(sorted(kinds))}, and nothing was written. {says}"
        ) from error


class Comparison:
    """A batch, and what a frozen model predicts for it.

    Args:
        model: The frozen model.
        sources: Its inputs.
        arrays: The batch, an array for each of them.

    Attributes:
        reference: What the model predicts for it.
    """

    def __init__(
        self,
        model: keras.Model,
        sources: Sequence[ModelInput],
        arrays: Sequence[np.ndarray],
    ):
        self._model = model
        self._sources = sources
        self._arrays = arrays
        self.reference = predict(model, arrays)

    def accepted(
        self, engine: Engine, path: pathlib.Path, tolerance: float
    ) -> tuple[Differences, int]:
        """Reloads an export in its engine and compares its outputs.

        Returns:
            The differences, and how many inputs were left out of them because
            rounding decides a sign in them.

        Raises:
            ValueError: If they are larger than the tolerance.
        """
        with refusing(engine, self._model):
            outputs = engine.load(path, self._sources)(self._arrays)
            found, left_out, is_accepted = self.compared(outputs, tolerance)
        if is_accepted:
            return found, int(left_out.sum())
        raise ValueError(self._refusal(engine, found, tolerance, left_out))

    def compared(
        self, outputs: Sequence[np.ndarray], tolerance: float
    ) -> tuple[Differences, np.ndarray, bool]:
        """Compares outputs of another with those of the model.

        Returns:
            The differences; which inputs differ by more than the tolerance
            where rounding decides a sign; and whether the others, half of them
            at least, agree. The differences are of these then.
        """
        found = differences(outputs, self.reference)
        if found.relative <= tolerance:
            return found, np.zeros(found.inputs, bool), True
        pairs = [
            (np.asarray(output, "float64"), np.asarray(other, "float64"))
            for output, other in zip(outputs, self.reference, strict=True)
        ]
        too_far = np.any(
            [by_input(*pair) > tolerance * scale(pair[1]) for pair in pairs],
            axis=0,
        )
        left_out = too_far & undecided(self._model, self._arrays)
        few = 2 * left_out.sum() <= len(left_out)
        if few and np.array_equal(left_out, too_far):
            kept = [[array[~left_out] for array in pair] for pair in pairs]
            return differences(*zip(*kept, strict=True)), left_out, True
        return found, left_out, False

    def _refusal(self, engine, found, tolerance, left_out):
        text = (
            f"format={engine.name!r} was not accepted for "
            f"'{self._model.name}': over {found.inputs} inputs its outputs "
            f"differ from Keras' by up to {found.absolute:.3g}, "
            f"{found.relative:.2g} of the largest output. Expected at most "
            f"{tolerance:.2g} (`tolerance`). Nothing was written."
        )
        if left_out.any():
            names = sign_names(self._model)
            text += (
                f" In {left_out.sum()} of the inputs an activation lies so "
                "near zero in front of a sign that rounding decides it, in "
                "each engine in another way: sums of {-a, +a} that cancel out. "
                "Batch norms in front of the signs move them off zero, once "
                "they have seen data. tolerance=float('inf') accepts whatever "
                "the engine computes. Signs: "
                f"{', '.join(names[:3])}{', ...' if names[3:] else ''}."
            )
        return text
