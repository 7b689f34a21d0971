"""Files and folders that take the place of others, whole or not at all."""

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def replaced(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a path to write to, which becomes `path` at the end.

    It has the same name, in a folder beside it. What stood at `path` stays
    until then, and stays if the block raises an error. A link stays one.

    Args:
        path: File or folder; what stands there is of the same kind.

    Raises:
        OSError: If nothing can be written there.

    Example:

    >>> with replaced(pathlib.Path("a.txt")) as beside:
    ...     _ = beside.write_text("whole")
    >>> pathlib.Path("a.txt").read_text()
    'whole'
    """
    target = pathlib.Path(os.path.realpath(path)) if path.is_symlink() else path
    try:
        folder = pathlib.Path(
            tempfile.mkdtemp(prefix=".partial-", dir=target.parent)
        )
    except OSError as error:
        raise OSError(
            error.errno, f"Could not write '{path}': {error.strerror}"
        ) from error
    try:
        (folder / "new").mkdir()
        beside = folder / "new" / path.name
        yield beside
        if beside.is_dir():
            _exchange(beside, target, folder / "before")
        else:
            beside.replace(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _exchange(new, path, old):
    """A folder cannot be renamed to one that holds files."""
    if path.exists():
        path.rename(old)
    try:
        new.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
