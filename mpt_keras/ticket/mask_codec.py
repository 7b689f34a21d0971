"""Masks to bytes and back.

A record is one byte for the kind, then what that kind has:

- `_CONSTANT`: nothing; all weights are kept, or none;
- `_PLAIN`: bits of one probability, range coded;
- `_MODELLED`: the settings of a `MaskModel`, and bits of its probabilities.
"""

import math
import struct

import numpy as np

from mpt_keras.ticket import compiled_masks, mask_weights, range_coder
from mpt_keras.ticket.mask_model import MaskModel
from mpt_keras.ticket.mask_settings import choose_settings
from mpt_keras.ticket.mask_weights import Settings

_CONSTANT, _PLAIN, _MODELLED = range(3)
_SETTINGS = struct.Struct("<hBB")
_OFFSET = struct.Struct("<I")


def encode_mask(mask, start=None, base=None) -> bytes:
    """Returns a mask in few bytes.

    At most about `n * H(kept / n) / 8` for `n` weights with
    `H(p) = -p * log2(p) - (1 - p) * log2(1 - p)`, the entropy of a mask of
    which nothing is known, and far less where it is known how the search for
    it began.

    Args:
        mask: Boolean array of any shape, at least one weight; True at the
            weights kept.
        start: `Start` of the kernel, arrays of the mask's size; or None.
        base: Boolean array of the mask's shape, a mask that the decoder has
            and that this one is like; or None.

    Returns:
        Bytes for `decode_mask`.

    Raises:
        ValueError: If the arrays do not fit.

    Example:

    >>> from mpt_keras.ticket.mask_codec import decode_mask, encode_mask
    >>> mask = np.arange(10_000).reshape(100, 100) % 7 == 0
    >>> data = encode_mask(mask)
    >>> bool(np.all(decode_mask(data, (100, 100), mask.sum()) == mask))
    True
    >>> len(encode_mask(mask, base=mask)) < len(data) < 10_000 / 8
    True
    """
    mask = np.asarray(mask)
    if mask.dtype != bool or not mask.size:
        raise ValueError(
            "Invalid value for argument `mask`. Expected a boolean array of "
            f"at least one weight. Received: {mask.dtype} of the shape "
            f"{mask.shape}"
        )
    _check_known(mask.shape, start, base)
    kept = np.count_nonzero(mask)
    if kept in (0, mask.size):
        return bytes([_CONSTANT])
    plain = 5 + math.ceil(_entropy(kept, mask.size) / 32) * 4
    settings = choose_settings(
        mask.reshape(_matrix(mask.shape)), kept, start, base
    )
    modelled = _encode_modelled(mask, kept, settings, start, base)
    if len(modelled) <= plain:
        return modelled
    return _encode_plain(mask, kept)


def decode_mask(data, shape, kept, start=None, base=None):
    """Returns the mask of `encode_mask`.

    Whatever the bytes, it takes memory and time for as many weights as the
    shape has, and returns a mask that keeps `kept` of them or raises.

    Args:
        data: Bytes.
        shape: Shape tuple of the mask.
        kept: Integer, number of weights kept.
        start, base: As they were given to `encode_mask`.

    Returns:
        Boolean array.

    Raises:
        ValueError: If the bytes are not such a mask.
    """
    shape, kept, data = tuple(shape), int(kept), bytes(data)
    _check_known(shape, start, base)
    size = math.prod(shape)
    if not 0 <= kept <= size:
        raise ValueError(
            f"Expected to keep between 0 and {size} weights of the shape "
            f"{shape}. Received: {kept}"
        )
    kind = data[0] if data else None
    if kind == _CONSTANT:
        if kept not in (0, size) or len(data) > 1:
            raise ValueError(
                "Expected a mask that keeps all weights or none, in one byte. "
                f"Received: {kept} of {size} kept, {len(data)} bytes"
            )
        return np.full(shape, kept > 0)
    if kind not in (_PLAIN, _MODELLED) or kept in (0, size):
        raise ValueError(
            f"Expected a mask of the kinds {_CONSTANT} (all weights or none), "
            f"{_PLAIN} or {_MODELLED}. Received: kind {kind}, {kept} of "
            f"{size} kept"
        )
    decode = _decode_plain if kind == _PLAIN else _decode_modelled
    mask = decode(data, shape, kept, start, base)
    found = np.count_nonzero(mask)
    if found != kept:
        raise ValueError(
            f"Expected a mask that keeps {kept} of {size} weights. Received: "
            f"{found}"
        )
    return mask


