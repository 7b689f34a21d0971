"""What a search tells its trainings, what it finds, and what it was asked."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from mpt_keras import files
from mpt_keras.analysis.masks import read_masks
from mpt_keras.callbacks.backup import AtomicBackup

MASKS = "masks.npz"
TRAINING = "training.json"
TICKET = "ticket.json"


@dataclasses.dataclass(frozen=True)
class Level:
    """One training of a search: what its `train` function must know.

    Attributes:
        number: Rounds of pruning before this training; 0 is the dense
            network. (The last of them is another than a level's where `at`
            finds a sparsity.)
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
    callbacks: list[keras.callbacks.Callback]
    backup: AtomicBackup


@dataclasses.dataclass(frozen=True)
class Ticket:
    """A trained sub-network, as the files of its folder hold it.

    Attributes:
        number: Rounds of pruning before it, as of `Level`.
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

    def masks(self) -> dict[str, np.ndarray]:
        """Name of the kernel -> boolean array, True at the weights kept."""
        return read_masks(self.folder / MASKS)


def read_ticket(folder):
    """The `Ticket` in a folder, None where its training has not ended."""
    try:
        content = json.loads((folder / TICKET).read_text())
    except FileNotFoundError:
        return None
    layers = content["layers"]
    return Ticket(
        number=content["number"],
        name=content["name"],
        folder=folder,
        weights=sum(layer["weights"] for layer in layers.values()),
        kept=sum(layer["kept"] for layer in layers.values()),
        layers=layers,
        result=content["result"],
    )


def check_same_training(folder, masks, start, seed):
    """Raises `ValueError` where another one was begun in a folder."""
    if not (folder / TRAINING).exists():
        return
    there = json.loads((folder / TRAINING).read_text())
    different = differences(there, {"start": start, "seed": seed})
    before = read_masks(folder / MASKS)
    different += [
        f"{name}: another mask"
        for name, mask in masks.items()
        if not np.array_equal(before.get(name), mask)
    ]
    if different:
        raise ValueError(
            f"'{folder}' holds another training. Expected the same start, seed "
            "and masks, or another name; or remove that folder. Received: "
            f"{in_short(different)}. Nothing was changed."
        )


def differences(there, here, prefix=""):
    """Texts of what differs between two dictionaries, nested ones included."""
    found = []
    for name in {**there, **here}:
        pair = there.get(name), here.get(name)
        if all(isinstance(value, dict) for value in pair):
            found += differences(*pair, f"{prefix}{name}.")
        elif pair[0] != pair[1]:
            found.append(f"{prefix}{name}: {pair[0]} there, {pair[1]} here")
    return found


def in_short(different, most=5):
    more = len(different) - most
    rest = [f"and {more} more"] if more > 0 else []
    return "; ".join(different[:most] + rest)


def write_json(path, content):
    # NumPy's numbers are what a `train` returns easily.
    text = json.dumps(content, indent=2, default=lambda value: value.tolist())
    files.write_whole(path, f"{text}\n".encode())
