"""Folders that one process at a time works in."""

import contextlib
import pathlib

import filelock

from mpt_keras import files
from mpt_keras.experiments.errors import RunError

# Stays in the folder, empty; says nothing of whether somebody is at work.
NAME = ".lock"


def is_new(folder):
    """Whether a folder holds no more than a process killed at its beginning."""
    return all(
        file.name == NAME or files.is_partial(file) for file in folder.iterdir()
    )


@contextlib.contextmanager
def exclusive(folder, wait=2.0):
    """Holds a folder, until the end of the process at the latest.

    Whoever holds it already may ask again, within the same thread.

    Args:
        folder: A folder that exists.
        wait: Seconds; a process that was killed takes a moment to end.

    Raises:
        RunError: If another process holds it for longer.
    """
    lock = filelock.FileLock(pathlib.Path(folder) / NAME, is_singleton=True)
    try:
        lock.acquire(timeout=wait)
    except filelock.Timeout as error:
        raise RunError(
            f"'{folder}' is in use by another process. Nothing was changed. "
            "Wait for that one, or end it; what it has written is kept."
        ) from error
    try:
        yield
    finally:
        lock.release()
