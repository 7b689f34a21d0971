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


def encode_mask(mask, start=None, base=None, free=None) -> bytes:
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
        free: Boolean array of the mask's shape, True at the weights that the
            decoder does not know already, one or more; or None for all. The
            others take no bytes.

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
    _check_known(mask.shape, start, base, free)
    coded = mask.ravel() if free is None else mask[free]
    kept = int(np.count_nonzero(coded))
    if kept in (0, coded.size):
        return bytes([_CONSTANT])
    plain = 5 + math.ceil(_entropy(kept, coded.size) / 32) * 4
    settings = choose_settings(
        mask.reshape(_matrix(mask.shape)), kept, start, base, free
    )
    modelled = _encode_modelled(mask, kept, settings, start, base, free)
    if len(modelled) <= plain:
        return modelled
    return _encode_plain(coded, kept)


def decode_mask(data, shape, kept, start=None, base=None, free=None):
    """Returns the mask of `encode_mask`.

    Whatever the bytes, it takes memory and time for as many weights as the
    shape has, and returns a mask that keeps `kept` of them or raises.

    Args:
        data: Bytes.
        shape: Shape tuple of the mask.
        kept: Integer, number of weights kept, of `free` ones if given.
        start, base, free: As they were given to `encode_mask`.

    Returns:
        Boolean array, False at the weights that are not free.

    Raises:
        ValueError: If the bytes are not such a mask.
    """
    shape, kept, data = tuple(shape), int(kept), bytes(data)
    _check_known(shape, start, base, free)
    size = math.prod(shape) if free is None else int(np.count_nonzero(free))
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
        return _placed(np.full(size, kept > 0), shape, free)
    if kind not in (_PLAIN, _MODELLED) or kept in (0, size):
        raise ValueError(
            f"Expected a mask of the kinds {_CONSTANT} (all weights or none), "
            f"{_PLAIN} or {_MODELLED}. Received: kind {kind}, {kept} of "
            f"{size} kept"
        )
    if kind == _PLAIN:
        mask = _placed(_decode_plain(data, size, kept), shape, free)
    else:
        mask = _decode_modelled(data, shape, kept, start, base, free)
    found = int(np.count_nonzero(mask))
    if found != kept:
        raise ValueError(
            f"Expected a mask that keeps {kept} of {size} weights. Received: "
            f"{found}"
        )
    return mask


def _placed(bits, shape, free):
    """A mask of the bits of its free weights."""
    if free is None:
        return bits.reshape(shape)
    mask = np.zeros(shape, bool)
    mask[free] = bits
    return mask


def _check_known(shape, start, base, free):
    size = math.prod(shape)
    known = {"base": (base, bool), "free": (free, bool)}
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


def _decode_plain(data, size, kept):
    zeros = _plain_zeros(kept, size)
    mask = compiled_masks.decode_plain(data[1:], size, zeros)
    if mask is not None:
        return mask
    coder = range_coder.Decoder(data[1:])
    bits = coder.decode(_plain_probability(kept, size), size)
    coder.finish()
    return bits.astype(bool)


def _matrix(shape):
    columns = mask_weights.columns_of(shape)
    return math.prod(shape) // columns, columns


def _encode_modelled(mask, kept, settings, start, base, free=None):
    shape = _matrix(mask.shape)
    mask = mask.reshape(shape)
    free = None if free is None else free.reshape(shape)
    model = MaskModel(shape, kept, settings, start, base, free)
    coder = range_coder.Encoder()
    for cell in model.cells():
        place = _place(*cell)
        bits = mask[place]
        bits = bits.ravel() if free is None else bits[free[place]]
        coder.encode(bits, model.probabilities(*cell))
        model.learn(bits)
    head = bytes([_MODELLED])
    head += _SETTINGS.pack(
        settings.scale, settings.by_weight, len(settings.offsets)
    )
    head += b"".join(_OFFSET.pack(offset) for offset in settings.offsets)
    return head + coder.finish()


def _decode_modelled(data, shape, kept, start, base, free):
    matrix = _matrix(shape)
    settings, first = _read_settings(data, matrix[0], start)
    if free is None:
        mask = compiled_masks.decode_modelled(
            data[first:], matrix, kept, settings, start, base
        )
        if mask is not None:
            return mask.reshape(shape)
    else:
        free = free.reshape(matrix)
    model = MaskModel(matrix, kept, settings, start, base, free)
    coder = range_coder.Decoder(data[first:])
    mask = np.zeros(matrix, bool)
    for cell in model.cells():
        bits = coder.decode(model.probabilities(*cell))
        place = _place(*cell)
        mask[place] = _placed(
            bits, mask[place].shape, None if free is None else free[place]
        )
        model.learn(bits)
    coder.finish()
    return mask.reshape(shape)


def _place(rows, column_class):
    """Where a cell stands in its matrix."""
    return rows, slice(column_class, None, mask_weights.CLASSES)


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
