"""Files that are whole at every moment."""

import contextlib
import os
import pathlib


def write_whole(path: pathlib.Path, data: bytes) -> None:
    """Writes a file beside what is there, then renames it.

    An interruption or a full disk leaves the file that was there before.

    Raises:
        OSError: If the file cannot be written.
    """
    beside = path.with_name(f"partial-{path.name}")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
