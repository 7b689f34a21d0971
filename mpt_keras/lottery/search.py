"""Iterative magnitude pruning: train, prune, rewind, and again.

All that a search knows is in files of its folder, each written whole, so that
it continues wherever it stopped.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import keras

from mpt_keras.analysis.masks import read_masks, save_masks
from mpt_keras.callbacks.saving import AtomicBackup
from mpt_keras.lottery.enforcement import (
    apply_masks,
    kernel_values,
    prunable_kernels,
    remove_masks,
)
from mpt_keras.lottery.magnitude import Magnitude, random_masks
from mpt_keras.lottery.rewinding import (
    SaveStateAt,
    reinitialize,
    save_state,
)

CONTROLS = ("reinitialized", "random_masks")

_SEARCH = "search.json"
_TICKET = "ticket.json"
_MASKS = "masks.npz"
_INITIAL = "initial.weights.h5"
_REWIND = "rewind.weights.h5"
_TRAINED = "trained.weights.h5"


@dataclasses.dataclass(frozen=True)
class Level:
    """One training of a search: what its `train` function must know.

    Attributes:
        number: Rounds of pruning before this training; 0 is the dense
            network.
        name: `"ticket"`, or the name of the control.
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
        name: `"ticket"`, or the name of the control.
        folder: `pathlib.Path` with `masks.npz` and `trained.weights.h5`.
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
        return read_masks(self.folder / _MASKS)


