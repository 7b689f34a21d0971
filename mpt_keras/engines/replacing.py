"""Files and folders that take the place of others, whole or not at all."""

import contextlib
import pathlib
import shutil
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def replaced(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a path to write to, which becomes `path` at the end.

    It has the same name, in a folder beside it. What stood at `path` stays
    until then, and stays if the block raises an error.

    Args:
        path: File or folder; what stands there is of the same kind.

    Example:

    >>> with replaced(pathlib.Path("a.txt")) as beside:
    ...     _ = beside.write_text("whole")
    >>> pathlib.Path("a.txt").read_text()
    'whole'
    """
    folder = pathlib.Path(
        tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent)
    )
    try:
        beside = folder / path.name
        yield beside
        if beside.is_dir():
            _exchange(beside, path, folder / "before")
        else:
            beside.replace(path)
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
