"""A program as one C99 file that needs nothing else."""

import dataclasses
import re
import textwrap

import numpy as np

from mpt_keras.runtime.drawn_signs import DrawnSigns
from mpt_keras.runtime.program import ALIGNMENT, Buffer, Call, Program
from mpt_keras.runtime.structures import source_of, structures

_TYPES = {
    "i1": "int8_t",
    "u1": "uint8_t",
    "i2": "int16_t",
    "u2": "uint16_t",
    "i4": "int32_t",
    "u4": "uint32_t",
    "i8": "int64_t",
    "u8": "uint64_t",
    "f4": "float",
}
_LINE = 78
# Bytes of a vector where there are none, and how its tables are aligned.
SCALAR = 4
_SCALAR_ALIGNMENT = 8
_COMPILERS = """\
#ifndef __GNUC__
#error "It needs the vector extension of GCC or Clang."
#endif
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "It needs a processor whose least byte comes first."
#endif
/* Compilers may call these two even where there is no library; then they find
   them here. Being slow, they should not stand for loops as well. */
#ifdef __clang__
#define MPT_ALONE no_builtin("memset", "memcpy", "memmove")
#else
#pragma GCC optimize("no-tree-loop-distribute-patterns")
/* It warns of loops that do not run, where it knows how often they would. */
#pragma GCC diagnostic ignored "-Waggressive-loop-optimizations"
#define MPT_ALONE
#endif
#define MPT_KERNEL static __attribute__((unused, MPT_ALONE))

static __attribute__((used)) void *memset(void *to, int value,
                                          __SIZE_TYPE__ count) {
  volatile char *next = (volatile char *)to;
  while (count--) *next++ = (char)value;
  return to;
}

static __attribute__((used)) void *memcpy(void *to, const void *from,
                                          __SIZE_TYPE__ count) {
  volatile char *next = (volatile char *)to;
  const char *one = (const char *)from;
  while (count--) *next++ = *one++;
  return to;
}
"""


def c_source(
    program: Program,
    heading: str = "",
    *,
    width: int | None = None,
    function: str = "predict",
) -> str:
    """Prints a program of one image as C.

    The file has all weights, the memory that it computes in, and

        void predict(const float *input, float *output);

    the only name that others see. It allocates nothing, includes `<stdint.h>`
    alone, and is the same whenever it is made of the same program.

    Args:
        program: `Program` for one image.
        heading: Text of the comment at the top.
        width: Bytes of a vector, `SCALAR` for none; by default what the
            compiler is told that the processor has.
        function: Its name.
    """
    printer = _Printer(_SCALAR_ALIGNMENT if width == SCALAR else ALIGNMENT)
    for call in program.calls:
        printer.call(call)
    plan = program.plan
    first = printer.structure(
        _ends(
            *("images_to_planes", "output", program.input),
            *(plan.input, plan.input_channels_first),
        )
    )
    last = printer.structure(
        _ends(
            *("planes_to_images", "input", program.output),
            *(plan.output, plan.output_channels_first),
        )
    )
    kernels = {call.kernel for call in program.calls} | printer.kernels
    lines = [
        _comment(heading),
        _COMPILERS,
        f"#define MPT_WIDTH {width}\n" if width else "",
        source_of(kernels | {"images_to_planes", "planes_to_images"}),
        *printer.parts,
        f"static char net_arena[{max(program.arena_bytes, 1)}] "
        f"__attribute__((aligned({ALIGNMENT})));\n",
        *_start(printer.starts),
        "#ifdef __cplusplus",
        'extern "C"',
        "#endif",
        f"void {function}(const float *input, float *output);\n",
        f"void {function}(const float *input, float *output) {{",
        "  net_start();" if printer.starts else "",
        f"  images_to_planes(&{first}, input, net_arena);",
        *printer.calls,
        f"  planes_to_images(&{last}, net_arena, output);",
        "}",
    ]
    return "\n".join(line for line in lines if line) + "\n"


@dataclasses.dataclass(frozen=True)
class _Written:
    """A pointer to memory that is written."""

    name: str