class TicketSearch:
    """Searches an ordinary Keras model for winning tickets.

    Level 0 trains the model as it is. Every further level prunes the trained
    weights of the level before (`pruning`), sets all variables back to what
    they were at step `rewind_step` (batch norms included), and trains again
    with a fresh optimizer from that step to the end; pruned weights are
    exactly 0 after every step. After `i` rounds at the rate `p` the fraction
    `(1 - p)**i` of the weights is left, exact to the weight.

    Args:
        model: A built Keras model of dense and convolution layers; its
            weights now are the initial ones.
        train: Function of the model and a `Level`. Compiles the model with a
            fresh optimizer, trains it from `level.first_step` to the end, and
            returns what is to be remembered, as JSON: an accuracy, a
            dictionary.
        folder: Where the search keeps its files, a folder of its own. The
            same search continues there, after the last level or, with
            `level.backup`, within a level.
        pruning: `Magnitude`.
        rewind_step: Integer, the step `k` to go back to; 0 is initialisation.
        training_steps: Integer, the steps of a whole training; needed where
            `rewind_step` is more than 0.
        rewind_weights: False keeps the trained weights and rewinds the
            learning rate alone (learning-rate rewinding).
        one_shot: True prunes every level from the dense network at once.

    Raises:
        ValueError: If the model has nothing to prune, `rewind_step` is not
            within the training, or the folder holds another search.

    Example:

    >>> model = mpt_keras.models.lenet_300_100(masked=False)
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> def train(model, level):
    ...     model.compile(keras.optimizers.Adam(1.2e-3), loss)
    ...     callbacks = [*level.callbacks, level.backup]
    ...     history = model.fit(
    ...         digits, digit_labels, callbacks=callbacks, verbose=0
    ...     )
    ...     return history.history["loss"][-1]
    >>> search = mpt_keras.lottery.TicketSearch(model, train, "search")
    >>> [ticket.kept for ticket in search.run(levels=2)]
    [266200, 213060, 170548]

    Reference:
        Frankle and Carbin, ICLR 2019; Frankle et al., "Linear Mode
        Connectivity and the Lottery Ticket Hypothesis", ICML 2020
        (`rewind_step`); Renda et al., "Comparing Rewinding and Fine-tuning in
        Neural Network Pruning", ICLR 2020 (`rewind_weights=False`).
    """

    def __init__(
        self,
        model,
        train: Callable,
        folder,
        pruning=None,
        rewind_step=0,
        training_steps=None,
        rewind_weights=True,
        one_shot=False,
    ):
        self.model = model
        self.train = train
        self.folder = pathlib.Path(folder)
        self.pruning = Magnitude() if pruning is None else pruning
        self.rewind_step = _check_rewind_step(rewind_step, training_steps)
        self.rewind_weights = bool(rewind_weights)
        self.one_shot = bool(one_shot)
        self._shapes = {
            name: tuple(kernel.shape)
            for name, kernel in prunable_kernels(model).items()
        }
        self.pruning.rates_of(self._shapes)
        self._open_folder()

    # --- What users call -------------------------------------------------

    def run(self, levels):
        """Yields the tickets of levels 0 to `levels`, each once it is found.

        A level that was finished before is not trained again. The model holds
        the trained weights and the masks of the ticket yielded last, if it
        was trained just now; see `load`.

        Args:
            levels: Integer, the rounds of pruning; or, with `one_shot`, a
                list of levels.
        """
        numbers = range(levels + 1) if isinstance(levels, int) else levels
        numbers = [0, *(number for number in numbers if number)]
        for number in numbers:
            yield self._ticket(number)

    def control(self, number, name, seed=0):
        """Trains what a winning ticket is compared with.

        Args:
            number: Level whose ticket is compared, trained before.
            name: `"reinitialized"`: its masks, with new random weights,
                trained from step 0; or `"random_masks"`: as many weights per
                kernel at random places, set back as the ticket's are.
            seed: Integer from 0 on, of what is drawn.

        Returns:
            A `Ticket`.

        Raises:
            ValueError: If there is no such control or ticket.
        """
        if name not in CONTROLS:
            raise ValueError(
                f"Invalid value for argument `name`. Expected one of "
                f"{', '.join(CONTROLS)}. Received: name={name!r}"
            )
        found = self._finished(self._folder_of(number))
        if found is None:
            raise ValueError(
                f"There is no ticket of level {number} in '{self.folder}' to "
                "compare with. Expected a level that `run` has been through."
            )
        folder = self._folder_of(number) / f"{name}-seed{seed}"
        masks = found.masks()
        if name == "random_masks":
            masks = random_masks(masks, seed)
        return self._finished(folder) or self._train(
            number, name, folder, masks, reinitialize_seed=seed
        )

    def load(self, ticket):
        """Sets the model to a ticket's trained weights and masks."""
        remove_masks(self.model)
        self.model.load_weights(ticket.folder / _TRAINED)
        apply_masks(self.model, ticket.masks())

    # --- Levels ----------------------------------------------------------

    def _ticket(self, number):
        folder = self._folder_of(number)
        found = self._finished(folder)
        if found is None:
            masks = self._masks(number)
            found = self._train(number, "ticket", folder, masks)
        return found

    def _masks(self, number):
        before = None
        if number:
            source = self._finished(
                self._folder_of(0 if self.one_shot else number - 1)
            )
            self.load(source)
            before = source.masks()
        return self.pruning.masks(kernel_values(self.model), number, before)

    def _train(self, number, name, folder, masks, reinitialize_seed=None):
        first_step = 0
        if number and name != "reinitialized":
            first_step = self.rewind_step
        self._set_back(number, name, first_step)
        if name == "reinitialized":
            reinitialize(self.model, reinitialize_seed)
        folder.mkdir(parents=True, exist_ok=True)
        save_masks(masks, folder / _MASKS)
        apply_masks(self.model, masks)
        callbacks = []
        keeps_state = number == 0 and self.rewind_step > 0
        if keeps_state:
            callbacks.append(
                SaveStateAt(self.model, self.rewind_step, self.folder / _REWIND)
            )
        level = Level(
            number=number,
            name=name,
            first_step=first_step,
            folder=folder,
            callbacks=callbacks,
            backup=AtomicBackup(folder / "backup"),
        )
        result = self.train(self.model, level)
        if keeps_state and not (self.folder / _REWIND).exists():
            raise ValueError(
                f"The state after step {self.rewind_step} was not kept. "
                "Expected a `train` that passes level.callbacks to `fit` and "
                "trains for as many steps."
            )
        save_state(self.model, folder / _TRAINED)
        layers = {
            kernel: {"weights": mask.size, "kept": int(mask.sum())}
            for kernel, mask in masks.items()
        }
        content = {"layers": layers, "result": result}
        _write_json(
            folder / _TICKET, {"number": number, "name": name} | content
        )
        level.backup.remove()
        return self._finished(folder)

    def _set_back(self, number, name, first_step):
        """All variables as they are before a training, pruned ones included."""
        remove_masks(self.model)
        if number and name == "ticket" and not self.rewind_weights:
            source = self._folder_of(0 if self.one_shot else number - 1)
            self.model.load_weights(source / _TRAINED)
        elif first_step:
            self.model.load_weights(self.folder / _REWIND)
        else:
            self.model.load_weights(self.folder / _INITIAL)

    # --- Files -----------------------------------------------------------

    def _folder_of(self, number):
        return self.folder / f"level-{number:02d}"

    def _finished(self, folder):
        """The ticket in a folder, None where its training has not ended."""
        try:
            content = json.loads((folder / _TICKET).read_text())
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

    def _open_folder(self):
        description = {
            "pruning": dataclasses.asdict(self.pruning),
            "rewind_step": self.rewind_step,
            "rewind_weights": self.rewind_weights,
            "one_shot": self.one_shot,
            "kernels": {k: list(shape) for k, shape in self._shapes.items()},
            "keras": keras.__version__,
        }
        file = self.folder / _SEARCH
        if file.exists():
            there = json.loads(file.read_text())
            if there != description:
                different = [
                    f"{name}: {there.get(name)} there, {value} here"
                    for name, value in description.items()
                    if there.get(name) != value
                ]
                raise ValueError(
                    f"'{self.folder}' holds another search. Expected the same "
                    "settings and model, to continue it, or a new folder. "
                    f"Received: {'; '.join(different)}. Nothing was changed."
                )
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        save_state(self.model, self.folder / _INITIAL)
        _write_json(file, description)


def _check_rewind_step(step, training_steps):
    expected = None
    if not isinstance(step, int) or step < 0:
        expected = "an integer from 0 on, a step of the training"
    elif step and training_steps is None:
        expected = "`training_steps` as well, the steps of a whole training"
    elif step and step >= training_steps:
        expected = f"a step before the end, {training_steps}"
    if expected:
        raise ValueError(
            f"Invalid value for argument `rewind_step`. Expected {expected}. "
            f"Received: rewind_step={step!r}"
        )
    return step


def _write_json(path, content):
    beside = path.with_name(f"partial-{path.name}")
    beside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    beside.replace(path)
