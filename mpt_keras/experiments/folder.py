"""A run's folder: made once, continued by the run that it belongs to."""

import contextlib
import datetime
import json
import pathlib

from mpt_keras import files
from mpt_keras.experiments import locks, versions
from mpt_keras.experiments.errors import RunError

_DESCRIPTION = "run.json"


def named(name):
    """A new folder's path under `runs/`, after the settings and the time."""
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")[:-3]
    return pathlib.Path(f"runs/{name}-{now}")


@contextlib.contextmanager
def opened(path, resume, description, may_grow=()):
    """Makes the folder of a run, or finds it again, and keeps others out.

    Args:
        path: `pathlib.Path`.
        resume: Whether to continue the run that is there.
        description: Setting -> value: what makes a run the same run.
        may_grow: Names of those that may be others when it is continued.

    Yields:
        Nothing.

    Raises:
        RunError: If the folder cannot be written, holds other files, another
            run or another version's, or another process is at work there.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        # Somebody else's folder gets no lock.
        if not locks.is_new(path) and not (path / _DESCRIPTION).exists():
            _claim(path, resume, description, may_grow)
    except OSError as error:
        raise _unusable(path, error) from error
    with locks.exclusive(path):
        try:
            _claim(path, resume, description, may_grow)
        except OSError as error:
            raise _unusable(path, error) from error
        yield


def _claim(path, resume, description, may_grow):
    if locks.is_new(path):
        files.write_json(path / _DESCRIPTION, _described(description))
    elif resume:
        _check_same_run(path, _described(description), may_grow)
    else:
        raise RunError(
            f"'{path}' already holds files, perhaps another run. Nothing was "
            "changed. Choose a new folder, remove that one, or continue its "
            "run (resume)."
        )


def _unusable(path, error):
    return RunError(
        f"Cannot use the folder '{path}': {error.strerror or error}. Expected "
        "a new or empty folder that can be written."
    )


def _described(settings):
    text = json.dumps({"settings": settings, "versions": versions.here()})
    return json.loads(text)


def _check_same_run(path, here, may_grow):
    try:
        there = json.loads((path / _DESCRIPTION).read_text())
        settings_there, versions_there = there["settings"], there["versions"]
        dict(settings_there), dict(versions_there)
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"'{path}' holds no run to resume: expected a {_DESCRIPTION} that "
            "an earlier run wrote. Nothing was changed."
        ) from error
    different = versions.differences(
        *(
            {k: v for k, v in settings.items() if k not in may_grow}
            for settings in (settings_there, here["settings"])
        )
    )
    if different:
        raise RunError(
            f"'{path}' holds another run: {different}. Nothing was changed. "
            "Repeat that run's settings, or choose a new folder."
        )
    changed = versions.changed(versions_there)
    if changed:
        raise RunError(
            f"'{path}' holds a run of other versions: {changed}. Nothing was "
            "changed. Install those versions to continue it, or begin anew in "
            "another folder."
        )
    files.write_json(path / _DESCRIPTION, here)
