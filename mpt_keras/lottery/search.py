"""Iterative magnitude pruning: train, prune, rewind, and again.

All that a search knows is in files of its folder, each written whole, so that
it continues wherever it stopped.
"""

import dataclasses
import itertools
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from mpt_keras.analysis.masks import save_masks
from mpt_keras.callbacks.backup import AtomicBackup
from mpt_keras.lottery.enforcement import (
    PrunedAverages,
    apply_masks,
    remove_masks,
)
from mpt_keras.lottery.kernels import (
    convolution_kernels,
    kernel_values,
    output_kernels,
    prunable_kernels,
)
from mpt_keras.lottery.magnitude import Magnitude, check_fit, random_masks
from mpt_keras.lottery.records import (
    MASKS,
    TICKET,
    TRAINING,
    Level,
    Ticket,
    check_same_training,
    differences,
    in_short,
    read_ticket,
    write_json,
)
from mpt_keras.lottery.rewinding import (
    SaveStateAt,
    changed_variables,
    load_state,
    reinitialize,
    save_state,
)

CONTROLS = ("reinitialized", "random_masks")
STARTS = ("rewound", "initial", "reinitialized", "trained")

_SEARCH = "search.json"
_INITIAL = "initial.npz"
_REWIND = "rewind.npz"
_TRAINED = "trained.npz"


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
            `level.backup`, within a level: by `run` once more, or as a new
            `TicketSearch` of the same settings and of a model built from the
            same seeds, or set to `initial.npz` of the folder by `load_state`.
            `train` may be another.
        pruning: `Magnitude`.
        rewind_step: Integer, the step `k` to go back to; 0 is initialisation.
        training_steps: Integer, the steps of a whole training; needed where
            `rewind_step` is more than 0.
        rewind_weights: False keeps the trained weights and rewinds the
            learning rate alone (learning-rate rewinding).
        one_shot: True prunes every level from the dense network at once.

    Raises:
        ValueError: If the model has nothing to prune, its output's kernel
            must be named (`Magnitude`), `rewind_step` is not within the
            training, or the folder holds another search.

    Example:

    >>> model = mpt_keras.models.lenet_300_100(masked=False)
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> def train(model, level):
    ...     model.compile(keras.optimizers.Adam(1.2e-3), loss)
    ...     callbacks = [*level.callbacks, level.backup]
    ...     model.fit(digits, digit_labels, callbacks=callbacks, verbose=0)
    ...     return model.evaluate(digits, digit_labels, verbose=0)
    >>> search = mpt_keras.lottery.TicketSearch(model, train, "search")
    >>> [ticket.kept for ticket in search.run(levels=2)]
    [266200, 213060, 170538]

    Reference:
        Frankle and Carbin, ICLR 2019; Frankle et al., "Linear Mode
        Connectivity and the Lottery Ticket Hypothesis", ICML 2020
        (`rewind_step`); Renda et al., "Comparing Rewinding and Fine-tuning in
        Neural Network Pruning", ICLR 2020 (`rewind_weights=False`).
    """

    def __init__(
        self,
        model: keras.Model,
        train: Callable[[keras.Model, Level], Any],
        folder: str | os.PathLike[str],
        pruning: Magnitude | None = None,
        rewind_step: int = 0,
        training_steps: int | None = None,
        rewind_weights: bool = True,
        one_shot: bool = False,
    ) -> None:
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
        self._rates = self.pruning.rates_of(
            self._shapes, convolution_kernels(model), output_kernels(model)
        )
        self._open_folder(training_steps)

    # --- What users call -------------------------------------------------

    def run(self, levels: int | Iterable[int]) -> Iterator[Ticket]:
        """Iterates over the tickets of all levels, each once it is found.

        A level that was finished before is not trained again. The model holds
        the trained weights and the masks of the ticket yielded last, if it
        was trained just now; see `load`.

        Args:
            levels: Integer, the rounds of pruning. Or the levels one by one,
                integers in rising order, which with `one_shot` need not be
                all.

        Raises:
            ValueError: If these are no levels.
        """
        is_count = isinstance(levels, int)
        numbers = [*(range(1, levels + 1) if is_count else levels)]
        if 0 not in numbers:
            numbers = [0, *numbers]
        rising = all(a < b for a, b in itertools.pairwise(numbers))
        whole = self.one_shot or numbers == [*range(len(numbers))]
        if not rising or not whole or (is_count and levels < 0):
            raise ValueError(
                "Invalid value for argument `levels`. Expected a number of "
                "rounds from 0 on, or the levels 1, 2, ... without a gap (with "
                f"gaps only if one_shot=True). Received: levels={levels!r}"
            )
        return (self._ticket(number) for number in numbers)

    def control(self, number: int, name: str, seed: int = 0) -> Ticket:
        """Trains what a winning ticket is compared with.

        Args:
            number: Level whose ticket is compared, found before.
            name: `"reinitialized"`: its masks, with new random weights,
                trained from step 0; or `"random_masks"`: as many weights per
                kernel at random places, set back as the ticket's are. (With
                `rewind_weights=False` to the trained weights that were
                pruned; those that are 0 there begin at 0.)
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
        label = f"{name}-seed{seed}"
        if name == "reinitialized":
            return self.retrain(number, label, start="reinitialized", seed=seed)
        masks = random_masks(self._found(number).masks(), seed)
        start = self._start_of(number)
        return self.retrain(number, label, start, masks, seed=seed)

    def retrain(
        self,
        number: int,
        name: str,
        start: str = "rewound",
        masks: Mapping[str, np.ndarray] | None = None,
        train: Callable[[keras.Model, Level], Any] | None = None,
        seed: int = 0,
    ) -> Ticket:
        """Trains a ticket's sub-network once more, in another way.

        Args:
            number: Level of the ticket, found before.
            name: What the training is called, and its folder.
            start: Where it starts: `"rewound"`, from `rewind_step`;
                `"initial"` or `"reinitialized"`, from step 0; or
                `"trained"`, with the weights that were pruned, from
                `rewind_step`; not for level 0, which prunes none.
            masks: Other masks than the ticket's.
            train: Another function than the search's.
            seed: Integer, of `"reinitialized"`.

        Returns:
            A `Ticket`. A training that was finished before is not repeated,
            whatever `train` is now.

        Raises:
            ValueError: If there is no such ticket or start, the masks do not
                fit the model, or the training of that name has another start,
                seed or masks. Nothing is changed then.
        """
        if start not in STARTS or (start == "trained" and number == 0):
            raise ValueError(
                f"Invalid value for argument `start`. Expected one of "
                f"{', '.join(STARTS)} (this from level 1 on). Received: "
                f"start={start!r} for level {number}"
            )
        if name in ("", "..") or pathlib.PurePath(name).name != name:
            raise ValueError(
                "Invalid value for argument `name`. Expected the name of a "
                f"folder. Received: name={name!r}"
            )
        ticket = self._found(number)
        if masks is None:
            masks = ticket.masks()
        check_fit(masks, self._shapes)
        folder = ticket.folder / name
        check_same_training(folder, masks, start, seed)
        return read_ticket(folder) or self._train(
            number, name, folder, masks, start, train or self.train, seed
        )

    def load(self, ticket: Ticket) -> None:
        """Sets the model to a ticket's trained weights and masks."""
        remove_masks(self.model)
        load_state(self.model, ticket.folder / _TRAINED)
        apply_masks(self.model, ticket.masks())

    # --- Levels ----------------------------------------------------------

    def _ticket(self, number):
        folder = self._folder_of(number)
        found = read_ticket(folder)
        if found is None:
            masks, start = self._masks(number), self._start_of(number)
            check_same_training(folder, masks, start, seed=0)
            found = self._train(
                number, "ticket", folder, masks, start, self.train, seed=0
            )
        return found

    def _start_of(self, number):
        """Where a level's ticket starts."""
        if number == 0:
            return "initial"
        return "rewound" if self.rewind_weights else "trained"

    def _found(self, number):
        found = read_ticket(self._folder_of(number))
        if found is None:
            raise ValueError(
                f"There is no ticket of level {number} in '{self.folder}'. "
                "Expected a level that `run` has been through."
            )
        return found

    def _masks(self, number):
        before = None
        if number:
            source = self._found(self._pruned_level(number))
            self.load(source)
            before = source.masks()
        return self.pruning.masks(
            kernel_values(self.model), number, before, self._rates
        )

    def _pruned_level(self, number):
        """The level whose trained weights another level prunes."""
        return 0 if self.one_shot else number - 1

    def _train(self, number, name, folder, masks, start, train, seed):
        rewinds = start in ("rewound", "trained")
        self._set_back(start, number, seed)
        folder.mkdir(parents=True, exist_ok=True)
        save_masks(masks, folder / MASKS)
        write_json(folder / TRAINING, {"start": start, "seed": seed})
        apply_masks(self.model, masks)
        callbacks = [PrunedAverages()]
        is_dense = folder == self._folder_of(0)
        if is_dense and self.rewind_step:
            callbacks.append(self._state_saver())
        level = Level(
            number=number,
            name=name,
            first_step=self.rewind_step if rewinds else 0,
            folder=folder,
            callbacks=callbacks,
            backup=AtomicBackup(
                folder / "backup", run={"number": number, "name": name}
            ),
        )
        result = train(self.model, level)
        try:
            if is_dense:
                self._check_rewind_state()
            self._check_pruned(masks)
        except ValueError:
            # Or a mended `train` would find its work done, and fail again.
            level.backup.remove()
            raise
        save_state(self.model, folder / _TRAINED)
        layers = {
            kernel: {"weights": mask.size, "kept": int(mask.sum())}
            for kernel, mask in masks.items()
        }
        content = {"layers": layers, "result": result}
        write_json(folder / TICKET, {"number": number, "name": name} | content)
        level.backup.remove()
        return read_ticket(folder)

    def _check_rewind_state(self):
        if self.rewind_step and not (self.folder / _REWIND).exists():
            raise ValueError(
                f"The state after step {self.rewind_step} was not kept. "
                "Expected a `train` that passes level.callbacks to `fit` and "
                "trains for as many steps. Mend it and run again: the "
                "training begins anew."
            )

    def _check_pruned(self, masks):
        trained = [
            name
            for name, kernel in kernel_values(self.model).items()
            if kernel[~masks[name]].any()
        ]
        if trained:
            raise ValueError(
                f"Weights that are pruned were trained, in {trained}. Expected "
                "a `train` that compiles the model anew and trains it with "
                "`fit` and level.callbacks, or with `optimizer.apply`, which "
                "heeds constraints. Mend it and run again: the training "
                "begins anew."
            )

    def _state_saver(self):
        return SaveStateAt(self.model, self.rewind_step, self.folder / _REWIND)

    def _set_back(self, start, number, seed):
        """All variables as they are at a start, pruned weights included."""
        remove_masks(self.model)
        if start == "trained":
            source = self._folder_of(self._pruned_level(number))
            load_state(self.model, source / _TRAINED)
        elif start == "rewound" and self.rewind_step:
            load_state(self.model, self.folder / _REWIND)
        else:
            load_state(self.model, self.folder / _INITIAL)
        if start == "reinitialized":
            reinitialize(self.model, seed)

    # --- Files -----------------------------------------------------------

    def _folder_of(self, number):
        return self.folder / f"level-{number:02d}"

    def _open_folder(self, training_steps):
        settings = {
            "pruning": dataclasses.asdict(self.pruning),
            "rewind_step": self.rewind_step,
            "training_steps": training_steps,
            "rewind_weights": self.rewind_weights,
            "one_shot": self.one_shot,
            "kernels": {
                name: {"shape": list(shape), "rate": self._rates[name]}
                for name, shape in self._shapes.items()
            },
            "keras": keras.__version__,
        }
        file, initial = self.folder / _SEARCH, self.folder / _INITIAL
        if not file.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            save_state(self.model, initial)
            write_json(file, settings)
            return
        different = differences(json.loads(file.read_text()), settings)
        advice = ""
        if not different:
            changed = changed_variables(self.model, initial)
            different = [f"{path}: another initial value" for path in changed]
            advice = (
                " Build the model from the seeds of that search, or set it to "
                "its initial weights: mpt_keras.lottery.load_state(model, "
                f"'{initial}')."
            )
        if different:
            raise ValueError(
                f"'{self.folder}' holds another search. Expected the same "
                "settings and initial weights, to continue it, or a new "
                f"folder. Received: {in_short(different)}. Nothing was "
                f"changed.{advice}"
            )


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
