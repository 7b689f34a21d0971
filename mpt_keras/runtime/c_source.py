"""A program as one C99 file that needs nothing else."""

import re
import textwrap
from collections.abc import Mapping

import numpy as np

from mpt_keras.runtime.program import ALIGNMENT, Buffer, Call, Program
from mpt_keras.runtime.structures import source_of, structures

_TYPES = {
    "i1": "int8_t",
    "u1": "uint8_t",
    "i2": "int16_t",
    "u2": "uint16_t",
    "i4": "int32_t",
    "u4": "uint32_t",
    "u8": "uint64_t",
    "f4": "float",
}
_RUN = {"images_to_planes", "planes_to_images"}


def c_source(
    program: Program, heading: str = "", width: int | None = None
) -> str:
    """Prints a program of one image as C.

    The file has all weights, the memory that it computes in, and

        void predict(const float *input, float *output);

    It allocates nothing, includes `<stdint.h>` alone, and is the same
    whenever it is made of the same program.

    Args:
        program: `Program` for one image.
        heading: Text of the comment at the top.
        width: Bytes of a vector: 4 for none; by default what the compiler
            is told that the processor has.
    """
    names = _Names()
    tables: dict[int, str] = {}
    parts: list[str] = []
    calls: list[str] = []
    for call in program.calls:
        name = names.of(call.layer)
        for field, value in call.fields.items():
            if isinstance(value, np.ndarray) and id(value) not in tables:
                tables[id(value)] = table = names.of(f"{call.layer}_{field}")
                parts.append(_table(table, value))
        parts.append(_structure(name, call, tables))
        calls.append(f"  {call.kernel}(&{name}, arena);")
    plan = program.plan
    kernels = {call.kernel for call in program.calls} | _RUN
    source, result = (
        _ends(kind, name, buffer, value, channels_first)
        for kind, name, buffer, value, channels_first in (
            (
                *("images_to_planes", "output", program.input),
                *(plan.input, plan.input_channels_first),
            ),
            (
                *("planes_to_images", "input", program.output),
                *(plan.output, plan.output_channels_first),
            ),
        )
    )
    lines = [
        _comment(heading),
        f"#define MPT_WIDTH {width}\n" if width else "",
        source_of(kernels),
        *parts,
        source,
        result,
        "static char arena[ARENA_BYTES] "
        f"__attribute__((aligned({ALIGNMENT})));\n".replace(
            "ARENA_BYTES", str(program.arena_bytes)
        ),
        f"/* {_shape(plan.input_shape)} to {_shape(plan.output_shape)}. */",
        "void predict(const float *input, float *output);\n",
        "void predict(const float *input, float *output) {",
        "  images_to_planes(&images, input, arena);",
        *calls,
        "  planes_to_images(&results, arena, output);",
        "}",
    ]
    return "\n".join(line for line in lines if line) + "\n"


class _Names:
    """C identifiers, each once."""

    def __init__(self):
        self._taken = {"arena", "images", "results", "predict", *structures()}

    def of(self, text: str) -> str:
        name = re.sub(r"\W", "_", text, flags=re.ASCII)
        name = f"l{name}" if not name or name[0].isdigit() else name
        unique, number = name, 1
        while unique in self._taken:
            number += 1
            unique = f"{name}_{number}"
        self._taken.add(unique)
        return unique


def _comment(text):
    lines = text.replace("*/", "* /").strip().splitlines()
    return "/* " + "\n   ".join(lines) + " */\n" if lines else ""


def _shape(shape):
    return " x ".join(map(str, shape))


def _table(name, table):
    kind = _TYPES[table.dtype.str[1:]]
    values = table.ravel()
    if kind == "float":
        numbers = [_float(value) for value in values]
    else:
        ending = {"uint64_t": "u", "uint32_t": "u"}.get(kind, "")
        ending = "ull" if kind == "uint64_t" else ending
        numbers = [f"{value}{ending}" for value in values.tolist()]
    text = textwrap.fill(
        ", ".join(numbers), 78, initial_indent="  ", subsequent_indent="  "
    )
    return (
        f"static const {kind} {name}[{max(values.size, 1)}] "
        f"__attribute__((aligned({ALIGNMENT}))) = {{\n{text or '  0'}\n}};\n"
    )


def _float(value):
    if np.isinf(value):
        return "-__builtin_inff()" if value < 0 else "__builtin_inff()"
    if np.isnan(value):
        return '__builtin_nanf("")'
    return float(value).hex() + "f"


def _structure(name: str, call: Call, tables: Mapping[int, str]) -> str:
    fields = []
    for field, value in call.fields.items():
        if isinstance(value, Buffer):
            text = str(value.offset)
        elif isinstance(value, np.ndarray):
            text = tables[id(value)]
        elif value is None:
            text = "0"
        elif isinstance(value, float):
            text = _float(np.float32(value))
        else:
            text = str(value)
        fields.append(f".{field} = {text}")
    body = textwrap.fill(
        ", ".join(fields), 78, initial_indent="  ", subsequent_indent="  "
    )
    return f"static const struct {call.kernel} {name} = {{\n{body}\n}};\n"


def _ends(kind, field, buffer, value, channels_first):
    """The structure of the kernel that reads the images, or writes results."""
    name = "images" if kind == "images_to_planes" else "results"
    channels = 1 if channels_first else value.shape[0]
    fields = {
        field: buffer,
        "channels": channels,
        "pixels": value.size // channels,
        "images": 1,
    }
    return _structure(name, Call(kind, name, fields), {})
