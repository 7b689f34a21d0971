"""What a run hands back: its folder, its figures, its model."""

import dataclasses
import pathlib
from collections.abc import Sequence

from mpt_keras.experiments import history


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run found.

    Attributes:
        folder: `pathlib.Path` of everything that it wrote.
        lines: One dictionary for each training, as `lines.jsonl` has them.
    """

    folder: pathlib.Path
    lines: Sequence[dict]

    @property
    def figures(self) -> dict:
        """Those of the last training: accuracies, weights kept, seconds."""
        return self.lines[-1]

    def history(self, line: dict | None = None) -> list[dict]:
        """The epochs of a training, by default the last one's."""
        return history.read(self._folder_of(line) / history.FILE)

    def model(self, line: dict | None = None):
        """The trained Keras model from raw images to class scores."""
        import keras

        return keras.models.load_model(self._folder_of(line) / "last.keras")

    def _folder_of(self, line):
        return self.folder / (line or self.figures)["folder"]
