"""Masks to bytes and back.

A record is one byte for the kind, then what that kind has:

- `_CONSTANT`: nothing; all weights are kept, or none;
- `_PLAIN`: bits of one probability, range coded;
- `_MODELLED`: the settings of a `MaskModel`, and bits of its probabilities.
"""

import math
import struct

import numpy as np

from mpt_keras.ticket import mask_model, range_coder
from mpt_keras.ticket.mask_model import MaskModel, Settings

_CONSTANT, _PLAIN, _MODELLED = range(3)
_SETTINGS = struct.Struct("<hB")
_OFFSET = struct.Struct("<I")
_LOOKED_AT = 1 << 17


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
    modelled = _encode_modelled(mask, kept, start, base)
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


def _plain_probability(kept, size):
    total = range_coder.TOTAL
    zeros = (2 * total * (size - kept) + size) // (2 * size)
    return range_coder.zero_weights_to_floats(min(max(zeros, 1), total - 1))


def _encode_plain(mask, kept):
    coder = range_coder.Encoder()
    coder.encode(mask.ravel(), _plain_probability(kept, mask.size))
    return bytes([_PLAIN]) + coder.finish()


def _decode_plain(data, shape, kept, start, base):
    size = math.prod(shape)
    coder = range_coder.Decoder(data[1:])
    bits = coder.decode(_plain_probability(kept, size), size)
    coder.finish()
    return bits.astype(bool).reshape(shape)


def _matrix(shape):
    columns = mask_model.columns_of(shape)
    return math.prod(shape) // columns, columns


def _encode_modelled(mask, kept, start, base):
    mask = mask.reshape(_matrix(mask.shape))
    settings = _settings_for(mask, kept, start, base)
    model = MaskModel(mask.shape, kept, settings, start, base)
    coder = range_coder.Encoder()
    for rows, column_class in model.cells():
        bits = mask[rows, column_class :: mask_model.CLASSES].ravel()
        coder.encode(bits, model.probabilities(rows, column_class).ravel())
        model.learn(bits)
    head = bytes([_MODELLED])
    head += _SETTINGS.pack(settings.scale, len(settings.offsets))
    head += b"".join(_OFFSET.pack(offset) for offset in settings.offsets)
    return head + coder.finish()


def _decode_modelled(data, shape, kept, start, base):
    rows, columns = _matrix(shape)
    settings, first = _read_settings(data, rows)
    model = MaskModel((rows, columns), kept, settings, start, base)
    coder = range_coder.Decoder(data[first:])
    mask = np.empty((rows, columns), bool)
    for cell_rows, column_class in model.cells():
        probabilities = model.probabilities(cell_rows, column_class)
        bits = coder.decode(probabilities.ravel())
        bits = bits.reshape(probabilities.shape)
        mask[cell_rows, column_class :: mask_model.CLASSES] = bits
        model.learn(bits)
    coder.finish()
    return mask.reshape(shape)


def _read_settings(data, rows):
    end = 1 + _SETTINGS.size
    scale, count = 0, mask_model.MOST_OFFSETS + 1
    if len(data) >= end:
        scale, count = _SETTINGS.unpack_from(data, 1)
    first = end + _OFFSET.size * count
    largest = mask_model.LARGEST_SCALE
    if (
        count > mask_model.MOST_OFFSETS
        or len(data) < first
        or (not -largest <= scale <= largest)
    ):
        raise ValueError(
            f"Expected a scale in +-{largest} and at most "
            f"{mask_model.MOST_OFFSETS} offsets. Received: {scale}, {count} "
            f"offsets in {len(data)} bytes"
        )
    offsets = tuple(
        offset for (offset,) in _OFFSET.iter_unpack(data[end:first])
    )
    if not all(0 < offset < rows for offset in offsets):
        raise ValueError(
            f"Expected offsets within {rows} rows. Received: {offsets}"
        )
    return Settings(scale, offsets), first


def _settings_for(mask, kept, start, base):
    """Good settings, from some of the columns."""
    rows, columns = mask.shape
    step = max(1, mask.size // _LOOKED_AT)
    mask = mask[:, ::step]

    def part(array):
        return array.reshape(rows, columns)[:, ::step]

    likely = np.full(mask.shape, 2 * kept > rows * columns)
    away = np.zeros(mask.shape, "int16")
    signs = 1
    if start is not None:
        quantiles = part(start.quantiles)
        kernel = None
        if start.kernel is not None:
            kernel = np.ascontiguousarray(part(start.kernel))
            signs = np.where(np.signbit(kernel), -1, 1)
        threshold = mask_model.threshold_of(kept, rows * columns)
        away = mask_model.distances(quantiles, kernel, threshold)
        likely = quantiles >= threshold
    if base is not None:
        likely = part(base)
    changes = mask.astype("int8") - likely
    scale = _best_scale(away, changes != 0)
    return Settings(scale, _best_offsets(signs * changes))


def _best_scale(away, changed):
    """The scale with which the first guess of changes costs least."""
    lowest = int(away.min())
    counts = np.bincount(
        (away.astype("int64") - lowest).ravel() * 2 + changed.ravel()
    )
    counts = np.append(counts, [0] * (len(counts) % 2)).reshape(-1, 2)
    values = np.arange(len(counts)) + lowest
    share = mask_model.CHANGES / (1 << 16)
    costs = -np.log2([1 - share, share])
    largest = mask_model.LARGEST_SCALE
    first = max(lowest - 64, -largest)
    scales = range(first, min(int(values[-1]) + 64, largest) + 1)

    def cost(scale):
        bins = values + 2 * mask_model.NEAREST - scale >> 1
        bins = np.clip(bins, 0, mask_model.BINS - 1)
        return np.rint((counts * costs[:, bins].T).sum() * 256)

    return min(scales, key=cost)


def _best_offsets(changes):
    """Offsets of rows between which changes are alike, beyond chance."""
    rows = len(changes)
    spectrum = np.fft.rfft(changes, 2 * rows, axis=0)
    alike = np.fft.irfft((np.abs(spectrum) ** 2).sum(1), 2 * rows)[:rows]
    alike = np.rint(alike)
    # Of as many changes, anywhere and in any direction.
    by_chance = 5 * alike[0] / math.sqrt(changes.size)
    enough = max(by_chance, alike[0] / 200)
    best = np.argsort(-alike[1:], kind="stable")[: mask_model.MOST_OFFSETS] + 1
    return tuple(int(offset) for offset in best if alike[offset] > enough)
