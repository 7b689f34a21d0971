"""Dense layers of floats, for one image."""

import math

import numpy as np

from mpt_keras.runtime.operations import Convolution
from mpt_keras.runtime.packing.steps import step_fields
from mpt_keras.runtime.program import PLANES, Buffer, Builder

# Share of weights from which on a list of them is no gain: of ternary ones,
# and of floats.
_FEW_SIGNS = 0.08
_FEW_FLOATS = 0.12
_FURTHEST = 2**16


def is_dense(operation: Convolution) -> bool:
    """Whether every output sees every input, each with a weight of its own."""
    window = operation.window
    return (
        operation.groups == 1
        and operation.output.pixels == 1
        and window.before == (0, 0)
        and window.size == operation.inputs[0].shape[1:]
        and all(
            dilation == 1 or taps == 1
            for dilation, taps in zip(window.dilation, window.size, strict=True)
        )
    )


def pack_dense(
    operation: Convolution, builder: Builder, output: Buffer
) -> None:
    """Adds a call of `dense_bits`, `dense_lists` or `dense_rows`.

    Args:
        operation: `Convolution` of which `is_dense` is true.
        builder: `Builder`, for one image.
        output: Room for the output in `PLANES`.
    """
    filters = operation.output.size
    # [unit, filter], units in the order of `PLANES`
    weights = operation.kernel.transpose(2, 0, 1, 3).reshape(-1, filters)
    share = np.count_nonzero(weights) / weights.size
    few = _FEW_SIGNS if operation.is_ternary else _FEW_FLOATS
    if share < few and filters <= _FURTHEST:
        kernel, width, fields = "dense_lists", filters, _lists(operation, weights)
    elif operation.is_ternary:
        kernel = "dense_bits"
        width, fields = _bits(weights)
    else:
        kernel = "dense_rows"
        width, fields = _rows(weights)
    builder.call(
        kernel,
        operation.layer,
        input=builder.read(operation.inputs[0], PLANES),
        output=output,
        live=builder.scratch(8 * (len(weights) + 4)),
        sums=builder.scratch(4 * width),
        units=len(weights),
        filters=filters,
        gain=float(operation.gain),
        **fields,
        **step_fields(operation.steps),
    )


def _lists(operation, weights):
    if not operation.is_ternary:
        unit, entries = np.nonzero(weights)
        plus, values = None, weights[unit, entries].astype("float32")
    else:
        signs = np.stack([weights > 0, weights < 0], 1)
        unit, _, entries = np.nonzero(signs)
        plus, values = signs[:, 0].sum(1).astype("uint16"), None
    counts = np.bincount(unit, minlength=len(weights))
    return {
        "starts": np.concatenate([[0], np.cumsum(counts)]).astype("int32"),
        "plus": plus,
        "entries": entries.astype("uint16"),
        "weights": values,
    }


def _chunked(weights, most):
    """`[chunk, unit, filter of the chunk]`, filled up with zeros."""
    units, filters = weights.shape
    needed = -(-filters // 16)
    groups = min(most, 2 ** math.ceil(math.log2(needed)))
    chunks = -(-needed // groups)
    width = 16 * groups
    filled = np.zeros((units, chunks * width), weights.dtype)
    filled[:, :filters] = weights
    return filled.reshape(units, chunks, width).transpose(1, 0, 2)


def _bits(weights):
    chunked = _chunked(weights, 16)
    chunks, units, width = chunked.shape
    signs = np.stack([chunked > 0, chunked < 0], 2)
    bits = np.packbits(signs, axis=-1, bitorder="little").view("<u2")
    return chunks * width, {
        "chunks": chunks,
        "groups": width // 16,
        "bits": bits.ravel(),
    }


def _rows(weights):
    chunked = _chunked(weights, 8)
    chunks, units, width = chunked.shape
    return chunks * width, {
        "chunks": chunks,
        "width": width,
        "weights": np.ascontiguousarray(chunked, "float32").ravel(),
    }
