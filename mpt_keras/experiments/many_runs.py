"""Many runs in one folder: each trained once, whatever happens to it.

A run that is finished has its lines in `lines.jsonl` of the sweep's folder;
from these alone come tables and plots. The same sweep continues one that was
interrupted, and one with more runs adds to it.
"""

import contextlib
import json
import pathlib
import signal
import threading

from mpt_keras import files
from mpt_keras.experiments import (
    lines,
    local_engine,
    locks,
    ray_engine,
    versions,
)
from mpt_keras.experiments.errors import RunError
from mpt_keras.experiments.place import Place
from mpt_keras.experiments.task import Task

ENGINES = ("local", "ray")
_DESCRIPTION = "sweep.json"


def run_sweep(
    units,
    folder,
    place=None,
    *,
    settings=None,
    engine="local",
    jobs=1,
    address=None,
    cpus=1,
    gpus=0,
):
    """Trains what is not finished, each run in a process of its own.

    Args:
        units: Pairs of a name and an experiment. The name is that of the
            run's folder within the sweep's, and its output is in `NAME.log`.
        folder: Of the sweep: new, empty, or that of the sweep to continue.
        place: A `Place`, the same for all runs.
        settings: Dictionary of what all runs have in common. More runs may be
            added only with the same.
        engine: `"local"`, or `"ray"` for a Ray cluster that is there already
            and whose nodes all see the folder.
        jobs: Runs at the same time, on this machine.
        address: Of the Ray cluster, as `ray.init` takes it; None for the one
            that RAY_ADDRESS names, or that runs on this machine.
        cpus: CPUs for each run, on Ray.
        gpus: GPUs for each run, on Ray.

    Returns:
        The lines of all units, dictionaries, in the order of the units.

    Raises:
        RunError: If the folder holds something else or is in use, the cluster
            does not answer, the sweep was asked to end, or a run has failed;
            the others are finished before.
    """
    units = _checked_units(units)
    place = Place() if place is None else place
    if place.distribute == "multiworker":
        raise RunError(
            "A sweep cannot train with distribute='multiworker': each run is "
            "one process. Use engine='ray' for several machines."
        )
    run_all = _engine(engine, jobs, address, cpus, gpus)
    folder = pathlib.Path(folder)
    settings = _as_written(settings or {})
    with _ended_in_one_line(folder):
        _description(folder, settings)
        folder.mkdir(parents=True, exist_ok=True)
        with locks.exclusive(folder):
            tasks = {
                name: Task.of(name, experiment, folder, place)
                for name, experiment in units.items()
            }
            sweep = _Sweep(folder, _description(folder, settings))
            failed = sweep.train(tasks, run_all)
    if failed:
        logs = ", ".join(str(folder / f"{name}.log") for name in failed)
        raise RunError(
            f"{len(failed)} of {len(units)} runs failed; their output is in "
            f"{logs}. The same sweep tries them again."
        )
    return [line for name in tasks for line in sweep.lines_of(name)]


# --- What is asked for ----------------------------------------------------


def _checked_units(units):
    """Name -> the experiment's JSON."""
    found = {}
    for name, experiment in units:
        plain = name == pathlib.PurePath(name).name and name[:1].strip(".")
        if not plain or name in found:
            raise ValueError(
                "Invalid value for argument `units`. Expected names of "
                f"folders, each once. Received: a unit named '{name}'"
            )
        found[name] = _as_written(experiment.to_json())
    if not found:
        raise ValueError(
            "Invalid value for argument `units`. Expected one or more. "
            "Received: none"
        )
    return found


def _as_written(value):
    """As it comes back from a file: tuples are lists."""
    return json.loads(json.dumps(value))


def _engine(engine, jobs, address, cpus, gpus):
    """Function of tasks that yields them as they end."""
    if engine not in ENGINES:
        raise ValueError(
            "Invalid value for argument `engine`. Expected one of "
            f"{', '.join(ENGINES)}. Received: engine={engine!r}"
        )
    if jobs < 1:
        raise ValueError(
            "Invalid value for argument `jobs`. Expected an integer of 1 or "
            f"more. Received: jobs={jobs}"
        )
    if engine == "ray":
        if jobs != 1:
            raise RunError(
                f"jobs={jobs} has no effect with engine='ray': the cluster "
                "runs as many at the same time as it has CPUs and GPUs for."
            )
        return lambda tasks: ray_engine.run_all(tasks, address, cpus, gpus)
    if address is not None or (cpus, gpus) != (1, 0):
        raise RunError(
            f"address={address}, cpus={cpus} and gpus={gpus} have no effect "
            "with engine='local': they need engine='ray'."
        )
    return lambda tasks: local_engine.run_all(tasks, jobs)


