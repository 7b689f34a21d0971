"""What an encoder of masks chooses and a decoder only reads."""

import math

import numpy as np

from mpt_keras.ticket import mask_weights
from mpt_keras.ticket.mask_model import BINS, CHANGES
from mpt_keras.ticket.mask_weights import Settings

_LOOKED_AT = 1 << 17
_BEYOND = 64  # of scales, above and below all distances


def choose_settings(mask, kept, start, base, free=None):
    """Returns good settings, from about as many weights as `_LOOKED_AT`.

    Args:
        mask: Boolean matrix.
        kept: Number of weights kept.
        start, base, free: As for `MaskModel`.
    """
    rows, columns = mask.shape
    size = mask.size if free is None else int(np.count_nonzero(free))
    step = max(1, mask.size // _LOOKED_AT)

    def part(array):
        array = array.reshape(rows, columns)[:_LOOKED_AT, ::step]
        return np.ascontiguousarray(array)

    coded = ...
    if free is not None:
        coded = part(free)
        if not coded.any():  # of the few that there are, none is looked at
            return Settings(0)
    mask = part(mask)

    guess = np.full(mask.shape, 2 * kept > size)
    signs = np.int8(1)
    away = [np.zeros(mask.shape, "int16")]
    if start is not None:
        quantiles = part(start.quantiles)
        threshold = mask_weights.threshold_of(kept, size)
        guess = quantiles >= threshold
        away = [mask_weights.distances(quantiles, None, threshold)]
        if start.kernel is not None:
            kernel = part(start.kernel)
            signs = np.where(np.signbit(kernel), np.int8(-1), np.int8(1))
            away.append(mask_weights.distances(quantiles, kernel, threshold))
    if base is not None:
        guess = part(base)
    changes = mask.astype("int8") - guess
    counts = [
        _counts(distances[coded], changes[coded] != 0) for distances in away
    ]
    if free is not None:
        changes *= coded
    by_weight = min(range(len(away)), key=lambda i: _entropy(counts[i]))
    scale = int(away[by_weight].min()) - _best_shift(counts[by_weight])
    largest = mask_weights.LARGEST_SCALE
    scale = min(max(scale, -largest), largest)
    offsets = ()
    if start is not None or base is not None:  # otherwise it does not pay
        offsets = _best_offsets(signs * changes)
    return Settings(scale, bool(by_weight), offsets)


def _counts(distances, changed):
    """How many changed and how many did not, from the least distance on."""
    distances = distances.astype("int64").ravel()
    distances -= distances.min()
    counts = np.bincount(2 * distances + ~changed.ravel())
    return np.append(counts, [0] * (len(counts) % 2)).reshape(-1, 2).T


def _entropy(counts):
    """Bits of the changes, given the distances."""
    whole = counts.sum(0)
    shares = np.maximum(counts, 1) / np.maximum(whole, 1)
    return -np.rint((counts * np.log2(shares)).sum())


def _best_shift(counts):
    """The least distance minus the scale whose first guess costs least."""
    number = counts.shape[1]
    first = -number - _BEYOND
    bins = np.arange(first, 2 * number + _BEYOND)
    bins = bins + 2 * mask_weights.NEAREST >> 1
    bins = np.clip(bins, 0, BINS - 1)
    share = CHANGES[bins] / (1 << 16)
    # In whole parts of a bit, so that the sums are the same everywhere.
    costs = np.rint(np.log2([share, 1 - share]) * -(1 << 16)).astype("int64")
    windows = np.lib.stride_tricks.sliding_window_view(costs, number, axis=1)
    total = windows[0] @ counts[0] + windows[1] @ counts[1]
    return first + int(np.argmin(total))


def _best_offsets(changes):
    """Offsets of rows between which changes are alike, beyond chance."""
    rows = len(changes)
    spectrum = np.fft.rfft(changes, 2 * rows, axis=0)
    alike = np.fft.irfft((np.abs(spectrum) ** 2).sum(1), 2 * rows)[:rows]
    alike = np.rint(alike)  # sums of whole numbers
    by_chance = 5 * alike[0] / math.sqrt(changes.size)
    enough = max(by_chance, alike[0] / 200)
    # What the columns' means alone make.
    means = (changes.sum(0, dtype="int64") ** 2).sum() / rows**2
    alike -= means * np.arange(rows, 0, -1)
    best = (
        np.argsort(-alike[1:], kind="stable")[: mask_weights.MOST_OFFSETS] + 1
    )
    return tuple(int(offset) for offset in best if alike[offset] > enough)
