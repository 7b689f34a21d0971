"""Iterative magnitude pruning: train, prune, rewind, and again.

All that a search knows is in files of its folder, each written whole, so that
it continues wherever it stopped.
"""

import contextlib
import dataclasses
import itertools
import json
import math
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from mpt_keras.lottery.dense import (
    SEARCH,
    DenseNetwork,
    check_same,
    checked_steps,
)
from mpt_keras.lottery.enforcement import apply_masks, remove_masks
from mpt_keras.lottery.kernels import (
    convolution_kernels,
    kernel_values,
    output_kernels,
    prunable_kernels,
)
from mpt_keras.lottery.magnitude import Magnitude
from mpt_keras.lottery.masks import check_fit, random_masks
from mpt_keras.lottery.records import (
    Level,
    Ticket,
    check_same_training,
    read_ticket,
    write_json,
)
from mpt_keras.lottery.rewinding import load_state, reinitialize, save_state
from mpt_keras.lottery.training import TRAINED, train_ticket
from mpt_keras.sparsity import check_sparsity, pruned_count

CONTROLS = ("reinitialized", "random_masks")
STARTS = ("rewound", "initial", "reinitialized", "trained")


class TicketSearch:
    """Searches an ordinary Keras model for winning tickets.

    Level 0 trains the model as it is. Every further level prunes the trained
    weights of the level before (`pruning`), sets all variables back to what
    they were at step `rewind_step` (batch norms included), and trains again
    with a fresh optimizer from that step to the end; pruned weights are
    exactly 0 after every step. After `i` rounds at the rate `p` the fraction
    `(1 - p)**i` of the weights is left, exact to the weight. `at` finds the
    ticket of a sparsity between the levels.

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
            same seeds, or set to `initial.npz` of the folder (of `dense` if
            that is given) by `load_state`. `train` may be another.
        pruning: `Magnitude`.
        rewind_step: Integer, the step `k` to go back to; 0 is initialisation.
        training_steps: Integer, the steps of a whole training; needed where
            `rewind_step` is more than 0.
        rewind_weights: False keeps the trained weights and rewinds the
            learning rate alone (learning-rate rewinding).
        one_shot: True prunes every level from the dense network at once.
        dense: Folder of the dense network's training, level 0, which several
            searches of one model and of the same `training_steps` share, each
            with another `folder`; in `folder` if None. The first search that
            comes to it trains the network, one process at a time (this needs
            `filelock`, of the extra `experiments`); others wait and take the
            result.
        keep_steps: Integers, steps whose states the dense training keeps for
            other searches that share it, beside its own `rewind_step`. The
            first search of a folder `dense` says which.

    Raises:
        ValueError: If the model has nothing to prune, its output's kernel
            must be named (`Magnitude`), `rewind_step` is not within the
            training, the folder holds another search, or `dense` another
            network or too few states. Nothing is written then.
        ImportError: If `dense` is given and `filelock` is not installed.

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
    >>> search.at(sparsity=0.5).kept
    133100

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
        dense: str | os.PathLike[str] | None = None,
        keep_steps: Iterable[int] = (),
    ) -> None:
        self.model = model
        self.train = train
        self.folder = pathlib.Path(folder)
        self.pruning = Magnitude() if pruning is None else pruning
        self.rewind_step = rewind_step
        self.rewind_weights = bool(rewind_weights)
        self.one_shot = bool(one_shot)
        self._shapes = {
            name: tuple(kernel.shape)
            for name, kernel in prunable_kernels(model).items()
        }
        self._rates = self.pruning.rates_of(
            self._shapes, convolution_kernels(model), output_kernels(model)
        )
        self._sizes = {k: math.prod(s) for k, s in self._shapes.items()}
        shared = dense is not None
        self._dense = DenseNetwork(
            pathlib.Path(dense) if shared else self.folder,
            checked_steps(rewind_step, keep_steps, training_steps, shared),
            shared,
        )
        self._open_folders(training_steps, shared)

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

    def at(self, sparsity: float) -> Ticket:
        """Returns the ticket of a sparsity, found now if not before.

        Of all `n` prunable weights exactly `floor(sparsity * n)` are pruned,
        which takes `t` rounds (`Magnitude.rounds_for`, `Magnitude.masks_at`),
        with `i = max(1, round(t))` of them trained: the levels up to `i - 1`
        are those of `run`, which all sparsities have in common; the last
        round prunes from there to the sparsity, less than a level does or
        more, and its ticket has a folder of its own, `sparsity-0.5`. With
        `one_shot` the dense network is pruned at once. Where level 0 or `i`
        prunes as many weights, it is that level's ticket.

        Args:
            sparsity: Number in [0, 1), the fraction of all prunable weights
                that is pruned.

        Returns:
            A `Ticket`, whose `number` is `i`.

        Raises:
            ValueError: If the sparsity is out of range, or so many weights
                cannot be pruned because of kernels left alone. Nothing is
                trained then.
        """
        sparsity = check_sparsity(sparsity)
        sizes = (self._sizes, self._rates)
        rounds = self.pruning.rounds_for(sparsity, *sizes)
        pruned = pruned_count(sparsity, sum(self._sizes.values()))
        last = max(1, round(rounds))
        for number in (0, last):
            if self.pruning.pruned_after(number, *sizes) == pruned:
                return self._all_up_to(number)
        self._all_up_to(0 if self.one_shot else last - 1)
        return self._ticket(last, sparsity)

    def control(self, number: int | Ticket, name: str, seed: int = 0) -> Ticket:
        """Trains what a winning ticket is compared with.

        Args:
            number: Level whose ticket is compared, found before, or a
                `Ticket` that `run` or `at` gave.
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
        ticket = self._found(number)
        masks = random_masks(ticket.masks(), seed)
        start = self._start_of(ticket.number)
        return self.retrain(ticket, label, start, masks, seed=seed)

    def retrain(
        self,
        number: int | Ticket,
        name: str,
        start: str = "rewound",
        masks: Mapping[str, np.ndarray] | None = None,
        train: Callable[[keras.Model, Level], Any] | None = None,
        seed: int = 0,
    ) -> Ticket:
        """Trains a ticket's sub-network once more, in another way.

        Args:
            number: Level of the ticket, found before, or a `Ticket` that
                `run` or `at` gave.
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
        level = number.number if isinstance(number, Ticket) else number
        if start not in STARTS or (start == "trained" and level == 0):
            raise ValueError(
                f"Invalid value for argument `start`. Expected one of "
                f"{', '.join(STARTS)} (this from level 1 on). Received: "
                f"start={start!r} for level {level}"
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
        # Not in a dense network's folder, which other searches share.
        folder = self.folder / ticket.folder.name / name
        check_same_training(folder, masks, start, seed)
        return read_ticket(folder) or self._train(
            level, name, folder, masks, start, train or self.train, seed
        )

    def load(self, ticket: Ticket) -> None:
        """Sets the model to a ticket's trained weights and masks."""
        remove_masks(self.model)
        load_state(self.model, ticket.folder / TRAINED)
        apply_masks(self.model, ticket.masks())

    # --- Levels ----------------------------------------------------------

    def _all_up_to(self, number):
        """The ticket of a level, after those that it needs."""
        *_, ticket = self.run([number] if self.one_shot else number)
        return ticket

    def _ticket(self, number, sparsity=None):
        """The ticket of a level, or of a sparsity in a level's stead."""
        folder = self._folder_of(number)
        if sparsity is not None:
            folder = self.folder / f"sparsity-{sparsity}"
        found = read_ticket(folder)
        if found is None:
            with contextlib.nullcontext() if number else self._dense.lock:
                # Another process may have trained it meanwhile.
                found = read_ticket(folder) or self._trained_ticket(
                    number, folder, sparsity
                )
        return found

    def _trained_ticket(self, number, folder, sparsity):
        masks, start = self._masks(number, sparsity), self._start_of(number)
        check_same_training(folder, masks, start, seed=0)
        return self._train(
            number, "ticket", folder, masks, start, self.train, seed=0
        )

    def _start_of(self, number):
        """Where a level's ticket starts."""
        if number == 0:
            return "initial"
        return "rewound" if self.rewind_weights else "trained"

    def _found(self, number):
        """The ticket of a level, or the one given if it is of this search."""
        if isinstance(number, Ticket):
            folder = number.folder
            parent = self._dense.folder if number.number == 0 else self.folder
            is_own = folder.resolve().parent == parent.resolve()
        else:
            folder = self._folder_of(number)
            is_own = True
        found = read_ticket(folder) if is_own else None
        if found is None:
            what = f"level {number}" if is_own else f"'{folder}'"
            raise ValueError(
                f"There is no ticket of {what} in '{self.folder}'. "
                "Expected a level that `run` has been through, or a ticket "
                "that `run` or `at` of this search gave."
            )
        return found

    def _masks(self, number, sparsity):
        before = None
        if number:
            source = self._found(self._pruned_level(number))
            self.load(source)
            before = source.masks()
        weights = kernel_values(self.model)
        if sparsity is not None:
            return self.pruning.masks_at(weights, sparsity, before, self._rates)
        return self.pruning.masks(weights, number, before, self._rates)

    def _pruned_level(self, number):
        """The level whose trained weights another level prunes."""
        return 0 if self.one_shot else number - 1

    def _train(self, number, name, folder, masks, start, train, seed):
        self._set_back(start, number, seed)
        rewinds = start in ("rewound", "trained")
        return train_ticket(
            model=self.model,
            train=train,
            folder=folder,
            number=number,
            name=name,
            masks=masks,
            first_step=self.rewind_step if rewinds else 0,
            start=start,
            seed=seed,
            dense=self._dense if folder == self._dense.level else None,
        )

    def _set_back(self, start, number, seed):
        """All variables as they are at a start, pruned weights included."""
        remove_masks(self.model)
        if start == "trained":
            source = self._folder_of(self._pruned_level(number))
            load_state(self.model, source / TRAINED)
        else:
            step = self.rewind_step if start == "rewound" else 0
            load_state(self.model, self._dense.state(step))
        if start == "reinitialized":
            reinitialize(self.model, seed)

    # --- Files -----------------------------------------------------------

    def _folder_of(self, number):
        if number == 0:
            return self._dense.level
        return self.folder / f"level-{number:02d}"

    def _open_folders(self, training_steps, shared):
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
        if shared:
            settings["dense"] = _path_between(self.folder, self._dense.folder)
        file, initial = self.folder / SEARCH, self._dense.initial
        if file.exists():
            there = json.loads(file.read_text())
            check_same(
                self.folder, "search", there, settings, self.model, initial
            )
        if shared:
            self._dense.share(self.model, self._shapes, training_steps)
        if not file.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            if not shared:
                save_state(self.model, initial)
            write_json(file, settings)


def _path_between(folder, other):
    """A relative path, so that both can be moved together."""
    try:
        path = os.path.relpath(other.resolve(), folder.resolve())
    except ValueError:  # two drives of Windows
        path = other.resolve()
    return pathlib.Path(path).as_posix()