# --- The folder -----------------------------------------------------------


def _description(folder, settings):
    """What the folder says of itself, or will, if there is nothing yet.

    Raises:
        RunError: If it holds another sweep, or files that are none.
    """
    new = {"settings": settings, "versions": versions.here(), "finished": {}}
    if not folder.exists():
        return new
    try:
        there = json.loads((folder / _DESCRIPTION).read_text("utf-8"))
        changed = (
            versions.differences(there["settings"], settings),
            versions.changed(there["versions"]),
        )
        there["finished"].keys()
    except FileNotFoundError as error:
        if locks.is_new(folder):
            return new
        raise _no_sweep(folder) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _no_sweep(folder) from error
    if any(changed):
        raise RunError(
            f"'{folder}' holds a sweep with other settings or versions: "
            f"{', '.join(filter(None, changed))}. Nothing was changed. Repeat "
            "those to continue it, or choose a new folder."
        )
    return there


def _no_sweep(folder):
    return RunError(
        f"'{folder}' holds files, but no {_DESCRIPTION} that an earlier sweep "
        "wrote. Nothing was changed. Choose a new folder."
    )


@contextlib.contextmanager
def _ended_in_one_line(folder):
    """Turns what ends a sweep from outside into a `RunError`."""
    try:
        with _termination_as_interruption():
            yield
    except KeyboardInterrupt as error:
        raise RunError(
            "Stopped. Finished runs are kept, and so are the whole epochs of "
            f"the others. The same sweep in '{folder}' continues."
        ) from error
    except OSError as error:
        raise RunError(
            f"Cannot use '{folder}': {error}. Expected a folder that can be "
            "written, with space left. The same sweep continues."
        ) from error


@contextlib.contextmanager
def _termination_as_interruption():
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# --- The runs -------------------------------------------------------------


class _Sweep:
    """The folder of a sweep at work."""

    def __init__(self, folder, description):
        self._folder = folder
        self._description = description
        self._lines = lines.read(folder / lines.NAME)
        self._describe()

    def train(self, tasks, run_all):
        """Trains what is not finished and returns the names that failed."""
        left = []
        for name, task in tasks.items():
            if self._is_finished(task):
                said = _in_words(self.lines_of(name))
                print(f"{name}: {said} (finished before)")
            else:
                left.append(task)
                task.write()
        if not left:
            return []
        print(
            f"{len(left)} of {len(tasks)} runs to train in '{self._folder}'; "
            "the output of each is in the .log of its name.",
            flush=True,
        )
        failed = []
        with contextlib.closing(run_all(left)) as ended:
            for number, (task, failure) in enumerate(ended, 1):
                try:
                    if failure:
                        raise RunError(failure)
                    said = _in_words(self._finish(task))
                except RunError as error:
                    failed.append(task.name)
                    said = str(error)
                print(
                    f"{number} of {len(left)} {task.name}: {said}", flush=True
                )
        return failed

    def lines_of(self, name):
        """The lines that a run has brought."""
        return [
            line
            for line in self._lines
            if pathlib.PurePosixPath(line["folder"]).parts[:1] == (name,)
        ]

    def _is_finished(self, task):
        # A run may be asked for more than it was; and the folder of one that
        # is finished may be gone. Where it is not, its own lines tell what
        # was cut off here.
        asked = self._description["finished"].get(task.name)
        found = {line["folder"] for line in self.lines_of(task.name)}
        own = {line["folder"] for line in self._own_lines(task.name)}
        return asked == task.experiment and bool(found) and own <= found

    def _own_lines(self, name):
        """Lines in a run's folder, their paths as seen from the sweep's."""
        own = lines.read(self._folder / name / lines.NAME)
        for line in own:
            line["folder"] = str(pathlib.PurePosixPath(name, line["folder"]))
        return own

    def _finish(self, task):
        own = self._own_lines(task.name)
        if not own:
            file = self._folder / task.name / lines.NAME
            raise RunError(f"failed: there is no line in '{file}'")
        path = self._folder / lines.NAME
        there = {json.dumps(line) for line in self._lines}
        lines.append(path, [ln for ln in own if json.dumps(ln) not in there])
        self._lines = lines.read(path)
        self._description["finished"][task.name] = task.experiment
        self._describe()
        return own

    def _describe(self):
        files.write_json(self._folder / _DESCRIPTION, self._description)


def _in_words(found):
    """The lines of one run."""
    seconds = f"{sum(line['seconds'] for line in found):.1f} s"
    if len(found) > 1:
        return f"{len(found)} trainings, {seconds}"
    return f"test accuracy {found[0]['test_accuracy']:.2%}, {seconds}"