def _check_known(shape, start, base):
    size = math.prod(shape)
    known = {"base": (base, bool)}
    if start is not None:
        known["start.quantiles"] = (start.quantiles, np.uint16)
        known["start.kernel"] = (start.kernel, np.float32)
    for name, (array, dtype) in known.items():
        if array is not None and (array.dtype != dtype or array.size != size):
            raise ValueError(
                f"Invalid value for argument `{name}`. Expected an array of "
                f"{size} numbers of {np.dtype(dtype)}. Received: {array.size} "
                f"of {array.dtype}"
            )


def _entropy(kept, size):
    """Bits of a mask of which nothing else is known."""
    share = kept / size
    return -size * (
        share * math.log2(share) + (1 - share) * math.log2(1 - share)
    )


def _plain_zeros(kept, size):
    """The weight of a 0 in the range coder."""
    total = range_coder.TOTAL
    zeros = (2 * total * (size - kept) + size) // (2 * size)
    return min(max(zeros, 1), total - 1)


def _plain_probability(kept, size):
    return range_coder.zero_weights_to_floats(_plain_zeros(kept, size))


def _encode_plain(mask, kept):
    coder = range_coder.Encoder()
    coder.encode(mask.ravel(), _plain_probability(kept, mask.size))
    return bytes([_PLAIN]) + coder.finish()


def _decode_plain(data, shape, kept, start, base):
    size = math.prod(shape)
    zeros = _plain_zeros(kept, size)
    mask = compiled_masks.decode_plain(data[1:], size, zeros)
    if mask is not None:
        return mask.reshape(shape)
    coder = range_coder.Decoder(data[1:])
    bits = coder.decode(_plain_probability(kept, size), size)
    coder.finish()
    return bits.astype(bool).reshape(shape)


def _matrix(shape):
    columns = mask_weights.columns_of(shape)
    return math.prod(shape) // columns, columns


def _encode_modelled(mask, kept, settings, start, base):
    mask = mask.reshape(_matrix(mask.shape))
    model = MaskModel(mask.shape, kept, settings, start, base)
    coder = range_coder.Encoder()
    for rows, column_class in model.cells():
        bits = mask[rows, column_class :: mask_weights.CLASSES].ravel()
        coder.encode(bits, model.probabilities(rows, column_class).ravel())
        model.learn(bits)
    head = bytes([_MODELLED])
    head += _SETTINGS.pack(
        settings.scale, settings.by_weight, len(settings.offsets)
    )
    head += b"".join(_OFFSET.pack(offset) for offset in settings.offsets)
    return head + coder.finish()


def _decode_modelled(data, shape, kept, start, base):
    rows, columns = _matrix(shape)
    settings, first = _read_settings(data, rows, start)
    mask = compiled_masks.decode_modelled(
        data[first:], (rows, columns), kept, settings, start, base
    )
    if mask is not None:
        return mask.reshape(shape)
    model = MaskModel((rows, columns), kept, settings, start, base)
    coder = range_coder.Decoder(data[first:])
    mask = np.empty((rows, columns), bool)
    for cell_rows, column_class in model.cells():
        probabilities = model.probabilities(cell_rows, column_class)
        bits = coder.decode(probabilities.ravel())
        bits = bits.reshape(probabilities.shape)
        mask[cell_rows, column_class :: mask_weights.CLASSES] = bits
        model.learn(bits)
    coder.finish()
    return mask.reshape(shape)


def _read_settings(data, rows, start):
    end = 1 + _SETTINGS.size
    if len(data) < end:
        raise ValueError(
            f"Expected at least {end} bytes. Received: {len(data)} bytes"
        )
    scale, by_weight, count = _SETTINGS.unpack_from(data, 1)
    first = end + _OFFSET.size * count
    largest, most = mask_weights.LARGEST_SCALE, mask_weights.MOST_OFFSETS
    if not -largest <= scale <= largest or count > most or len(data) < first:
        raise ValueError(
            f"Expected a scale in +-{largest} and at most {most} offsets. "
            f"Received: {scale}, {count} offsets in {len(data)} bytes"
        )
    has_kernel = start is not None and start.kernel is not None
    if by_weight > has_kernel:
        raise ValueError(
            "Expected distances in units of |w| (1) only where the kernel is "
            f"known, or 0. Received: {by_weight}"
        )
    offsets = tuple(
        offset for (offset,) in _OFFSET.iter_unpack(data[end:first])
    )
    if not all(0 < offset < rows for offset in offsets):
        raise ValueError(
            f"Expected offsets within {rows} rows. Received: {offsets}"
        )
    return Settings(scale, bool(by_weight), offsets), first
