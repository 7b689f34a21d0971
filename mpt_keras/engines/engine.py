"""What each format is to `export`: written, read by its engine, looked into."""

import abc
import dataclasses
import fnmatch
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import keras
import numpy as np

from mpt_keras.engines.inputs import ModelInput
from mpt_keras.engines.report import LayerReport, size

# Arrays of a batch, one per input of the model -> arrays, one per output.
Runner = Callable[[Sequence[np.ndarray]], list[np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Engine(abc.ABC):
    """One format; its fields are the options of that format.

    Attributes:
        name: The format's.
        ending: Of the file's name; of a folder, an empty string.
        holds: Of a folder, a file that is in every one of this format.
        contents: Of a folder, patterns of all that may be in it.
        patterns: Characters that the engine cannot read in a path.
        backends: Keras backends from which Keras writes it.
        fixed: Whether every dimension but the batch must be known.
    """

    name: ClassVar[str]
    ending: ClassVar[str] = ""
    holds: ClassVar[str] = ""
    contents: ClassVar[tuple[str, ...]] = ()
    patterns: ClassVar[str] = ""
    backends: ClassVar[tuple[str, ...]] = ("tensorflow",)
    fixed: ClassVar[bool] = False

    def tolerance(self, model: keras.Model) -> float:
        """Difference to accept, as a fraction of the largest output."""
        types = {layer.compute_dtype for layer in model._flatten_layers()}
        return 0.01 if types & {"float16", "bfloat16"} else 1e-4

    def exact(self) -> "Engine | None":
        """The same weights for exact arithmetic; None where this is that."""
        return None

    @abc.abstractmethod
    def require(self) -> None:
        """Raises `ImportError` where the engine is not installed."""

    def check(self, model: keras.Model) -> None:  # noqa: B027
        """Raises `ValueError` for a model that the engine gets wrong."""

    @abc.abstractmethod
    def write(self, model: keras.Model, path: pathlib.Path) -> None:
        """Writes a frozen model."""

    def write_of(
        self, model: keras.Model, frozen: keras.Model, path: pathlib.Path
    ) -> None:
        """Writes a frozen model, knowing what it was before.

        Args:
            model: The model, masked or as `frozen`.
            frozen: What is written.
            path: The file or folder.
        """
        self.write(frozen, path)

    @abc.abstractmethod
    def load(
        self,
        path: pathlib.Path,
        sources: Sequence[ModelInput],
        threads: int | None = None,
    ) -> Runner:
        """Reads what was written, with nothing but the engine.

        Args:
            path: The file or folder.
            sources: The model's inputs, in their order.
            threads: How many to compute with, or None for the engine's choice.
        """

    @abc.abstractmethod
    def layers(
        self, model: keras.Model, path: pathlib.Path
    ) -> tuple[LayerReport, ...]:
        """Looks up every kernel of the model in what was written."""

    def foreign(self, path: pathlib.Path) -> str:
        """What at a path is no export of this format, and would be lost.

        Args:
            path: A file or folder that exists.

        Returns:
            A description of it; empty where it is an earlier export.
        """
        if self.ending:
            return "" if path.is_file() else "a folder"
        if not path.is_dir():
            return "a file"
        if not (path / self.holds).exists():
            return f"a folder without {self.holds}"
        for found in sorted(path.rglob("*")):
            name = found.relative_to(path).as_posix()
            if not any(fnmatch.fnmatch(name, one) for one in self.contents):
                return f"a folder that also holds '{name}'"
        return ""

    def size(self, path: pathlib.Path) -> int:
        """Bytes of what the engine loads, as a rule those on the disk."""
        return size(path)

    def notes(self, model: keras.Model, path: pathlib.Path) -> tuple[str, ...]:
        """What whoever runs the file should know."""
        return ()


def in_order(outputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """An engine's outputs by name, in the order of the model's.

    Keras counts those of a list, `output_0`, `output_1`, ..., and sorts those
    of a dictionary as text, as `keras.tree.flatten` does.

    Example:

    >>> in_order({"head_9": np.array(9), "head_10": np.array(10)})
    [array(10), array(9)]
    """
    counted = [f"output_{number}" for number in range(len(outputs))]
    is_list = outputs.keys() == set(counted)
    return [outputs[name] for name in (counted if is_list else sorted(outputs))]


def by_name(
    arrays: Sequence[np.ndarray],
    sources: Sequence[ModelInput],
    names: Sequence[str],
) -> dict[str, np.ndarray]:
    """Gives each of an engine's inputs its array.

    Args:
        arrays: In the order of `sources`.
        sources: The model's inputs.
        names: What the engine calls them; a single one may have any name.
    """
    if len(names) == 1:
        return {names[0]: arrays[0]}
    found = {
        source.name: array
        for source, array in zip(sources, arrays, strict=True)
    }
    if set(found) != set(names):
        raise ValueError(
            f"The engine calls the model's inputs otherwise. Expected "
            f"{sorted(found)}. Received: {sorted(names)}"
        )
    return found
