"""Which instruction sets this processor has, and its system lets us use."""

import contextlib
import functools
import importlib
import os
import pathlib
import re

from mpt_keras.runtime.compiling import LEVELS, architecture

VARIABLE = "MPT_KERAS_RUNTIME_LEVEL"
NUMPY = "numpy"  # no compiled kernels at all

# By NumPy's names.
_AVX2 = {"AVX2", "FMA3", "POPCNT"}
_AVX512 = {*_AVX2, "AVX512F", "AVX512BW", "AVX512DQ", "AVX512VL"}
_POPCNT = {*_AVX512, "AVX512VPOPCNTDQ", "AVX512BITALG", "AVX512VBMI"}
_NEEDED = {"avx512_popcnt": _POPCNT, "avx512": _AVX512, "avx2": _AVX2}


@functools.cache
def levels() -> tuple[str, ...]:
    """The instruction sets that can run here, the best first.

    Example:

    >>> mpt_keras.runtime.levels()[-1]  # C without vectors, anywhere
    'plain'
    """
    features = _features()
    return tuple(
        level
        for level in LEVELS[architecture()]
        if _NEEDED.get(level, set()) <= features
    )


def choose(level: str | None = None) -> str:
    """The instruction set to use.

    Args:
        level: One of `levels()`, or `NUMPY`; by default what the environment
            variable `MPT_KERAS_RUNTIME_LEVEL` says, else the best.

    Raises:
        ValueError: If this processor has no such instruction set.
    """
    where = "argument `level`"
    if level is None:
        level = os.environ.get(VARIABLE) or levels()[0]
        where = f"the environment variable {VARIABLE}"
    known = (*levels(), NUMPY)
    if level not in known:
        raise ValueError(
            f"Invalid value for {where}. Expected an instruction set of this "
            f"processor: {', '.join(map(repr, known))}. "
            f"Received: {level!r}"
        )
    return level


def _features():
    """Names of what the processor has and the system has switched on."""
    features = _of_numpy()
    return _of_linux() if features is None else features


def _of_numpy():
    for package in ("numpy._core", "numpy.core"):
        with contextlib.suppress(ImportError):
            module = importlib.import_module(f"{package}._multiarray_umath")
            found = getattr(module, "__cpu_features__", {})
            if "AVX2" in found:  # it is a dictionary without promises
                return {name for name, has in found.items() if has}
    return None


def _of_linux():
    """From Linux, which leaves out what it has not switched on."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return set()
    flags = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    names = flags[1].upper().replace("_", "").split() if flags else ()
    return {"FMA3" if name == "FMA" else name for name in names}
