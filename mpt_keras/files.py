"""Files that are whole at every moment."""

import contextlib
import json
import os
import pathlib
import secrets
import stat

_PARTIAL = "partial-"


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file beside what is there, then renames it.

    An interruption or a full disk leaves the file that was there before, and
    of several writers at once one wins. A link stays one; a file that is
    replaced leaves its permissions to the new one.

    Raises:
        OSError: If the file cannot be written.
    """
    path = pathlib.Path(os.path.realpath(path))
    if path.is_dir():
        raise IsADirectoryError(f"Expected a file. '{path}' is a folder.")
    # Nobody else's name, and not longer than that of the file may be.
    beside = path.with_name(f"{_PARTIAL}{secrets.token_hex(8)}")
    try:
        with beside.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            beside.chmod(stat.S_IMODE(path.stat().st_mode))
        beside.replace(path)
    except OSError as error:
        raise OSError(
            error.errno, f"Could not write '{path}': {error.strerror}"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """The same for a text, in UTF-8."""
    write_whole(path, text.encode())


def write_json(path: str | os.PathLike[str], content: object) -> None:
    """The same for JSON; what it does not know becomes text."""
    write_text(path, json.dumps(content, indent=2, default=str) + "\n")


def is_partial(path: str | os.PathLike[str]) -> bool:
    """Whether a file is what a writer left beside it when it was killed."""
    return pathlib.Path(path).name.startswith(_PARTIAL)
