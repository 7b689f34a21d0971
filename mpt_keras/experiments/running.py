"""What every kind of run does: say what it is, prepare, open its folder."""

import dataclasses
import pathlib
from collections.abc import Callable

from mpt_keras.experiments import folder as folders
from mpt_keras.experiments import lines
from mpt_keras.experiments.errors import RunError
from mpt_keras.experiments.following import in_force_of
from mpt_keras.experiments.place import Place
from mpt_keras.experiments.preparation import prepared
from mpt_keras.experiments.result import Result
from mpt_keras.experiments.training import Stopped


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a kind of run leaves to this module.

    Attributes:
        name: What a folder of its own is called after.
        begin: Function of `Prepared`. Builds what the run needs, or raises
            before anything is written; returns a function of the run's
            folder, which trains and writes.
    """

    name: str
    begin: Callable


def run(followed, plan, folder, resume, place):
    """Runs an experiment.

    Args:
        followed: `following.Followed`.
        plan: Function of the settings in force that returns a `Plan`.
        folder: Path of the run's folder; None for a new one under `runs/`.
        resume: Whether to continue the run that is there.
        place: `Place`.

    Returns:
        A `Result`; None in a worker that writes no files.

    Raises:
        RunError: If the run cannot start or finish, with what to do.
    """
    if resume and folder is None:
        raise RunError("To resume a run, name its folder.")
    settings = followed.settings
    place.check(settings.dataset)
    plan = plan(settings)
    path = folders.named(plan.name) if folder is None else pathlib.Path(folder)
    shared = None if folder is None else path
    with prepared(settings, place, shared) as ready, ready.devices.together():
        go = plan.begin(ready)
        if not ready.devices.writes_files:
            go(path)
            return None
        description = {
            **in_force_of(settings),
            "distribute": place.distribute,
            "cpu_devices": place.cpu_devices,
        }
        with folders.opened(path, resume, description, settings.may_grow):
            if place.verbose != "0":
                said = [f"Folder: {path}", *followed.lines()]
                print(*said, sep="\n", flush=True)
            try:
                go(path)
            except KeyboardInterrupt as error:
                epochs = getattr(error, "epochs", None)
                raise Stopped(path, epochs) from error
            # Also after the working directory has changed.
            return Result(path.absolute(), tuple(lines.read(path / lines.NAME)))


def as_place(place, settings):
    """A `Place`, from one or from its settings."""
    if place is None:
        return Place(**settings)
    return dataclasses.replace(place, **settings)


def file_name(parts):
    """One name out of several, which may be those of datasets or functions."""
    return "-".join(parts).replace("/", "_").replace(":", ".")
