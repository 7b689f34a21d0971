"""Convolutions of floats as lists of the weights that survive."""

import dataclasses

import numpy as np

from mpt_keras.runtime.operations import Convolution, Window
from mpt_keras.runtime.packing.steps import step_fields
from mpt_keras.runtime.program import PLANES, Buffer, Builder

# Floats of a tile that are summed at once: 8 vectors of 64 bytes.
_SUMS = 128
# Floats of a tile's input that stay in the nearest cache beside the lists.
_CACHED = 12288
# Floats of a map that is not worth a halo.
_SINGLE = 16
# Images of a batch that a tile takes side by side.
_LANES = 16
_FURTHEST = 2**16


@dataclasses.dataclass(frozen=True)
class _Axis:
    """Taps of one axis, in phases: tap `t` is at `at[t]` of `phase[t]`."""

    at: np.ndarray
    phase: np.ndarray


def _axis(window: Window, axis: int) -> _Axis:
    taps = np.arange(window.size[axis]) * window.dilation[axis]
    at, phase = np.divmod(taps - window.before[axis], window.strides[axis])
    return _Axis(at, phase)


@dataclasses.dataclass(frozen=True)
class _Tiling:
    """How the output falls into tiles, and what a tile sees.

    Attributes:
        rows, columns: Of the output in a tile.
        pitch: Floats of a row of a tile.
        lanes: Images side by side.
        left: Where a tile begins, as a column of a phase.
        shifted: Whether taps in other columns are summed apart and shifted;
            otherwise they are other places to begin.
        whole: Whether a tile is as wide as the map.
        single: Whether it is the whole map, and taps in other rows are summed
            apart as well.
    """

    rows: int
    columns: int
    pitch: int
    lanes: int
    left: int
    shifted: bool
    whole: bool
    single: bool = False

    @property
    def chunks(self) -> int:
        width = self.pitch if self.shifted else self.columns * self.lanes
        needed = -(-self.rows * width // 16)
        return next(count for count in (1, 2, 4, 8) if count >= needed)


def _tiling(shape, out, horizontal, strides, images):
    (rows_in, columns_in), (rows_out, columns_out) = shape, out
    first, last = int(horizontal.at.min()), int(horizontal.at.max())
    span = last - first
    if images == 1:
        height = max(-(-rows_in // strides[0]), rows_out)
        pitch = max(-(-columns_in // strides[1]), columns_out)
        if height * pitch <= _SINGLE:
            return _Tiling(height, pitch, pitch, 1, 0, True, True, True)
        if pitch <= _SUMS:
            rows = _even(rows_out, _SUMS // pitch)
            return _Tiling(rows, columns_out, pitch, 1, 0, True, True)
        if span <= _SUMS // 2:
            columns = _even(columns_out, _SUMS - span)
            return _Tiling(1, columns, columns + span, 1, first, True, False)
        lanes = 1
    else:
        lanes = _LANES
    columns = _even(columns_out, _SUMS // lanes)
    pitch = (columns + span) * lanes
    return _Tiling(1, columns, pitch, lanes, first, False, False)


def _even(count, most):
    """At most `most`, and about the same for all parts of `count`."""
    return -(-count // -(-count // most))


def pack_sparse_convolution(
    operation: Convolution, builder: Builder, output: Buffer
) -> None:
    """Adds a call of `sparse_convolution`.

    Args:
        operation: `Convolution`; its input is read as floats.
        builder: `Builder`.
        output: Room for the output in `PLANES`.
    """
    window = operation.window
    channels, rows, columns = operation.inputs[0].shape
    filters, *out = operation.output.shape
    if window.size == window.strides == (1, 1) and window.before == (0, 0):
        rows, columns, out = 1, rows * columns, (1, rows * columns)
    vertical, horizontal = _axis(window, 0), _axis(window, 1)
    tiling = _tiling(
        (rows, columns), out, horizontal, window.strides, builder.images
    )
    seen = np.arange(tiling.rows)
    if not tiling.single:
        seen = np.unique(vertical.at[:, None] + seen)
    phases = [
        (int(a), int(b))
        for a in np.unique(vertical.phase)
        for b in np.unique(horizontal.phase)
    ]
    chunks = tiling.chunks
    multiple = {1: 4, 2: 4, 4: 2, 8: 1}[chunks]
    zeros = 16 * chunks if multiple > 1 else 0
    plane = len(phases) * len(seen) * tiling.pitch
    if zeros + plane > _FURTHEST:
        raise ValueError(
            f"Invalid value for argument `window`. Expected: a window whose "
            f"rows fit into {_FURTHEST} floats. Received: window={window} "
            f"(layer {operation.layer!r})."
        )
    depth = max(1, min(channels, _CACHED // plane))
    places = _places(tiling, vertical, horizontal, seen, phases)
    groups, group_of = _groups(tiling, vertical, horizontal)
    shifts = [row * tiling.pitch + column for row, column in groups]
    lists = _lists(
        operation, depth, plane, zeros, places, group_of, multiple
    )
    contiguous = (
        tiling.whole
        and window.strides == (1, 1)
        and tiling.pitch == columns
        and np.all(np.diff(seen) == 1)
    )
    sums = 16 * chunks
    margin = -(-max(map(abs, shifts)) // 16) * 16
    builder.call(
        "sparse_convolution",
        operation.layer,
        input=builder.read(operation.inputs[0], PLANES),
        output=output,
        tile=builder.scratch(4 * (zeros + depth * plane + sums)),
        sides=builder.scratch(4 * max(1, len(shifts) - 1) * (sums + 2 * margin)),
        sums=builder.scratch(4 * sums * (filters if lists.blocks > 1 else 1)),
        images=builder.images,
        lanes=tiling.lanes,
        rows=rows,
        columns=columns,
        out_rows=out[0],
        out_columns=out[1],
        tile_rows=tiling.rows,
        tile_columns=tiling.columns,
        pitch=tiling.pitch,
        chunks=chunks,
        left=tiling.left,
        row_stride=window.strides[0],
        column_stride=window.strides[1],
        zeros=zeros,
        contiguous=contiguous,
        phases=len(phases),
        seen=len(seen),
        blocks=lists.blocks,
        groups=len(groups) - 1,
        margin=margin,
        phase=np.array(phases, "int32").ravel(),
        row=seen.astype("int32"),
        block=lists.block,
        shifts=np.array(shifts[1:], "int32"),
        masks=_masks(tiling, groups[1:], sums),
        stream=lists.stream,
        weights=lists.weights,
        gain=float(operation.gain),
        **step_fields(operation.steps),
    )


def _groups(tiling, vertical, horizontal):
    """Shifts `(rows, columns)`, `(0, 0)` first, and the group of each tap."""
    columns = horizontal.at - tiling.left
    shifts = [
        [
            (int(row) * tiling.single, int(column) * tiling.shifted)
            for column in columns
        ]
        for row in vertical.at
    ]
    others = {shift for row in shifts for shift in row} - {(0, 0)}
    groups = [(0, 0), *sorted(others)]
    return groups, np.array([[*map(groups.index, row)] for row in shifts])


def _places(tiling, vertical, horizontal, seen, phases):
    """Where tap `(i, j)` begins in the planes of a channel."""
    row = np.searchsorted(seen, vertical.at)[:, None]
    phase = np.array(
        [
            [phases.index((a, b)) for b in horizontal.phase]
            for a in vertical.phase
        ]
    )
    if tiling.single:
        row = row * 0
    places = (phase * len(seen) + row) * tiling.pitch
    if not tiling.shifted:
        places = places + (horizontal.at - tiling.left) * tiling.lanes
    return places


def _masks(tiling, groups, sums):
    """Of each group, -1 where its shifted sums are inside the map."""
    if not tiling.whole or not groups:
        return None
    row, column = np.divmod(np.arange(sums), tiling.pitch)
    rows, columns = np.array(groups).T[:, :, None]
    row, column = row + rows, column + columns
    inside = (column >= 0) & (column < tiling.pitch)
    if tiling.single:
        inside &= (row >= 0) & (row < tiling.rows)
    return np.where(inside, -1, 0).astype("int32").ravel()


@dataclasses.dataclass(frozen=True)
class _Lists:
    blocks: int
    block: np.ndarray
    stream: np.ndarray
    weights: np.ndarray | None


def _lists(
    operation, depth, plane, zeros, places, group_of, multiple
) -> _Lists:
    """The stream of `sparse_convolution`."""
    kernel = operation.kernel
    channels = operation.inputs[0].shape[0]
    rows, columns, _, filters = kernel.shape
    blocks = -(-channels // depth)
    # Taps of each group, groups in the stream's order.
    groups = group_of.max() + 1
    members = [np.flatnonzero(group_of == g) for g in range(groups)][::-1]
    most = max(map(len, members))
    whole = _whole(kernel, channels, operation.groups)
    whole = whole.reshape(channels, rows * columns, filters)
    # [block, channel, group, tap of the group, filter]
    spread = np.zeros((blocks * depth, groups, most, filters), kernel.dtype)
    begins = np.zeros((groups, depth, most), int)
    first = zeros + np.arange(depth)[:, None] * plane
    for group, taps in enumerate(members):
        spread[:channels, group, : len(taps)] = whole[:, taps]
        begins[group, :, : len(taps)] = first + places.ravel()[taps]
    spread = spread.reshape(blocks, depth, groups, most, filters)
    spread = spread.transpose(0, 4, 2, 1, 3)
    spread = spread.reshape(blocks, filters, groups, -1)
    begins = begins.reshape(groups, -1)
    if operation.is_ternary:
        alive = np.stack([spread > 0, spread < 0], 3)
    else:
        alive = (spread != 0)[:, :, :, None]
    counts = alive.sum(-1)
    filled = -(-counts // multiple) * multiple
    # Jobs that have nothing to do are left out, but for one of each filter.
    busy = counts.any((2, 3))
    busy[0, ~busy.any(0)] = True
    starts = busy.argmax(0) == np.arange(blocks)[:, None]
    ends = blocks - 1 - busy[::-1].argmax(0) == np.arange(blocks)[:, None]
    heads = counts.shape[3]
    lengths = np.where(busy, 2 + (filled + 1).sum((2, 3)), 0)
    begin = np.cumsum(lengths.ravel()).reshape(lengths.shape) - lengths
    stream = np.zeros(lengths.sum(), "uint16")
    stream[begin[busy]] = np.broadcast_to(np.arange(filters), busy.shape)[busy]
    stream[begin[busy] + 1] = (starts + 2 * ends)[busy]
    sizes = filled.sum(3)
    group_begin = begin[..., None] + 2 + np.cumsum(sizes + heads, 2)
    group_begin -= sizes + heads
    if filled.max(initial=0) >= _FURTHEST:
        raise AssertionError("A list is too long.")
    for head in range(heads):
        stream[group_begin[busy] + head] = filled[..., head][busy]
    list_begin = group_begin[..., None] + heads + np.cumsum(filled, 3) - filled
    # Nonzeros come in the order of the lists.
    block, filter_, group, sign, place = np.nonzero(alive)
    flat = counts.ravel()
    nth = np.arange(flat.sum()) - np.repeat(np.cumsum(flat) - flat, flat)
    at = list_begin[block, filter_, group, sign] + nth
    stream[at] = begins[group, place]
    weights = None
    if not operation.is_ternary:
        flat = np.where(busy[:, :, None, None], filled, 0).ravel()
        before = (np.cumsum(flat) - flat).reshape(filled.shape)
        weights = np.zeros(flat.sum(), "float32")
        at = before[block, filter_, group, sign] + nth
        weights[at] = spread[block, filter_, group, place]
    counted = np.minimum(depth, channels - np.arange(blocks) * depth)
    table = np.stack([np.arange(blocks) * depth, counted, busy.sum(1)], 1)
    return _Lists(blocks, table.astype("int32").ravel(), stream, weights)


def _whole(kernel, channels, groups):
    """`(channels, rows, columns, filters)`, zeros across groups."""
    kernel = kernel.transpose(2, 0, 1, 3)
    if groups == 1:
        return kernel
    size, *taps, filters = kernel.shape
    whole = np.zeros((channels, *taps, filters), kernel.dtype)
    for group in range(groups):
        part = slice(group * filters // groups, (group + 1) * filters // groups)
        whole[group * size : (group + 1) * size, ..., part] = kernel[..., part]
    return whole
