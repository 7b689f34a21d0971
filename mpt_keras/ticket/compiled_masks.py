"""Masks, decoded by compiled code: `runtime/kernels/masks.c`."""

import ctypes

import numpy as np

from mpt_keras import compiled
from mpt_keras.ticket import mask_weights, range_coder
from mpt_keras.ticket.logarithms import MANTISSAS, ZERO_WEIGHTS
from mpt_keras.ticket.mask_model import CHANGES, SHARES, VARIANCES

# Of these, and of no more, sums over a column fit 32 bits.
_MOST_ROWS = 2**24

_Pointer, _Integer = ctypes.c_void_p, ctypes.c_int64


class _PlainMask(ctypes.Structure):
    _fields_ = (
        ("words", ctypes.c_char_p),
        *((name, _Integer) for name in ("bytes", "size", "zeros")),
    )


class _ModelledMask(ctypes.Structure):
    _fields_ = (
        ("words", ctypes.c_char_p),
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


def decode_plain(data, size, zeros):
    """Bits of one probability.

    Args:
        data: Bytes of the range coder.
        size: Number of bits.
        zeros: Integer, the weight of a 0.

    Returns:
        Boolean array of shape `(size,)`; None if nothing is compiled.

    Raises:
        ValueError: If the bytes are not such bits.
    """
    decode = compiled.function(
        "decode_plain_mask",
        *(ctypes.POINTER(_PlainMask), _Pointer),
        result=ctypes.c_int32,
    )
    if decode is None:
        return None
    range_coder.check_whole_words(data)
    record = _PlainMask(data, len(data), size, zeros)
    mask = np.empty(size, bool)
    _check(decode(record, compiled.address(mask)))
    return mask


def decode_modelled(data, shape, kept, settings, start, base):
    """Bits of the probabilities of a `MaskModel`.

    Args:
        data: Bytes of the range coder.
        shape, kept, settings, start, base: As for `MaskModel`.

    Returns:
        Boolean matrix; None if nothing is compiled that can.

    Raises:
        ValueError: If the bytes are not such bits.
    """
    pointer = ctypes.POINTER(_ModelledMask)
    count_bytes = compiled.function(
        "modelled_mask_bytes", pointer, result=ctypes.c_int64
    )
    decode = compiled.function(
        "decode_modelled_mask",
        *(pointer, _Pointer, _Pointer),
        result=ctypes.c_int32,
    )
    rows, columns = shape
    if decode is None or rows > _MOST_ROWS:
        return None
    range_coder.check_whole_words(data)
    arrays = {"base": base}
    if start is not None:
        arrays |= {"quantiles": start.quantiles, "kernel": start.kernel}
    arrays = {
        name: np.ascontiguousarray(array)
        for name, array in arrays.items()
        if array is not None
    }
    record = _ModelledMask(
        words=data,
        bytes=len(data),
        rows=rows,
        columns=columns,
        kept=kept,
        scale=settings.scale,
        by_weight=settings.by_weight,
        offset_count=len(settings.offsets),
        offsets=settings.offsets,
        **{
            name: compiled.address(array)
            for name, array in (arrays | _TABLES).items()
        },
    )
    memory = np.empty(count_bytes(record), "uint8")
    mask = np.empty(shape, bool)
    _check(decode(record, compiled.address(memory), compiled.address(mask)))
    return mask


def _check(end):
    if end:
        messages = range_coder.NOT_ENCODED, range_coder.WORDS_LEFT
        raise ValueError(messages[end - 1])
