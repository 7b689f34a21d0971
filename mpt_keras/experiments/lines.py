"""JSON lines: the results of trainings, one line for each."""

import json
import pathlib

from mpt_keras.experiments.errors import RunError

LINES = "runs.jsonl"


def file_of(source):
    """The file of lines at a path: that file, or the one in that folder."""
    path = pathlib.Path(source)
    return path / LINES if path.is_dir() else path


def read(path):
    """The lines as dictionaries, in their order; none if there is no file.

    A last line without its end is passed over: it is being written, or its
    writer was killed.

    Raises:
        RunError: If another line is no JSON object.
    """
    path = pathlib.Path(path)
    if not path.exists():
        return []
    found = []
    *whole, _ = path.read_bytes().split(b"\n")
    for number, text in enumerate(whole, 1):
        try:
            line = json.loads(text)
        except ValueError as error:
            raise _broken(path, number) from error
        if not isinstance(line, dict):
            raise _broken(path, number)
        found.append(line)
    return found


def _broken(path, number):
    return RunError(
        f"Line {number} of '{path}' is not that of a run. Remove it; the same "
        "command writes it again from the run's own folder."
    )


def cut_broken_line(path):
    """Removes a last line whose writer was killed."""
    if path.exists():
        with path.open("r+b") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
