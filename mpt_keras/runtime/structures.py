"""What the C sources of the kernels say of themselves.

The sources are the only place that states the fields of a kernel: a kernel is

    struct NAME { int32_t a, b; const float *table; ... };
    MPT_KERNEL void NAME(const struct NAME *k, char *arena) { ... }

and its fields are numbers and pointers.
"""

import ctypes
import functools
import pathlib
import re
from collections.abc import Iterable

_KERNELS = pathlib.Path(__file__).with_name("kernels")
_TYPES = {
    "float": ctypes.c_float,
    **{
        f"{sign}int{bits}_t": getattr(ctypes, f"c_{sign}int{bits}")
        for sign in ("", "u")
        for bits in (8, 16, 32, 64)
    },
}
# Of what is in a header not all need be called, and clang minds.
_UNUSED = """\
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
"""
_END = "#pragma GCC diagnostic pop\n"
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_GUARDED = re.compile(
    r"^#ifndef (\w+_H)\n#define \1\n(.*)^#endif\s*\Z", re.DOTALL | re.MULTILINE
)
_MACRO = re.compile(r"^\s*#\s*define\s+(\w+)[ \t]+(.+)$", re.MULTILINE)
_STRUCTURE = re.compile(r"\bstruct\s+(\w+)\s*\{([^{}]*)\}\s*;")
_KERNEL = re.compile(
    r"\bMPT_KERNEL\s+void\s+(\w+)\s*\(\s*const\s+struct\s+\1\s*\*"
)
_DECLARATION = re.compile(
    r"(?:const\s+)?(\w+)\s*(\*?\s*\w+(?:\s*,\s*\*?\s*\w+)*)"
)


@functools.cache
def structures() -> dict[str, type[ctypes.Structure]]:
    """Name of each kernel -> the structure of that name, which it takes.

    Raises:
        ValueError: If a source declares fields otherwise than agreed.
    """
    texts = [_plain(path) for path in sorted(_KERNELS.glob("*.[ch]"))]
    macros = dict(pair for text in texts for pair in _MACRO.findall(text))
    bodies = dict(pair for text in texts for pair in _STRUCTURE.findall(text))
    return {
        kernel: type(
            kernel,
            (ctypes.Structure,),
            {"_fields_": _fields(kernel, bodies[kernel], macros)},
        )
        for text in texts
        for kernel in _KERNEL.findall(text)
    }


@functools.cache
def kernel_files() -> dict[str, str]:
    """Name of each kernel -> name of the file in `kernels/` that defines it."""
    return {
        kernel: path.name
        for path in sorted(_KERNELS.glob("*.c"))
        for kernel in _KERNEL.findall(_plain(path))
    }


def source_of(kernels: Iterable[str]) -> str:
    """C source of some kernels and of all that they include, each file once.

    Args:
        kernels: Names.

    Returns:
        Text without own `#include`s, include guards and what only the library
        needs; `#include <...>` lines come first.
    """
    files = kernel_files()
    system: set[str] = set()
    parts: dict[str, str] = {}
    for name in sorted({files[kernel] for kernel in kernels}):
        _add(name, system, parts)
    lines = "".join(f"#include <{name}>\n" for name in sorted(system))
    return "\n".join((lines, _UNUSED, *parts.values(), _END))


def _plain(path):
    """Without comments, what only the library needs, and broken lines."""
    text = _COMMENT.sub(" ", path.read_text(encoding="utf-8"))
    return "".join(_outside_the_library(text)).replace("\\\n", " ")


def _fields(kernel, body, macros):
    """Fields of a structure, from what stands between its braces."""
    body = re.sub(
        r"\b[A-Z]\w+\b",
        lambda match: (
            f"{macros[match[0]]};" if match[0] in macros else match[0]
        ),
        body,
    )
    fields = []
    for declaration in filter(None, map(str.strip, body.split(";"))):
        match = _DECLARATION.fullmatch(declaration)
        if match is None or match[1] not in _TYPES:
            raise ValueError(
                "Expected numbers and pointers such as `int32_t a, b;` in a "
                f"kernel's structure. Received: `{declaration};` in `struct "
                f"{kernel}`"
            )
        for declarator in match[2].split(","):
            name = declarator.replace("*", "").strip()
            is_pointer = "*" in declarator
            kind = ctypes.c_void_p if is_pointer else _TYPES[match[1]]
            fields.append((name, kind))
    return fields


def _outside_the_library(text):
    """The lines but those that are between `#ifdef MPT_LIBRARY` and its end."""
    # For each condition that is open: whether it holds without the library,
    # or None for a condition on something else.
    conditions = []
    for line in text.splitlines(keepends=True):
        directive, _, name = line.strip().removeprefix("#").partition(" ")
        if not line.lstrip().startswith("#"):
            directive = ""
        if directive in ("if", "ifdef", "ifndef"):
            known = name.strip() == "MPT_LIBRARY"
            conditions.append(directive == "ifndef" if known else None)
            if known:
                continue
        elif directive == "else" and conditions[-1] is not None:
            conditions[-1] = not conditions[-1]
            continue
        elif directive == "endif" and conditions.pop() is not None:
            continue
        if False not in conditions:
            yield line


def _add(name, system, parts):
    """Adds a file behind those that it includes."""
    text = (_KERNELS / name).read_text(encoding="utf-8")
    text = _GUARDED.sub(r"\2", text)
    own, kept = [], []
    depth = 0
    for line in _outside_the_library(text):
        words = line.split()
        if words[:1] == ["#include"] and words[1].startswith('"'):
            own.append(words[1].strip('"'))
        elif words[:1] == ["#include"] and not depth:
            system.add(words[1].strip("<>"))
        else:
            kept.append(line)
        depth += line.startswith("#if")
        depth -= line.startswith("#endif")
    for other in own:
        if other not in parts:
            _add(other, system, parts)
    parts[name] = re.sub(r"\n{3,}", "\n\n", "".join(kept)).strip("\n") + "\n"
