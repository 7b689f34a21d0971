"""Tickets as one C99 file, for whatever has a C compiler."""

import ctypes
import dataclasses
import hashlib
import math
import pathlib
import re
import tempfile
from collections.abc import Mapping, Sequence

import keras
import numpy as np

from mpt_keras import _environment
from mpt_keras.engines.engine import Engine, Runner
from mpt_keras.engines.kernels import kernels_of
from mpt_keras.engines.report import LayerReport
from mpt_keras.layers.traversal import masked_kernels_and_layers, walk
from mpt_keras.runtime import compiling, processor
from mpt_keras.runtime.c_source import SCALAR, c_source
from mpt_keras.runtime.drawn_signs import DrawnSigns, with_drawn_signs
from mpt_keras.runtime.fusing import fuse
from mpt_keras.runtime.lowering import lower
from mpt_keras.runtime.packing import pack
from mpt_keras.runtime.program import Program
from mpt_keras.ticket.saving import ticket_of

_WORDS_OF_C = re.compile(
    "auto|break|case|char|const|continue|default|do|double|else|enum|extern|"
    "float|for|goto|if|inline|int|long|main|register|restrict|return|short|"
    "signed|sizeof|static|struct|switch|typedef|union|unsigned|void|volatile|"
    "while"
)
_NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)
_BEGIN = re.compile(r"/\* .* as C99, by mpt_keras ")
# Builds of a file that compute in other ways: flags of the compiler.
BUILDS: Mapping[str, tuple[str, ...]] = {
    "the fastest build": (),
    "the smallest one": ("-Os", f"-DMPT_WIDTH={SCALAR}"),
}
# Most bytes of stack, by whether there are vectors.
_STACK = {True: 10_000, False: 2000}
_NOTHING_DRAWN = (
    "No signs of this network can be drawn from a seed, so that signs='seed' "
    "would gain nothing. Expected signs='stored'; or a masked model, not a "
    "frozen one, with its kernels as they were drawn and binary activations in "
    "front of layers that are not too sparse."
)
_LONGEST_COMMENT = 2**20
_PROTOTYPE = "void {function}(const float *input, float *output);"


@dataclasses.dataclass(frozen=True)
class CFile(Engine):
    """A file of weights and code that needs nothing but a C compiler.

    Attributes:
        vectors: Whether it computes with vectors, as large as the compiler is
            told that the processor has them; without, it is plain code for
            microcontrollers.
        signs: `"stored"`; or `"seed"`: where layers count bits and their signs
            follow from a seed, they are drawn at the first call. Only masked
            models know their seeds.
        function: Name of the function, the only one that others see.
    """

    vectors: bool = True
    signs: str = "stored"
    function: str = "predict"

    name = "c"
    ending = ".c"
    backends = ("tensorflow", "jax", "torch")
    fixed = True

    def __post_init__(self):
        if not isinstance(self.vectors, bool):
            raise ValueError(
                "Invalid value for argument `vectors`. Expected True or False. "
                f"Received: vectors={self.vectors!r}"
            )
        if self.signs not in ("stored", "seed"):
            raise ValueError(
                "Invalid value for argument `signs`. Expected 'stored' or "
                f"'seed'. Received: signs={self.signs!r}"
            )
        name = self.function
        is_name = isinstance(name, str) and _NAME.fullmatch(name)
        if not is_name or _WORDS_OF_C.fullmatch(name):
            raise ValueError(
                "Invalid value for argument `function`. Expected a name that a "
                f"function can have in C. Received: function={name!r}"
            )

    def require(self):
        if not compiling.has_compiler():
            raise ImportError(
                "This format needs a C compiler, to check what it wrote, and "
                "there is none (looked for $CC, cc, gcc, clang). One that pip "
                'installs: pip install "mpt_keras[runtime]"'
            )

    def write(self, model, path):
        self.write_of(model, model, path)

    def write_of(self, model, frozen, path):
        is_small = not self.vectors or self.signs == "seed"
        program = pack(fuse(lower(ticket_of(frozen))), small=is_small)
        if self.signs == "seed":
            program, drawn = with_drawn_signs(program, _draws(model))
            if not drawn:
                raise ValueError(_NOTHING_DRAWN)
        text = c_source(
            program,
            heading(frozen, program, self.function, _STACK[self.vectors]),
            width=None if self.vectors else SCALAR,
            function=self.function,
        )
        path.write_text(text, encoding="utf-8", newline="\n")

    def load(self, path, sources, threads=None):
        return build(path)

    def size(self, path):
        return Heading(path).flash_bytes

    def layers(self, model, path):
        stored = Heading(path).layers
        reports = []
        for kernel in kernels_of(model):
            part, _, attribute = kernel.name.rpartition("/")
            of_nested = (f"{kernel.path}/{attribute}", kernel.path)
            size, how = next(
                (
                    stored[name]
                    for name in (kernel.name, part, *of_nested)
                    if name in stored
                ),
                (0, ""),
            )
            sparsity = np.mean(kernel.values == 0)
            reports.append(
                LayerReport(
                    kernel.name,
                    kernel.kind,
                    kernel.values.shape,
                    f"{size:,} bytes, {sparsity:.1%} pruned",
                    how,
                )
            )
        return tuple(reports)

    def foreign(self, path):
        found = super().foreign(path)
        if found:
            return found
        with path.open("rb") as file:
            begin = file.read(1000).decode("utf-8", "replace")
        return "" if _BEGIN.match(begin) else "a C file of another origin"

    def notes(self, model, path):
        found = Heading(path)
        return (
            f"flash: {found.flash_bytes:,} bytes of tables, and the code",
            f"RAM: {found.ram_bytes:,} bytes, and less than "
            f"{_STACK[self.vectors]:,} of stack",
        )


