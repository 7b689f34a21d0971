"""Dense layers of floats, for one image."""

import math

import numpy as np

from mpt_keras.runtime.operations import Convolution
from mpt_keras.runtime.packing.steps import step_fields
from mpt_keras.runtime.program import PLANES, Buffer, Builder

# What a weight of a list costs, in weights of all that `dense_codes` or
# `dense_rows` go through, and what they do beside, in filters.
_CODES = 16, 32
_ROWS = 10, 16
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
    """Adds a call of `dense_codes`, `dense_lists` or `dense_rows`.

    Args:
        operation: `Convolution` of which `is_dense` is true.
        builder: `Builder`, for one image.
        output: Room for the output in `PLANES`.
    """
    filters = operation.output.size
    # [unit, filter], units in the order of `PLANES`
    weights = operation.kernel.transpose(2, 0, 1, 3).reshape(-1, filters)
    units = len(weights)
    dear, more = _CODES if operation.is_ternary else _ROWS
    whole = units * (-(-filters // 16) * 16 + more)
    if dear * np.count_nonzero(weights) < whole and units <= _FURTHEST:
        kernel, fields = "dense_lists", _lists(operation, weights)
    elif operation.is_ternary:
        kernel, fields = "dense_codes", _codes(weights)
        fields["sums"] = builder.scratch(4 * fields["width"])
    else:
        kernel, fields = "dense_rows", _rows(weights)
        sums = fields["chunks"] * fields["width"]
        fields["sums"] = builder.scratch(4 * sums)
        fields["live"] = builder.scratch(8 * (units + 4))
    builder.call(
        kernel,
        operation.layer,
        input=builder.read(operation.inputs[0], PLANES),
        output=output,
        units=units,
        filters=filters,
        gain=float(operation.gain),
        **fields,
        **step_fields(operation.steps),
    )


def _lists(operation, weights):
    weights = weights.T
    if operation.is_ternary:
        lists = np.stack([weights > 0, weights < 0], 1)
        lists = lists.reshape(-1, weights.shape[1])
        values = None
    else:
        lists = weights != 0
        values = weights[lists].astype("float32")
    counts = lists.sum(1)
    return {
        "starts": np.concatenate([[0], np.cumsum(counts)]).astype("int32"),
        "entries": np.nonzero(lists)[1].astype("uint16"),
        "weights": values,
    }


def _codes(weights):
    """Two bits a weight, those of 16 inputs a word, `[16 inputs, filter]`."""
    units, filters = weights.shape
    width = -(-filters // 16) * 16
    filled = np.zeros((-(-units // 16) * 16, width), "uint32")
    filled[:units, :filters] = weights & 3
    filled = filled.reshape(-1, 16, width)
    filled <<= np.arange(0, 32, 2, dtype="uint32")[:, None]
    codes = np.bitwise_or.reduce(filled, axis=1)
    return {"width": width, "codes": codes.ravel()}


def _rows(weights):
    """`[chunk, unit, filter of the chunk]`, filled up with zeros."""
    units, filters = weights.shape
    needed = -(-filters // 16)
    width = 16 * min(8, 2 ** math.ceil(math.log2(needed)))
    chunks = -(-filters // width)
    filled = np.zeros((units, chunks * width), "float32")
    filled[:, :filters] = weights
    filled = filled.reshape(units, chunks, width).transpose(1, 0, 2)
    return {
        "chunks": chunks,
        "width": width,
        "weights": np.ascontiguousarray(filled).ravel(),
    }
