"""The compiled kernels: found, else compiled, and loaded into this process."""

import contextlib
import ctypes
import dataclasses
import os
import pathlib
import stat
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable

from mpt_keras import compiled, files
from mpt_keras.runtime import compiling, processor
from mpt_keras.runtime.structures import structures

VARIABLE = "MPT_KERAS_CACHE"

# Those that come with the package, where a wheel was built for this system.
_PACKED = pathlib.Path(__file__).with_name("compiled")
_loaded: dict[str, "Library"] = {}
_warned: set[str] = set()
_lock = threading.RLock()


class Step(ctypes.Structure):
    """A kernel and its fields: `struct step_of_run`."""

    _fields_ = (("kernel", ctypes.c_void_p), ("fields", ctypes.c_void_p))


@dataclasses.dataclass(frozen=True, eq=False)
class Library:
    """Kernels that can be called.

    Attributes:
        level: Instruction set, one of `processor.levels()`.
        origin: File that they were loaded from; a temporary one is gone.
        run: `run(steps, count, from, images, to, results, arena)` of
            `kernels/run.c`; images, results and arena as addresses.
    """

    level: str
    origin: pathlib.Path
    run: Callable[..., None]
    _handle: ctypes.CDLL

    @property
    def counts_bits(self) -> bool:
        """Whether one instruction counts the bits of a vector."""
        return self.level == "avx512_popcnt"

    def function(self, name: str) -> int:
        """Address of a kernel."""
        pointer = ctypes.cast(getattr(self._handle, name), ctypes.c_void_p)
        return pointer.value or 0


def load(level: str | None = None) -> Library | None:
    """The kernels for an instruction set.

    They come from the package, where a wheel brought them; else from the
    folder `cache_folder()`; else they are compiled, and kept there. With the
    first of them come functions that read tickets faster (`compiled`).

    Args:
        level: One of `processor.levels()`, or `"numpy"`; by default what the
            environment variable `MPT_KERAS_RUNTIME_LEVEL` says, else the best.

    Returns:
        `Library`; or None, for `"numpy"`; or, after a warning, if there is
        none and no compiler.

    Raises:
        ValueError: If this processor has no such instruction set.
    """
    level = processor.choose(level)
    if level == processor.NUMPY:
        return None
    with _lock:
        if level not in _loaded:
            library = _found(level) or _compiled(level)
            if library is None:
                return None
            _loaded[level] = library
            compiled.use(library.function)
        return _loaded[level]


def cache_folder() -> pathlib.Path:
    """Where compiled kernels are kept.

    The environment variable `MPT_KERAS_CACHE` names it; else it is `mpt_keras`
    in the user's folder for what can be made anew. Files of other users, and
    those of a folder that everybody may write to, are not loaded.
    """
    if folder := os.environ.get(VARIABLE):
        return pathlib.Path(folder).absolute()
    if sys.platform == "win32":
        folder = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
        folder = f"{folder}/mpt_keras/Cache"
    elif sys.platform == "darwin":
        folder = "~/Library/Caches/mpt_keras"
    else:
        # The standard wants paths from the root, and others to be ignored.
        folder = os.environ.get("XDG_CACHE_HOME", "")
        folder = folder if folder.startswith("/") else "~/.cache"
        folder = f"{folder}/mpt_keras"
    try:
        return pathlib.Path(folder).expanduser()
    except RuntimeError:  # a user without a home, as in many a container
        return pathlib.Path(tempfile.gettempdir(), f"mpt_keras-{os.getuid()}")


def _found(level):
    """The library from the package or the cache, if one is there and whole."""
    begin = compiling.library_name(level)
    for folder in (_PACKED, cache_folder()):
        is_packed = folder is _PACKED
        if not is_packed and not _is_ours(folder):
            continue
        for path in sorted(folder.glob(f"{begin}-*")):
            with contextlib.suppress(OSError):
                is_whole = path.name == compiling.file_name(
                    begin, path.read_bytes()
                )
                if is_whole and (is_packed or _is_ours(path)):
                    return _opened(level, path)
    return None


def _compiled(level):
    """The library, compiled; None, after a warning, if that is impossible."""
    try:
        data = compiling.compile_kernels(level)
    except (compiling.CompilerError, OSError) as error:
        _warn_once(_slow(error))
        return None
    name = compiling.file_name(compiling.library_name(level), data)
    try:
        return _opened(level, _kept(name, data))
    except OSError as error:
        reason = error
    try:
        with tempfile.TemporaryDirectory(
            prefix="mpt_keras-", ignore_cleanup_errors=True
        ) as folder:
            path = pathlib.Path(folder) / name
            path.write_bytes(data)
            library = _opened(level, path)
    except OSError as error:
        _warn_once(_slow(f"could not load the kernels it compiled: {error}"))
        return None
    _warn_once(
        "mpt_keras compiles its kernels anew in every process, because it "
        f"cannot keep them: {reason}. Set the environment variable "
        f"{VARIABLE} to a folder of your own."
    )
    return library


def _kept(name, data):
    """Puts a library into the cache."""
    folder = cache_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_ours(folder):
        raise PermissionError(
            f"'{folder}' belongs to another user, or everybody may write to it"
        )
    path = folder / name
    files.write_whole(path, data)
    path.chmod(0o644)
    return path


def _is_ours(path):
    """Whether nobody but this user (and the system's) can have written it."""
    try:
        status = path.stat()
    except OSError:
        return False
    if not hasattr(os, "geteuid"):  # Windows, where folders are a user's own
        return True
    is_open = status.st_mode & stat.S_IWOTH
    return status.st_uid == os.geteuid() and not is_open


def _opened(level, path):
    handle = ctypes.CDLL(os.fspath(path))
    run = handle.run
    kinds = structures()
    run.restype = None
    run.argtypes = (
        *(ctypes.POINTER(Step), ctypes.c_int32),
        *(ctypes.POINTER(kinds["images_to_planes"]), ctypes.c_void_p),
        *(ctypes.POINTER(kinds["planes_to_images"]), ctypes.c_void_p),
        ctypes.c_void_p,
    )
    return Library(level, path, run, handle)


def _slow(reason):
    return (
        f"Networks run with NumPy, slowly: mpt_keras {reason}\nA compiler that "
        'pip installs: pip install "mpt_keras[runtime]"'
    )


def _warn_once(message):
    if message not in _warned:
        _warned.add(message)
        warnings.warn(message, stacklevel=4)
