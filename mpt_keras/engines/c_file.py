"""Tickets as one C99 file, for whatever has a C compiler."""

import ctypes
import dataclasses
import hashlib
import pathlib
import re
import tempfile
from collections.abc import Callable, Mapping

import keras
import numpy as np

from mpt_keras import _environment
from mpt_keras.engines.engine import Engine
from mpt_keras.engines.kernels import kernels_of
from mpt_keras.engines.plans import plan_of
from mpt_keras.engines.report import LayerReport
from mpt_keras.runtime import c_source, compiling, processor
from mpt_keras.runtime.fusing import fuse
from mpt_keras.runtime.packing import pack

_NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)
_WORD = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_KEYWORDS = frozenset(
    "auto break case char const continue default do double else enum extern "
    "float for goto if inline int long register restrict return short signed "
    "sizeof static struct switch typedef union unsigned void volatile while "
    "main".split()
)
_FACT = re.compile(r"^   (\w+): +(.*)$", re.MULTILINE)
_LAYER = re.compile(r"^     ([\d,]+) bytes, (\w+), (.+)$", re.MULTILINE)
# Flags of the compiler for two builds that compute in other ways.
BUILDS: Mapping[str, tuple[str, ...]] = {
    "vectors": (),
    "plain C": ("-Os", f"-DMPT_WIDTH={c_source.SCALAR}"),
}


@dataclasses.dataclass(frozen=True)
class CFile(Engine):
    """A file with the weights and the code, which nothing else is needed for.

    Attributes:
        vectors: Whether to compute with vectors, of the size that the compiler
            is told that the processor has; without, it is for microcontrollers.
        name: Of the function, and the only one that others see.
    """

    vectors: bool = True
    name: str = "predict"

    format = "c"
    ending = ".c"
    backends = ("tensorflow", "jax", "torch")
    fixed = True
