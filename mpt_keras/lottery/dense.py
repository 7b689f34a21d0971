"""The dense network, from which searches start: its states and its lock.

A folder holds its initial weights, its states after the steps that tickets go
back to and, once it is trained, level 0 of every search that shares it.
"""

import contextlib
import json

import keras

from mpt_keras.lottery.records import differences, in_short, write_json
from mpt_keras.lottery.rewinding import (
    SaveStateAt,
    changed_variables,
    save_state,
)

SEARCH = "search.json"

_DENSE = "dense.json"
_INITIAL = "initial.npz"


class DenseNetwork:
    """Where the states of a dense network are, and who trains it.

    Args:
        folder: `pathlib.Path`.
        steps: Steps whose states are needed, integers from 1 on.
        shared: Whether several searches share it, in processes of their own.

    Raises:
        ImportError: If it is shared and `filelock` is not installed.
    """

    def __init__(self, folder, steps, shared):
        self.folder = folder
        self.level = folder / "level-00"
        self.initial = folder / _INITIAL
        self.steps = steps
        # While it is held, this process alone may train the network.
        self.lock = contextlib.nullcontext()
        if shared:
            self.lock = _file_lock(folder / "dense.lock")

    def state(self, step):
        """The file of the state after a step."""
        if step == 0:
            return self.initial
        # Folders begun when searches kept one state alone.
        only = self.folder / "rewind.npz"
        return only if only.exists() else self.folder / f"rewind-{step}.npz"

    def state_savers(self, model):
        """Callbacks that keep the states while the network is trained."""
        return [
            SaveStateAt(model, step, self.state(step)) for step in self.steps
        ]

    def check_states(self):
        """Raises `ValueError` where a training has kept too little."""
        missing = [s for s in self.steps if not self.state(s).exists()]
        if missing:
            raise ValueError(
                f"The state after step {missing[0]} was not kept. "
                "Expected a `train` that passes level.callbacks to `fit` and "
                "trains for as many steps. Mend it and run again: the "
                "training begins anew."
            )

    def share(self, model, shapes, training_steps):
        """Opens the folder, whose first user says what is kept for all.

        Args:
            model: The network as it is before it is trained.
            shapes: Name of a kernel -> its shape.
            training_steps: Integer or None.

        Raises:
            ValueError: If it holds another network, or not all states that
                are needed. Nothing is changed then.
        """
        settings = {
            "kernels": {name: list(shape) for name, shape in shapes.items()},
            "training_steps": training_steps,
            "keras": keras.__version__,
        }
        file = self.folder / _DENSE
        if not file.exists():
            if (self.folder / SEARCH).exists():
                raise ValueError(
                    f"'{self.folder}' holds a search that shares nothing. "
                    "Expected a new folder as `dense`, or one that was "
                    "`dense` before. Nothing was changed."
                )
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.lock:
                if not file.exists():
                    save_state(model, self.initial)
                    write_json(file, {**settings, "steps": self.steps})
        there = json.loads(file.read_text())
        kept = there.pop("steps")
        check_same(
            self.folder,
            "dense network",
            there,
            settings,
            model,
            self.initial,
        )
        missing = sorted(set(self.steps) - set(kept))
        if missing:
            raise ValueError(
                f"The dense network in '{self.folder}' keeps its states after "
                f"the steps {kept}. Received: {missing} to go back to. Name "
                "them in `keep_steps` of the first search that shares the "
                "folder; this one needs another folder. Nothing was changed."
            )


def check_same(folder, what, there, here, model, initial):
    """Raises `ValueError` unless a folder holds what is asked.

    Args:
        folder: `pathlib.Path`.
        what: What the folder holds one of.
        there: Settings that it was begun with, a dictionary of JSON.
        here: Settings that are asked.
        model: The model before it is trained.
        initial: File of its initial weights.
    """
    different = differences(there, here)
    advice = ""
    if not different:
        changed = changed_variables(model, initial)
        different = [f"{path}: another initial value" for path in changed]
        advice = (
            f" Build the model from the seeds of that {what}, or set it to "
            "its initial weights: mpt_keras.lottery.load_state(model, "
            f"'{initial}')."
        )
    if different:
        raise ValueError(
            f"'{folder}' holds another {what}. Expected the same settings and "
            "initial weights, to continue it, or a new folder. Received: "
            f"{in_short(different)}. Nothing was changed.{advice}"
        )


def checked_steps(rewind_step, keep_steps, training_steps, shared):
    """The steps whose states are needed, sorted, without 0.

    Raises:
        ValueError: If one is not within the training, or kept for nobody.
    """
    named = [("rewind_step", rewind_step)]
    named += [("keep_steps", step) for step in keep_steps]
    if len(named) > 1 and not shared:
        raise ValueError(
            "Invalid value for argument `keep_steps`. Expected a folder "
            "`dense` as well, in which other searches find the states. "
            f"Received: keep_steps={[step for _, step in named[1:]]}"
        )
    for name, step in named:
        expected = None
        if not isinstance(step, int) or step < 0:
            expected = "an integer from 0 on, a step of the training"
        elif step and training_steps is None:
            expected = "`training_steps` as well, the steps of a whole training"
        elif step and step >= training_steps:
            expected = f"a step before the end, {training_steps}"
        if expected:
            raise ValueError(
                f"Invalid value for argument `{name}`. Expected {expected}. "
                f"Received: {name}={step!r}"
            )
    return sorted({step for _, step in named if step})


def _file_lock(path):
    try:
        import filelock
    except ModuleNotFoundError:
        raise ImportError(
            "Searches share a dense network by the package `filelock`, which "
            'is not installed. Install it: pip install "mpt_keras[experiments]"'
        ) from None
    return filelock.FileLock(path)