class _Printer:
    """Tables and structures of calls, each under a name of its own."""

    def __init__(self, alignment):
        self.parts: list[str] = []
        self.calls: list[str] = []
        # What has to be called once, before all else.
        self.starts: list[str] = []
        self.kernels: set[str] = set()
        self._alignment = alignment
        self._taken: set[str] = set()
        self._tables: dict[int, str] = {}

    def call(self, call: Call) -> None:
        name = self.structure(call)
        self.calls.append(f"  {call.kernel}(&{name}, net_arena);")

    def structure(self, call: Call) -> str:
        """Prints the fields of a call; returns the name of the structure."""
        # C++ wants them in the structure's order.
        fields = ", ".join(
            f".{field} = {self._value(call, field)}"
            for field, _ in structures()[call.kernel]._fields_
        )
        name = self._name(call.layer)
        self.parts.append(
            f"static const struct {call.kernel} {name} = {{\n"
            f"{_filled(fields)}\n}};\n"
        )
        return name

    def _value(self, call, field):
        match call.fields[field]:
            case Buffer(offset=offset):
                return str(offset)
            case np.ndarray() as table:
                return self._table(f"{call.layer}_{field}", table)
            case DrawnSigns() as drawn:
                return self._drawn(f"{call.layer}_{field}", drawn)
            case _Written(name=name):
                return name
            case None:
                return "0"
            case float() | np.floating() as number:
                return _float(np.float32(number))
            case number:
                return f"{int(number)}{'u' if number >= 2**31 else ''}"

    def _table(self, text, table):
        if id(table) not in self._tables:
            self._tables[id(table)] = name = self._name(text)
            self.parts.append(_table(name, table, self._alignment))
        return self._tables[id(table)]

    def _drawn(self, text, drawn):
        """Memory for weights, and the call that fills it."""
        name = self._name(text)
        aligned = f"__attribute__((aligned({self._alignment})))"
        self.parts.append(
            f"static uint64_t {name}[{drawn.nbytes // 8}] {aligned};\n"
        )
        filters, _, taps = drawn.kept.shape
        fields = {
            "seed": drawn.draw.seed,
            "stream": drawn.draw.stream,
            "kept": drawn.kept,
            "weights": _Written(name),
            "taps": taps,
            "channels": drawn.channels,
            "filters": filters,
        }
        call = self.structure(Call("draw_signs", text, fields))
        self.starts.append(f"  draw_signs(&{call}, net_arena);")
        self.kernels.add("draw_signs")
        return name

    def _name(self, text):
        # Kernels have no names that begin so.
        name = "net_" + re.sub(r"\W", "_", text, flags=re.ASCII)
        unique, number = name, 1
        while unique in self._taken:
            number += 1
            unique = f"{name}_{number}"
        self._taken.add(unique)
        return unique


def _start(calls):
    """A function for what has to be called once."""
    if not calls:
        return
    yield from (
        "static void net_start(void) {",
        "  static int32_t has_started;",
        "  if (has_started) return;",
        *calls,
        "  has_started = 1;",
        "}\n",
    )


def _comment(text):
    for sign in ("*/", "/*", "??/"):
        text = text.replace(sign, " ".join(sign))
    lines = text.strip().splitlines()
    lines = [f"   {line}".rstrip() for line in lines]
    return "/*" + "\n".join(lines)[2:] + " */\n" if lines else ""


def _filled(text):
    return textwrap.fill(
        *(text, _LINE), initial_indent="  ", subsequent_indent="  "
    )


def _table(name, table, alignment):
    kind = _TYPES[table.dtype.str[1:]]
    values = table.ravel()
    if kind == "float":
        texts = [_float(value) for value in values]
    elif kind == "uint64_t":
        texts = [f"{value:#x}u" for value in values.tolist()]
    else:
        texts = list(map(str, values.tolist()))
    return (
        f"static const {kind} {name}[{max(values.size, 1)}] "
        f"__attribute__((aligned({alignment}))) = {{\n"
        f"{_rows(texts or ['0'])}\n}};\n"
    )


def _rows(texts):
    """As many in a line as there is room for the longest of them."""
    count = max(1, _LINE // (max(map(len, texts)) + 2))
    return ",\n".join(
        "  " + ", ".join(texts[begin : begin + count])
        for begin in range(0, len(texts), count)
    )


def _float(value):
    if np.isinf(value):
        return "-__builtin_inff()" if value < 0 else "__builtin_inff()"
    if np.isnan(value):
        return '__builtin_nanf("")'
    return float(value).hex() + "f"


def _ends(kind, field, buffer, value, channels_first):
    """The call that reads the images, or writes results."""
    channels = 1 if channels_first else value.shape[0]
    fields = {
        field: buffer,
        "channels": channels,
        "pixels": value.size // channels,
        "images": 1,
    }
    return Call(kind, kind, fields)