def _draws(model):
    """Layer -> what its kernel was drawn from, of a masked model."""
    paths = {id(layer): path for path, layer in walk(model)}
    draws = {}
    for name, (_, layer, kernel) in masked_kernels_and_layers(model).items():
        # Programs call the layers of nested models by their paths.
        draws[name] = draws[paths[id(layer)]] = layer.draw(kernel)
    return {name: draw for name, draw in draws.items() if draw is not None}


def heading(
    model: keras.Model, program: Program, function: str, stack: int
) -> str:
    """What the comment at the top says.

    Args:
        model: The frozen model.
        program: What the file computes.
        function: Its name.
        stack: Most bytes of stack that it needs.
    """
    plan = program.plan
    kernels = kernels_of(model)
    weights = sum(kernel.values.size for kernel in kernels)
    by_layer = _by_layer(program)
    flash = sum(size for size, _ in by_layer.values())
    ram = program.arena_bytes + sum(
        field.nbytes
        for call in program.calls
        for field in call.fields.values()
        if isinstance(field, DrawnSigns)
    )
    pruned = sum(
        int(np.count_nonzero(kernel.values == 0)) for kernel in kernels
    )
    lines = [
        f"{_line(plan.name)} as C99, by mpt_keras {_environment.version()}.",
        "",
        f"  {_PROTOTYPE.format(function=function)}",
        "",
        f"input: {_shape(plan.input_shape)} floats",
        f"output: {_shape(plan.output_shape)} floats",
        f"flash: {flash:,} bytes of tables, and the code",
        f"RAM: {ram:,} bytes, and less than {stack:,} of stack",
        "threads: one call at a time",
        f"pruned: {pruned:,} of {weights:,} weights of kernels",
        f"weights: SHA-256 {weights_checksum(model)}",
        "compile: gcc -std=c99 -Os -c, or clang",
        "",
        "bytes of tables, by layer, and the kernel:",
        *(
            f"  {size:,} {kernel} {_line(layer)}"
            for layer, (size, kernel) in by_layer.items()
        ),
    ]
    return "\n".join(lines)


def weights_checksum(model: keras.Model) -> str:
    """SHA-256 of all weights of a frozen model, in their order.

    Example:

    >>> len(weights_checksum(mpt_keras.freeze(model)))
    64
    """
    digest = hashlib.sha256()
    for variable in model.weights:
        values = np.asarray(keras.ops.convert_to_numpy(variable))
        digest.update(f"{values.shape} ".encode())
        digest.update(values.astype("<f4").tobytes())
    return digest.hexdigest()


