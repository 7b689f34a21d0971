"""Compiled functions for what takes long in Python, if somebody has them.

Each does what NumPy code beside it does, to the bit. `mpt_keras.runtime` has
them, once it has loaded its kernels.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

_find: Callable[[str], int] | None = None


def use(find: Callable[[str], int] | None) -> None:
    """Computes by compiled functions from now on, or by NumPy again.

    Args:
        find: Function from the name of one in `runtime/kernels/` to its
            address; None for NumPy.
    """
    global _find
    _find = find


def function(
    name: str, *arguments: type, result: type | None = None
) -> Callable[..., Any] | None:
    """A compiled function, or None.

    Args:
        name: Its name.
        arguments, result: Their types, of `ctypes`; arrays are `c_void_p`.

    Returns:
        Function that releases the interpreter's lock while it computes.
    """
    if _find is None:
        return None
    return ctypes.CFUNCTYPE(result, *arguments)(_find(name))


def address(array: np.ndarray) -> int:
    """Where the numbers of a C-contiguous array begin."""
    return array.ctypes.data
