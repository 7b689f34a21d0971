"""The lists of surviving weights that `sparse_convolution` goes through."""

import dataclasses
from collections.abc import Sequence

import numpy as np

# Mean length from which on it costs less to fill lists up to a multiple of 4
# than to read them one by one.
_FILLED = 8


@dataclasses.dataclass(frozen=True)
class Lists:
    """What `kernels/sparse_convolution.c` calls by these names.

    Attributes:
        block: `[block, 3]`: first channel, channels, jobs.
        stream: The jobs, and four places more.
        weights: Of the places, where they are not -1 and +1.
        is_filled: Whether lists are filled up to a multiple of 4.
    """

    block: np.ndarray
    stream: np.ndarray
    weights: np.ndarray | None
    is_filled: bool


def sparse_lists(
    kernel: np.ndarray,
    channels: int,
    depth: int,
    members: Sequence[np.ndarray],
    begins: Sequence[np.ndarray],
    fills: bool,
) -> Lists:
    """Finds the lists of a kernel.

    Args:
        kernel: As of `Convolution`; int8 ones have -1, 0, +1.
        channels: Of the input, so many times what the kernel has as it has
            groups.
        depth: Channels of a block.
        members: For each group of column shifts, as the stream has them, its
            taps as indices of the flat window.
        begins: For each such group, `(depth, taps)`, where the rows of a tap
            begin in a tile.
        fills: Whether lists are filled up in any case.
    """
    filters = kernel.shape[-1]
    is_ternary = kernel.dtype == np.int8
    parts = [
        _part(kernel, channels, range(first, min(first + depth, channels)))
        for first in range(0, channels, depth)
    ]
    spreads = [_spread(weights, members) for _, weights in parts]
    signs = [_signs(spread, is_ternary) for spread in spreads]
    counts = [part.sum(-1) for part in signs]
    lists = sum(part.size for part in counts)
    is_filled = fills or sum(map(np.sum, counts)) >= _FILLED * lists
    # Jobs that have nothing to do are left out, but for one of each filter.
    seen = np.zeros((len(parts), filters), bool)
    busy = np.zeros_like(seen)
    for block, ((first, _), count) in enumerate(
        zip(parts, counts, strict=True)
    ):
        seen[block, first : first + len(count)] = True
        busy[block, first : first + len(count)] = count.any((1, 2))
    idle = ~busy.any(0)
    busy[seen[:, idle].argmax(0), idle] = True
    blocks = np.arange(len(parts))[:, None]
    flags = (busy.argmax(0) == blocks) + 2 * (
        len(parts) - 1 - busy[::-1].argmax(0) == blocks
    )
    places = np.zeros((len(members), depth, max(map(len, members))), int)
    for group, begin in enumerate(begins):
        places[group, :, : begin.shape[1]] = begin
    streams, weights = [], []
    for block, (first, _) in enumerate(parts):
        jobs = np.flatnonzero(busy[block])
        stream, values = _stream(
            np.stack([jobs, flags[block, jobs]], 1),
            signs[block][jobs - first],
            spreads[block][jobs - first],
            places,
            4 if is_filled else 1,
        )
        streams.append(stream)
        weights.append(values)
    first = np.arange(0, channels, depth)
    table = [first, np.minimum(depth, channels - first), busy.sum(1)]
    return Lists(
        np.stack(table, 1),
        np.concatenate([*streams, np.zeros(4, "uint16")]),
        None if is_ternary else np.concatenate(weights),
        bool(is_filled),
    )


def _part(kernel, channels, block):
    """Weights `(channels, taps, filters)` of a block; their first filter."""
    rows, columns, size, filters = kernel.shape
    kernel = kernel.transpose(2, 0, 1, 3).reshape(size, rows * columns, filters)
    each = filters * size // channels
    groups = range(block.start // size, (block.stop - 1) // size + 1)
    shape = (len(block), rows * columns, len(groups) * each)
    part = np.zeros(shape, kernel.dtype)
    for place, group in enumerate(groups):
        begin = max(block.start, group * size)
        end = min(block.stop, (group + 1) * size)
        part[
            begin - block.start : end - block.start,
            :,
            place * each : (place + 1) * each,
        ] = kernel[
            begin - group * size : end - group * size,
            :,
            group * each : (group + 1) * each,
        ]
    return groups.start * each, part


def _spread(weights, members):
    """`(filters, groups of shifts, channels, taps)`, filled with zeros."""
    channels, _, filters = weights.shape
    most = max(map(len, members))
    spread = np.zeros((channels, len(members), most, filters), weights.dtype)
    for group, taps in enumerate(members):
        spread[:, group, : len(taps)] = weights[:, taps]
    return np.ascontiguousarray(spread.transpose(3, 1, 0, 2))


def _signs(spread, is_ternary):
    """Which weights each list has, `(filters, groups, lists, weights)`."""
    filters, groups, channels, taps = spread.shape
    spread = spread.reshape(filters, groups, channels * taps)
    if is_ternary:
        return np.stack([spread > 0, spread < 0], 2)
    return (spread != 0)[:, :, None]


def _stream(heads, alive, spread, places, multiple):
    """The stream of some jobs, and the weights of the places in it."""
    jobs, groups, signs, size = alive.shape
    places = places[:, : spread.shape[2]].reshape(groups, -1)
    counts = alive.sum(-1)
    filled = -(-counts // multiple) * multiple
    sizes = signs + filled.sum(2)
    lengths = 2 + sizes.sum(1)
    begin = np.cumsum(lengths) - lengths
    stream = np.zeros(lengths.sum(), "uint16")
    stream[begin[:, None] + [0, 1]] = heads
    begin = begin[:, None] + 2 + np.cumsum(sizes, 1) - sizes
    stream[begin[..., None] + np.arange(signs)] = filled
    begin = begin[..., None] + signs + np.cumsum(filled, 2) - filled
    # Nonzeros come in the order of the lists.
    job, group, sign, place = np.nonzero(alive)
    flat = counts.ravel()
    nth = np.arange(flat.sum()) - np.repeat(np.cumsum(flat) - flat, flat)
    stream[begin[job, group, sign] + nth] = places[group, place]
    flat = filled.ravel()
    begin = (np.cumsum(flat) - flat).reshape(filled.shape)
    weights = np.zeros(flat.sum(), "float32")
    spread = spread.reshape(jobs, groups, size)
    weights[begin[job, group, sign] + nth] = spread[job, group, place]
    return stream, weights