def _by_layer(program):
    """Layer -> bytes of its tables, and the kernel that has most of them."""
    found: dict[str, dict[str, int]] = {}
    seen = set()
    for call in program.calls:
        tables = [
            getattr(field, "kept", field)  # of signs that are drawn
            for field in call.fields.values()
            if isinstance(field, (np.ndarray, DrawnSigns))
        ]
        tables = [table for table in tables if id(table) not in seen]
        seen.update(map(id, tables))
        kernels = found.setdefault(call.layer, {})
        kernels.setdefault(call.kernel, 0)
        kernels[call.kernel] += sum(table.nbytes for table in tables)
    return {
        layer: (sum(kernels.values()), max(kernels, key=kernels.__getitem__))
        for layer, kernels in found.items()
    }


def _line(name):
    return " ".join(name.split())


def _shape(shape):
    return " x ".join(map(str, shape))


class Heading:
    """What the comment at the top of a file says, read again.

    Attributes:
        signs: `"stored"`; or `"seed"`: where layers count bits and their signs
            follow from a seed, they are drawn at the first call. Only masked
            models know their seeds.
        function: Name of the function.
        input_shape, output_shape: Of one example.
        flash_bytes, ram_bytes: What it needs, beside code and stack.
        checksum: `weights_checksum` of the frozen model.
        layers: Layer -> bytes of its tables, and the kernel.

    Raises:
        ValueError: If the file was not written by `export`.
    """

    def __init__(self, path: pathlib.Path):
        with path.open(encoding="utf-8", errors="replace") as file:
            text = file.read(_LONGEST_COMMENT)
        comment, _, _ = text.partition(" */")

        def found(pattern):
            match = re.search(pattern, comment, re.MULTILINE)
            if not _BEGIN.match(text) or match is None:
                raise ValueError(
                    f"'{path}' is no C file that mpt_keras.export wrote, or "
                    "the comment at its top was changed."
                )
            return match[1]

        def number(pattern):
            return int(found(pattern).replace(",", ""))

        def shape(pattern):
            return tuple(map(int, found(pattern).split(" x ")))

        self.function = found(r"^ +void (\w+)\(const float \*input,")
        self.input_shape = shape(r"^ +input: ([\d x]+) floats$")
        self.output_shape = shape(r"^ +output: ([\d x]+) floats$")
        self.flash_bytes = number(r"^ +flash: ([\d,]+) bytes")
        self.ram_bytes = number(r"^ +RAM: ([\d,]+) bytes")
        self.checksum = found(r"^ +weights: SHA-256 (\w+)$")
        self.layers = {
            layer: (int(size.replace(",", "")), kernel)
            for size, kernel, layer in re.findall(
                r"^ {5}([\d,]+) (\w+) (.*)$", comment, re.MULTILINE
            )
        }


def build(path: pathlib.Path, flags: Sequence[str] = ()) -> Runner:
    """Compiles a C file for this processor, and loads it.

    Args:
        path: A file that `export` wrote.
        flags: Of the compiler, behind others.

    Raises:
        ValueError: If it was not written by `export`, or does not compile.
    """
    found = Heading(path)
    flags = (
        *compiling.LEVELS[compiling.architecture()][processor.choose()],
        *flags,
    )
    try:
        data = compiling.shared_library([path], flags, f"'{path.name}'")
    except compiling.CompilerError as error:
        raise ValueError(f"The compiler {error}") from error
    with tempfile.TemporaryDirectory(
        prefix="mpt_keras-", ignore_cleanup_errors=True
    ) as folder:
        library = pathlib.Path(folder) / "library"
        library.write_bytes(data)
        predict = getattr(ctypes.CDLL(str(library)), found.function)
    predict.restype = None
    predict.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    size = math.prod(found.input_shape)

    def run(arrays):
        (inputs,) = arrays
        if inputs[0].size != size:
            raise ValueError(
                f"'{path}' takes other inputs. Expected the shape "
                f"{found.input_shape}. Received: {inputs.shape[1:]}"
            )
        inputs = np.ascontiguousarray(inputs, "float32")
        outputs = np.empty((len(inputs), *found.output_shape), "float32")
        for one, result in zip(inputs, outputs, strict=True):
            predict(one.ctypes.data, result.ctypes.data)
        return [outputs]

    return run
