"""Convolutions of floats as lists of the weights that survive."""

import dataclasses
import math

import numpy as np

from mpt_keras.runtime.errors import UnsupportedLayerError
from mpt_keras.runtime.operations import SIGN, Convolution, Value, Window
from mpt_keras.runtime.packing.dense import is_dense
from mpt_keras.runtime.packing.sign_layouts import plane_bytes, transpose
from mpt_keras.runtime.packing.sparse_lists import sparse_lists
from mpt_keras.runtime.packing.steps import step_fields
from mpt_keras.runtime.program import (
    BITS,
    PACKED,
    PLANES,
    Builder,
    layout_bytes,
    row_bytes,
)

# Floats of a tile that are summed at once: 8 vectors of 64 bytes.
_SUMS = 128
# Floats of a tile's input that stay in the nearest cache beside the lists; and
# where so few weights survive that a block costs more than what falls out.
_CACHED = 9216
_CACHED_FEW = 12288
_FEW = 0.12
# Floats of a map that is not worth a halo.
_SINGLE = 16
# Entries of a list from which on more lists cost less than longer ones.
_LONG = 24
# Images of a batch that a tile takes side by side, at least; where signs come
# out of it, those of a word.
_LANES = 16
_LANES_OF_SIGNS = 64
# Places are 16 bits.
_FURTHEST = 2**16


@dataclasses.dataclass(frozen=True)
class _Taps:
    """Taps `(i, j)`, flat, of strides of 1 over planes of phases.

    Attributes:
        rows, columns, phases: Of each tap: where it looks for the output
            `(0, 0)`, in which of the phases.
        phase: Rows and columns `(a, b)` of the phases.
        shape: Of the map of a phase.
    """

    rows: np.ndarray
    columns: np.ndarray
    phases: np.ndarray
    phase: np.ndarray
    shape: tuple[int, int]


