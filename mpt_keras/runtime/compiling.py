"""Compiles the kernels to a library of one instruction set.

This module needs nothing but Python: `hatch_build.py` runs it where nothing is
installed yet.
"""

import concurrent.futures
import hashlib
import importlib.util
import os
import pathlib
import platform
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence

_SOURCES = sorted(pathlib.Path(__file__).with_name("kernels").glob("*.[ch]"))

_AVX2 = ("-mavx2", "-mfma", "-mpopcnt")
_AVX512 = (
    *_AVX2,
    *("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"),
    "-mprefer-vector-width=512",
)
_POPCNT = ("-mavx512vpopcntdq", "-mavx512bitalg", "-mavx512vbmi")
_PLAIN = {"plain": ("-DMPT_WIDTH=4",)}
# Architecture -> instruction sets, the best first -> flags of the compiler.
LEVELS = {
    "x86_64": {
        "avx512_popcnt": _AVX512 + _POPCNT,
        "avx512": _AVX512,
        "avx2": _AVX2,
        "sse2": (),
        **_PLAIN,
    },
    "aarch64": {"neon": (), **_PLAIN},
    "other": _PLAIN,
}
# No flag lets a sum or a product be rounded otherwise than its source says.
_FLAGS = (
    *("-std=c99", "-O3"),
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"),
    *(() if sys.platform == "win32" else ("-fPIC",)),
)
_OF_KERNELS = (
    "-fvisibility=hidden",
    "-DMPT_LIBRARY",
    '-DMPT_KERNEL=__attribute__((visibility("default")))',
)
# Else zig takes all that this processor has, and builds its own C library,
# in many seconds; on Linux the process has one.
_ZIG_FLAGS = (
    "-mcpu=baseline",
    *(("-nostdlib",) if sys.platform == "linux" else ()),
)
_SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
_PATIENCE = 300  # seconds for one compiler; a first run of zig takes 20
_LONGEST = 2000  # of a message


class CompilerError(RuntimeError):
    """The kernels could not be compiled."""


def architecture() -> str:
    """That of this process: a key of `LEVELS`."""
    machine = platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    is_64_bit = struct.calcsize("P") == 8
    return machine if machine in LEVELS and is_64_bit else "other"


def library_name(level: str) -> str:
    """How the name begins of every file that holds the kernels as they are.

    Args:
        level: Instruction set.

    Returns:
        Name that changes with the sources, the flags and the system.
    """
    digest = hashlib.sha256()
    # With Linux, the C library may be another one.
    is_musl = "musl" in getattr(sys.implementation, "_multiarch", "")
    system = (sys.platform, is_musl, platform.machine(), struct.calcsize("P"))
    flags = (*_FLAGS, *_OF_KERNELS, *LEVELS[architecture()][level])
    digest.update(repr((system, flags)).encode())
    for path in _SOURCES:
        data = path.read_bytes()
        digest.update(f"{path.name} {len(data)} ".encode() + data)
    return f"kernels-{level}-{digest.hexdigest()[:32]}"


def file_name(begin: str, data: bytes) -> str:
    """Name of a file that holds a library, with the checksum of its data.

    Args:
        begin: What `library_name` gave.
        data: Contents of the file.
    """
    return f"{begin}-{hashlib.sha256(data).hexdigest()[:32]}{_SUFFIX}"


def compile_kernels(level: str) -> bytes:
    """The library of one instruction set.

    Args:
        level: Instruction set of this architecture.

    Returns:
        Contents of a shared library.

    Raises:
        CompilerError: If there is no compiler, or none that compiles them.
        OSError: If there is no room for temporary files.
    """
    sources = [path for path in _SOURCES if path.suffix == ".c"]
    flags = (*_OF_KERNELS, *LEVELS[architecture()][level])
    return shared_library(sources, flags, "the kernels")


def shared_library(
    sources: Sequence[pathlib.Path], flags: Sequence[str], what: str
) -> bytes:
    """Compiles C99 for this machine.

    It tries `$CC`, cc, gcc, clang, and the compiler of the package `ziglang`.

    Args:
        sources: Files of different names.
        flags: Of the compiler, behind those that all libraries have.
        what: It is, for messages.

    Returns:
        Contents of a shared library.

    Raises:
        CompilerError: If there is no compiler, or none that compiles them.
        OSError: If there is no room for temporary files.
    """
    return _linked(sources, flags, what, ("-shared",))


def program(
    sources: Sequence[pathlib.Path], flags: Sequence[str], what: str
) -> bytes:
    """`shared_library`, but a program that has a `main`."""
    return _linked(sources, flags, what, ())


def _linked(sources, flags, what, how):
    failures = []
    for compiler in _compilers():
        try:
            return _compiled(compiler, sources, flags, how)
        except (OSError, subprocess.SubprocessError) as error:
            failures.append(f"`{shlex.join(compiler)}`: {_message(error)}")
    if not failures:
        raise CompilerError(
            "found no C compiler (looked for $CC, cc, gcc, clang and the "
            "package ziglang)"
        )
    raise CompilerError(f"could not compile {what}.\n" + "\n".join(failures))


def has_compiler() -> bool:
    """Whether there is a compiler to try."""
    return next(_compilers(), None) is not None


def _compilers() -> Iterator[list[str]]:
    """Commands, each of one compiler."""
    seen = set()
    for command in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        words = shlex.split(command)
        found = shutil.which(words[0]) if words else None
        # `cc` is a link to another of them.
        key = (os.path.realpath(found), *words[1:]) if found else None
        if key and key not in seen:
            seen.add(key)
            yield [found, *words[1:]]
    if importlib.util.find_spec("ziglang") is not None:
        yield [sys.executable, "-m", "ziglang", "cc", *_ZIG_FLAGS]


def _compiled(compiler, sources, flags, how):
    with tempfile.TemporaryDirectory(prefix="mpt_keras-") as folder:
        # What zig would keep is large; the library itself is kept elsewhere.
        caches = {"ZIG_GLOBAL_CACHE_DIR": folder, "ZIG_LOCAL_CACHE_DIR": folder}

        def run(*arguments):
            subprocess.run(
                [*compiler, *arguments],
                check=True,
                cwd=folder,
                env={**caches, **os.environ},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=_PATIENCE,
            )

        def compile_file(source):
            compiled = f"{source.stem}.o"
            run(
                *(*_FLAGS, *flags),
                *("-c", os.fspath(source.absolute()), "-o", compiled),
            )
            return compiled

        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            files = list(pool.map(compile_file, sources))
        path = pathlib.Path(folder) / f"linked{_SUFFIX}"
        run(*how, *files, "-o", str(path))
        return path.read_bytes()


def _message(error):
    """What happened, and the begin of what the compiler printed."""
    output = getattr(error, "output", None) or b""
    if isinstance(error, subprocess.CalledProcessError):
        error = f"ended with status {error.returncode}"
    elif isinstance(error, subprocess.TimeoutExpired):
        error = f"took more than {_PATIENCE} seconds"
    return f"{error}\n{output.decode(errors='replace')[:_LONGEST]}".rstrip()
