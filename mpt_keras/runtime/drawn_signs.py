"""Weights whose signs follow from a seed: only what is kept is stored.

A file of C may draw them when it starts, as docs/ticket_format.md says, into
memory that can be written. What is stored is half as large then.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from mpt_keras.drawing import Draw
from mpt_keras.runtime.program import Program

# The kernel whose weights have words of signs, and the field that holds them.
_KERNEL, _FIELD = "count_signs", "weights"


@dataclasses.dataclass(frozen=True, eq=False)
class DrawnSigns:
    """Weights of `count_signs`, as a field of a call.

    Attributes:
        kept: uint64 array of what is kept, `(filters, words, taps)`.
        draw: What the signs are those of.
        channels: Of a filter.
    """

    kept: np.ndarray
    draw: Draw
    channels: int

    @property
    def nbytes(self) -> int:
        """Memory for the weights once they are drawn."""
        return 2 * self.kept.nbytes


def with_drawn_signs(
    program: Program, draws: Mapping[str, Draw]
) -> tuple[Program, list[str]]:
    """Returns a program in which signs that can be drawn are not stored.

    Args:
        program: `Program` for one image.
        draws: Layer -> what its kernel is drawn from.

    Returns:
        The program, and the layers whose signs are drawn.
    """
    calls, layers = [], []
    for call in program.calls:
        draw = draws.get(call.layer)
        if call.kernel == _KERNEL and draw is not None:
            drawn = _drawn(call.fields, draw)
            if drawn is not None:
                fields = {**call.fields, _FIELD: drawn}
                call = dataclasses.replace(call, fields=fields)
                layers.append(call.layer)
        calls.append(call)
    return dataclasses.replace(program, calls=tuple(calls)), layers


def _drawn(fields, draw):
    """None where the signs are not those, in the kernel's order."""
    if fields["groups"] != 1:
        return None
    both = fields[_FIELD]
    filters, words, taps, _ = both.shape
    channels = fields["channels"]
    signs = np.zeros((taps, 64 * words, filters), bool)
    signs[:, :channels] = draw.values((taps, channels, filters)) > 0
    packed = np.packbits(signs.transpose(2, 0, 1), axis=-1, bitorder="little")
    drawn = np.ascontiguousarray(packed).view("<u8").transpose(0, 2, 1)
    differ = drawn ^ both[..., 0]
    kept = np.ascontiguousarray(both[..., 1])
    return None if (differ & kept).any() else DrawnSigns(kept, draw, channels)
