"""One run of a sweep, in a process of its own.

    python -m mpt_keras.experiments.worker FILE.json

FILE.json is what the sweep has written: "experiment", the run's "folder", its
"place", and the "versions" of the sweep. The exit status is 0 if the run is
finished, else 1, and the last line of the output says why.
"""

import dataclasses
import json
import os
import pathlib
import sys
import threading

from mpt_keras.experiments import locks, versions
from mpt_keras.experiments.errors import RunError
from mpt_keras.experiments.place import Place

ENDS_WITH_INPUT = "--ends-with-input"
# Until a node that was lost gives up what its process held.
_WAIT = 120.0


def main(arguments, from_json):
    """Runs what a file says and returns the exit status.

    Args:
        arguments: The file, and perhaps `ENDS_WITH_INPUT`: the standard input
            is a pipe of the process that started this one, which ends when
            the other one does, however that came about.
        from_json: Function that makes an experiment of its JSON.
    """
    file, *rest = arguments
    if ENDS_WITH_INPUT in rest:
        threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        _run(json.loads(pathlib.Path(file).read_text("utf-8")), from_json)
    except RunError as error:
        print(error)
        return 1
    except KeyboardInterrupt:
        print("stopped")
        return 1
    return 0


def _run(job, from_json):
    changed = versions.changed(job["versions"])
    if changed:
        raise RunError(
            f"Other versions than those of the sweep ('there'): {changed}. "
            "Install the same everywhere."
        )
    folder = pathlib.Path(job["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    with locks.exclusive(folder, wait=_WAIT):
        place = Place(**job["place"])
        if place.verbose == "auto":  # no bars in a file
            place = dataclasses.replace(place, verbose="2")
        from_json(job["experiment"]).run(folder, resume=True, place=place)


def _end_with_input():
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    from mpt_keras.experiments import methods

    sys.exit(main(sys.argv[1:], methods.from_json))
