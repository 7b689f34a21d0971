"""Compiled functions for what takes long, if somebody has compiled them.

They give what the NumPy code beside them gives, to the bit. Whoever has the
library of `runtime/kernels/` passes it to `use`.
"""

import ctypes

import numpy as np

from mpt_keras.ticket import mask_weights, range_coder
from mpt_keras.ticket.logarithms import MANTISSAS, ZERO_WEIGHTS
from mpt_keras.ticket.mask_model import CHANGES, SHARES, VARIANCES

_library = None


def use(library: ctypes.CDLL | None) -> None:
    """Reads tickets by a library's functions from now on; None: by NumPy."""
    global _library
    _library = library


def is_used() -> bool:
    """Whether there is a library, without which nothing here works."""
    return _library is not None


_Pointer, _Integer = ctypes.c_void_p, ctypes.c_int64


class _PlainMask(ctypes.Structure):
    _fields_ = (
        ("words", _Pointer),
        *((name, _Integer) for name in ("bytes", "size", "zeros")),
    )


class _ModelledMask(ctypes.Structure):
    _fields_ = (
        ("words", _Pointer),
        *((name, _Integer) for name in ("bytes", "rows", "columns", "kept")),
        *((name, _Integer) for name in ("scale", "by_weight", "offset_count")),
        ("offsets", _Integer * mask_weights.MOST_OFFSETS),
        *((name, _Pointer) for name in ("quantiles", "kernel", "base")),
        *((name, _Pointer) for name in ("zeros", "shares", "variances")),
        *((name, _Pointer) for name in ("changes", "mantissas")),
    )


_TABLES = {
    name: np.ascontiguousarray(table, "int32")
    for name, table in (
        ("zeros", ZERO_WEIGHTS),
        ("shares", SHARES),
        ("variances", VARIANCES),
        ("changes", CHANGES),
        ("mantissas", MANTISSAS),
    )
}


def decode_plain_mask(data, size, zeros):
    """Bits of one probability.

    Args:
        data: Bytes of the range coder.
        size: Number of bits.
        zeros: Integer, the weight of a 0.

    Returns:
        Boolean array of shape `(size,)`.

    Raises:
        ValueError: If the bytes are not such bits.
    """
    range_coder.check_whole_words(data)
    record = _PlainMask(_bytes(data), len(data), size, zeros)
    mask = np.empty(size, bool)
    decode = _library.decode_plain_mask
    _check(decode(ctypes.byref(record), _address(mask)))
    return mask


def decode_modelled_mask(data, shape, kept, settings, start, base):
    """Bits of the probabilities of a `MaskModel`.

    Args:
        data: Bytes of the range coder.
        shape, kept, settings, start, base: As for `MaskModel`.

    Returns:
        Boolean matrix.

    Raises:
        ValueError: If the bytes are not such bits.
    """
    range_coder.check_whole_words(data)
    rows, columns = shape
    offsets = settings.offsets
    record = _ModelledMask(_bytes(data), len(data), rows, columns, kept)
    record.scale, record.by_weight = settings.scale, settings.by_weight
    record.offset_count = len(offsets)
    record.offsets[: len(offsets)] = offsets
    known = {
        "quantiles": None if start is None else start.quantiles,
        "kernel": None if start is None else start.kernel,
        "base": base,
    }
    for name, array in known.items():
        if array is not None:
            known[name] = np.ascontiguousarray(array)
            setattr(record, name, _address(known[name]))
    for name, table in _TABLES.items():
        setattr(record, name, _address(table))
    count_bytes = _library.modelled_mask_bytes
    count_bytes.restype = ctypes.c_int64
    memory = np.empty(count_bytes(ctypes.byref(record)), "uint8")
    mask = np.empty(shape, bool)
    decode = _library.decode_modelled_mask
    _check(decode(ctypes.byref(record), _address(memory), _address(mask)))
    return mask


def _check(end):
    if end:
        messages = range_coder.NOT_ENCODED, range_coder.WORDS_LEFT
        raise ValueError(messages[end - 1])


def _address(array):
    return ctypes.c_void_p(array.ctypes.data)


def _bytes(data):
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p)