def _taps(window: Window, shape: tuple[int, int]) -> _Taps:
    at, phase = zip(
        *(
            np.divmod(np.arange(size) * dilation - before, stride)
            for size, stride, dilation, before in zip(
                window.size,
                window.strides,
                window.dilation,
                window.before,
                strict=True,
            )
        ),
        strict=True,
    )
    rows, columns = np.meshgrid(*at, indexing="ij")
    pairs = np.stack(np.meshgrid(*phase, indexing="ij"), -1).reshape(-1, 2)
    kinds, phases = np.unique(pairs, axis=0, return_inverse=True)
    shape = tuple(
        -(-size // stride)
        for size, stride in zip(shape, window.strides, strict=True)
    )
    return _Taps(rows.ravel(), columns.ravel(), phases.ravel(), kinds, shape)


@dataclasses.dataclass(frozen=True)
class _Tiling:
    """How the output falls into tiles, and what a tile sees.

    Attributes:
        rows, columns: Of the output in a tile.
        pitch: Floats of a row of a tile.
        lanes: Images side by side.
        left: Column where a tile begins.
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
    left: int = 0
    shifted: bool = False
    whole: bool = False
    single: bool = False

    @property
    def chunks(self) -> int:
        """16 floats each, in the sums of a tile."""
        width = self.pitch if self.shifted else self.columns * self.lanes
        needed = -(-self.rows * width // 16)
        return next(count for count in (1, 2, 4, 8) if count >= needed)


def _tiling(taps, out, images, is_long, gives_signs):
    """Of an output of a shape; `is_long`: most lists are."""
    rows, columns = out
    first, last = int(taps.columns.min()), int(taps.columns.max())
    span = last - first
    if images == 1:
        height, pitch = np.maximum(taps.shape, out).tolist()
        if height * pitch <= _SINGLE and is_long:
            return _Tiling(
                height, pitch, pitch, 1, shifted=True, whole=True, single=True
            )
        if pitch <= _SUMS:
            rows = _even(rows, _SUMS // pitch)
            return _Tiling(rows, columns, pitch, 1, shifted=True, whole=True)
        if span <= _SUMS // 2:
            columns = _even_bytes(columns, _SUMS - span)
            pitch = columns + span
            return _Tiling(1, columns, pitch, 1, first, shifted=True)
    if images == 1:
        columns, lanes = _even_bytes(columns, _SUMS), 1
    else:
        rows_seen = len(taps.phase) * len(np.unique(taps.rows))
        for lanes in (_LANES_OF_SIGNS, _LANES)[not gives_signs :]:
            tile = _even(columns, _SUMS // lanes)
            most = (_FURTHEST - _SUMS) // (rows_seen * (tile + span))
            if lanes <= most:
                break
        columns, most = tile, min(_SUMS // tile, most)
        while 2 * lanes <= most and images % (2 * lanes) == 0:
            lanes *= 2
    return _Tiling(1, columns, (columns + span) * lanes, lanes, first)


def _even(count, most):
    """At most `most`, and about the same for all parts of `count`."""
    return -(-count // -(-count // most))


def _even_bytes(count, most):
    """The same of bits, so that each part begins at a whole byte."""
    most -= most % 8
    return count if count <= most else -(-_even(count, most) // 8) * 8


def pack_sparse_convolution(operation: Convolution, builder: Builder) -> None:
    """Adds a call of `sparse_convolution`, and of `split_phases` for strides.

    Args:
        operation: `Convolution`; its input is read as floats.
        builder: `Builder`.

    Raises:
        UnsupportedLayerError: If a window sees too much of a channel at once.
    """
    value, images = operation.output, builder.images
    filters, *out = value.shape
    gives_signs = value.kind == SIGN
    planes = builder.read(operation.inputs[0], PLANES)
    if is_dense(operation):
        operation = _of_units(operation)
    taps = _taps(operation.window, operation.inputs[0].shape[1:])
    if operation.window.strides != (1, 1):
        planes = _split(operation, builder, planes, taps)
    is_point = len(taps.rows) == 1 and taps.rows[0] == taps.columns[0] == 0
    has_gaps = gives_signs and out[1] * images % 8 != 0
    if is_point and taps.shape == tuple(out) and not has_gaps:
        out = [1, math.prod(out)]
        taps = dataclasses.replace(taps, shape=tuple(out))
    shifts = len({*zip(taps.rows, taps.columns, strict=True)})
    count = filters * shifts * (2 if operation.is_ternary else 1)
    is_long = np.count_nonzero(operation.kernel) >= _LONG * count
    tiling = _tiling(taps, out, images, is_long, gives_signs)
    seen = np.arange(tiling.rows)
    if not tiling.single:
        seen = np.unique(taps.rows[:, None] + seen)
    groups, group_of = _groups(tiling, taps)
    sums = 16 * tiling.chunks
    plane = len(taps.phase) * len(seen) * tiling.pitch
    depth = _depth(operation, plane, sums)
    members = [np.flatnonzero(group_of == g) for g in range(len(groups))][::-1]
    places = _places(tiling, taps, seen)
    first = sums + np.arange(depth)[:, None] * plane
    lists = sparse_lists(
        operation.kernel,
        operation.inputs[0].shape[0],
        depth,
        members,
        [first + places[taken] for taken in members],
        fills=tiling.chunks < 8,
    )
    # The phases of a channel are channels here.
    block = lists.block * [len(taps.phase), len(taps.phase), 1]
    shifts = [row * tiling.pitch + column for row, column in groups]
    margin = -(-max(map(abs, shifts)) // 16) * 16
    is_packed = builder.layout(value) == PACKED
    if is_packed:
        output = builder.scratch(layout_bytes(value, BITS, images))
    else:
        output = builder.write(value)
    builder.call(
        "sparse_convolution",
        operation.layer,
        input=planes,
        output=output,
        tile=builder.scratch(4 * (sums + depth * plane + sums)),
        sides=builder.scratch(4 * len(shifts) * (sums + 2 * margin) + 64),
        sums=builder.scratch(4 * sums * (filters if len(block) > 1 else 1)),
        images=images,
        lanes=tiling.lanes,
        rows=taps.shape[0],
        columns=taps.shape[1],
        out_rows=out[0],
        out_columns=out[1],
        tile_rows=tiling.rows,
        tile_columns=tiling.columns,
        pitch=tiling.pitch,
        singly=not lists.is_filled,
        near=0 < max(map(abs, shifts)) < 16,
        chunks=tiling.chunks,
        left=tiling.left,
        zeros=sums,
        contiguous=(
            tiling.whole
            and tiling.pitch == taps.shape[1]
            and bool(np.all(np.diff(seen) == 1))
        ),
        seen=len(seen),
        blocks=len(block),
        groups=len(groups) - 1,
        margin=margin,
        row_bytes=gives_signs * row_bytes(value.shape[2], images),
        plane_bytes=gives_signs * plane_bytes(value, images),
        row=seen.astype("int32"),
        block=block.astype("int32").ravel(),
        shifts=np.array(shifts[1:], "int32"),
        masks=_masks(tiling, groups[1:], sums),
        stream=lists.stream,
        weights=lists.weights,
        gain=float(operation.gain),
        **step_fields(operation.steps),
    )
    if is_packed:
        layer = operation.layer
        target = builder.write(value)
        transpose(builder, layer, "bits_to_packed", output, target, value)


def _of_units(operation):
    """The same for planes of one pixel each, which lie as the input does."""
    filters = operation.output.size
    kernel = operation.kernel.transpose(2, 0, 1, 3).reshape(1, 1, -1, filters)
    units = Value((kernel.shape[2], 1, 1))
    return dataclasses.replace(
        operation, inputs=(units,), kernel=kernel, window=Window()
    )


def _depth(operation, plane, zeros):
    """Channels of a block, about the same for each."""
    if zeros + plane > _FURTHEST:
        raise UnsupportedLayerError(
            f"Layer '{operation.layer}' cannot run here: what one of its "
            f"outputs sees of a channel takes more than {_FURTHEST} numbers "
            f"(window of {operation.window.size}, strides "
            f"{operation.window.strides}). Use smaller strides."
        )
    kernel = operation.kernel
    few = np.count_nonzero(kernel) < _FEW * kernel.size
    cached = _CACHED_FEW if few else _CACHED
    return _even(operation.inputs[0].shape[0], max(1, cached // plane))


def _split(operation, builder, planes, taps):
    """Planes of the phases."""
    channels, rows, columns = operation.inputs[0].shape
    size = channels * len(taps.phase) * math.prod(taps.shape)
    output = builder.scratch(4 * size * builder.images)
    builder.call(
        "split_phases",
        operation.layer,
        input=planes,
        output=output,
        images=builder.images,
        channels=channels,
        rows=rows,
        columns=columns,
        out_rows=taps.shape[0],
        out_columns=taps.shape[1],
        row_stride=operation.window.strides[0],
        column_stride=operation.window.strides[1],
        phases=len(taps.phase),
        phase=taps.phase.astype("int32").ravel(),
    )
    return output


def _groups(tiling, taps):
    """Shifts `(rows, columns)`, `(0, 0)` first, and the group of each tap."""
    rows = taps.rows * tiling.single
    columns = (taps.columns - tiling.left) * tiling.shifted
    shifts = [*zip(rows.tolist(), columns.tolist(), strict=True)]
    groups = [(0, 0), *sorted({*shifts} - {(0, 0)})]
    return groups, np.array([groups.index(shift) for shift in shifts])


def _places(tiling, taps, seen):
    """Where each tap begins in the planes of a channel."""
    row = 0 if tiling.single else np.searchsorted(seen, taps.rows)
    places = (taps.phases * len(seen) + row) * tiling.pitch
    if tiling.shifted:
        return places
    return places + (taps.columns - tiling.left) * tiling.lanes


def _masks(tiling, groups, sums):
    """Of each group, -1 where its shifted sums are inside the map."""
    if not groups:
        return None
    row, column = np.divmod(np.arange(sums), tiling.pitch)
    rows, columns = np.array(groups).T[:, :, None]
    row, column = row + rows, column + columns
    inside = (column >= 0) & (column < tiling.pitch)
    if tiling.single:
        inside &= (row >= 0) & (row < tiling.rows)
    return np.where(inside, -1, 0).astype("int32").ravel()
