"""Files that are whole at every moment.

They are written beside what is there and then renamed, so that an
interruption, a full disk or a killed process leaves the last whole file where
it was.
"""

import contextlib
import math
import os
import shutil
import tempfile


@contextlib.contextmanager
def unharmed(path, beside):
    """Turns what HDF5 and the system raise into one error that tells all."""
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(OSError):
            remove(beside)
        # The last one is a model's that cannot be saved.
        of_the_disk = isinstance(error, (OSError, RuntimeError))
        if not of_the_disk or isinstance(error, NotImplementedError):
            raise
        raise OSError(
            f"Could not write '{path}': {error}. What was saved there before "
            "is unharmed. Make room or make the folder writable, then "
            "continue from it."
        ) from error


def remove(path):
    """Removes a file, a link or a folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def check_room(path, model):
    """Raises `OSError` where a model does not fit on the disk.

    The HDF5 library would crash the process over it.
    """
    optimizer = getattr(model, "optimizer", None)
    variables = [*model.variables, *(optimizer.variables if optimizer else ())]
    numbers = sum(math.prod(variable.shape) for variable in variables)
    # Four bytes for each, and what HDF5 adds to each variable.
    size = 4 * numbers + 2**12 * (len(variables) + 16)
    if not hasattr(os, "posix_fallocate"):
        return
    with tempfile.TemporaryFile(dir=path.parent) as file:
        os.posix_fallocate(file.fileno(), 0, size)


def flush(path):
    """Some file systems say only now that there is no room."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
