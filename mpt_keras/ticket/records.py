"""Whether the record of a kernel can be one, before memory is taken for it."""

import math
import reprlib

import numpy as np

from mpt_keras.drawing import DISTRIBUTIONS, Draw
from mpt_keras.frozen_part import FrozenPart
from mpt_keras.ticket.errors import TicketError

# Values of float64 kernels are those of float32 numbers.
_DTYPES = ("float64", "float32", "float16", "bfloat16")
_LARGEST_FLOAT = float(np.finfo("float32").max)
_LONGEST_NAME = 1000
_MOST_DIMENSIONS = 16


def _is_size(value):
    return type(value) is int and 0 <= value < 2**63


def _is_number(value):
    """Whether a float32 can be made of it; neither NaN nor infinite."""
    return type(value) in (int, float) and abs(value) <= _LARGEST_FLOAT


def _is_frozen_part(value):
    seeds, counts = ("seed", "stream"), ("pruned", "kept")
    return (
        isinstance(value, dict)
        and value.keys() == {*seeds, *counts}
        and all(type(number) is int for number in value.values())
        and all(0 <= value[name] < 2**64 for name in seeds)
        and all(_is_size(value[name]) for name in counts)
    )


_FIELDS = {
    "name": lambda value: (
        isinstance(value, str) and len(value) <= _LONGEST_NAME
    ),
    "place": _is_size,
    "shape": lambda value: (
        isinstance(value, list)
        and len(value) <= _MOST_DIMENSIONS
        and all(_is_size(size) and size > 0 for size in value)
    ),
    "kept": _is_size,
    "dtype": lambda value: value in _DTYPES,
    "binarize": lambda value: value is None or isinstance(value, bool),
    "kernel": lambda value: value in ("drawn", "signs", "values", "base"),
}
_OPTIONAL_FIELDS = {
    "gain": _is_number,
    "magnitude": _is_number,
    "sign_ones": _is_size,
    "draw": lambda value: isinstance(value, dict),
    "scores": lambda value: isinstance(value, dict),
    "frozen": _is_frozen_part,
    "alone": lambda value: value is True,
}


def check_record(record):
    """Returns name, shape and number of weights kept; takes no memory.

    Raises:
        TicketError: If a record is not of this form.
    """
    for key, fits in (_FIELDS | _OPTIONAL_FIELDS).items():
        there = key in record
        if not (fits(record[key]) if there else key in _OPTIONAL_FIELDS):
            raise TicketError(
                f"The kernel {reprlib.repr(record.get('name'))} has a "
                f"'{key}' that none can have: "
                f"{reprlib.repr(record.get(key, 'nothing'))}"
            )
    shape, kept = tuple(record["shape"]), record["kept"]
    if kept > math.prod(shape) or (not kept and record["binarize"] is not None):
        raise TicketError(
            f"The kernel '{record['name']}' keeps {kept} of "
            f"{math.prod(shape)} weights."
        )
    frozen = frozen_in(record)
    if frozen is not None and not (
        record["binarize"] is not None
        and frozen.pruned + frozen.kept < math.prod(shape)
        and frozen.kept <= kept <= math.prod(shape) - frozen.pruned
    ):
        raise TicketError(
            f"The kernel '{record['name']}' keeps {kept} of "
            f"{math.prod(shape)} weights, which its frozen part does not "
            f"allow: {reprlib.repr(record['frozen'])}"
        )
    needed = {"signs": ("magnitude", "sign_ones"), "drawn": ("draw",)}
    for key in needed.get(record["kernel"], ()):
        if key not in record:
            raise TicketError(f"The kernel '{record['name']}' lacks '{key}'.")
    return record["name"], shape, kept


def frozen_in(record):
    """Returns the `FrozenPart` of a record, or None where it has none."""
    return FrozenPart(**record["frozen"]) if "frozen" in record else None


def draw_in(record, key):
    """Returns the `Draw` of a record, or None where it has none.

    Raises:
        TicketError: If nobody can draw so.
    """
    if key not in record:
        return None
    fields = record[key]
    try:
        draw = Draw(**fields)
        fits = (
            draw.distribution in DISTRIBUTIONS
            and all(type(n) is int for n in (draw.seed, draw.stream))
            and min(draw.seed, draw.stream) >= 0
            and max(draw.seed, draw.stream) < 2**64
            and _is_number(draw.fan_in)
            and _is_number(draw.slope)
            and 1e-30 < draw.fan_in < 1e30
            and abs(draw.slope) < 1e15
        )
    except TypeError:  # other fields, or a distribution that is no text
        fits = False
    if not fits:
        raise TicketError(
            f"The '{key}' of the kernel '{record['name']}' is not known: "
            f"{reprlib.repr(fields)}"
        )
    return draw
