"""Results as lines: a JSON object for each training, at the end of a file."""

import json
import os
import pathlib

from mpt_keras.experiments.errors import RunError

NAME = "lines.jsonl"


def file_of(source):
    """The file of lines at a path: that file, or the one in that folder."""
    path = pathlib.Path(source)
    return path / NAME if path.is_dir() else path


def read(path):
    """The lines as dictionaries, one for each folder, the last one counts.

    A last line that was cut in half is passed over: it is being written, or
    its writer was killed.

    Raises:
        RunError: If another line is not that of a training.
    """
    path = pathlib.Path(path)
    if not path.exists():
        return []
    found = {}
    *whole, last = path.read_bytes().split(b"\n")
    if _is_whole(last):  # an editor has left out its end
        whole.append(last)
    for number, text in enumerate(whole, 1):
        try:
            line = json.loads(text)
            found[line["folder"]] = line
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"Line {number} of '{path}' is not that of a training. Remove "
                "it; the run that it belongs to writes it again."
            ) from error
    return list(found.values())


def append(path, lines):
    """Writes lines after those that are there, and onto the disk.

    A last line that was cut in half is removed before.
    """
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    with pathlib.Path(path).open("a+b") as file:
        file.seek(0)
        before, end, last = file.read().rpartition(b"\n")
        if _is_whole(last):
            text = f"\n{text}"
        else:
            file.truncate(len(before + end))
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def _is_whole(text):
    """Whether it is an object of JSON, of which no beginning is one."""
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
