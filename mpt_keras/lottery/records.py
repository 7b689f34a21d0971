"""What a search tells its training, and what it finds."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from mpt_keras.analysis.masks import read_masks
from mpt_keras.callbacks.backup import AtomicBackup

MASKS = "masks.npz"


@dataclasses.dataclass(frozen=True)
class Level:
    """One training of a search: what its `train` function must know.

    Attributes:
        number: Rounds of pruning before this training; 0 is the dense
            network.
        name: `"ticket"`, or the name given to `retrain`.
        first_step: Steps that count as done: start data, learning rate and
            epochs there.
        folder: `pathlib.Path`, for whatever the training writes.
        callbacks: List of Keras callbacks that `fit` must be given.
        backup: An `AtomicBackup`; given to `fit` as the last callback, it
            lets an interrupted training continue after its last whole epoch
            (`backup.completed_epochs`).
    """

    number: int
    name: str
    first_step: int
    folder: pathlib.Path
    callbacks: list
    backup: AtomicBackup


@dataclasses.dataclass(frozen=True)
class Ticket:
    """A trained sub-network, as the files of its folder hold it.

    Attributes:
        number: Rounds of pruning before it; 0 is the dense network.
        name: `"ticket"`, or the name given to `retrain`.
        folder: `pathlib.Path` with `masks.npz` and `trained.npz`.
        weights: Number of prunable weights.
        kept: How many of them are kept.
        layers: Name of the kernel -> `{"weights": ..., "kept": ...}`.
        result: What `train` returned.
    """

    number: int
    name: str
    folder: pathlib.Path
    weights: int
    kept: int
    layers: Mapping
    result: Any

    @property
    def sparsity(self) -> float:
        """Fraction of the prunable weights that is pruned."""
        return 1.0 - self.kept / self.weights

    def masks(self):
        """Name of the kernel -> boolean array, True at the weights kept."""
        return read_masks(self.folder / MASKS)
