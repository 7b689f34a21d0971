"""A program bound to compiled kernels: structures, tables and an arena."""

import ctypes
import threading

import numpy as np

from mpt_keras.runtime import library
from mpt_keras.runtime.program import ALIGNMENT, Buffer, Program
from mpt_keras.runtime.structures import structures


class CompiledProgram:
    """Runs a program with compiled kernels."""

    def __init__(self, program: Program, compiled: library.Library):
        self.images = program.images
        self._arena_bytes = program.arena_bytes
        self._arenas = threading.local()
        self._keep = [_aligned(table) for table in program.tables]
        places = {
            id(table): copy.ctypes.data
            for table, copy in zip(program.tables, self._keep, strict=True)
        }
        kinds = structures()
        steps = []
        for call in program.calls:
            fields = _fields(kinds[call.kernel], call.fields, places)
            self._keep.append(fields)
            steps.append(
                library.Step(
                    compiled.function(call.kernel), ctypes.addressof(fields)
                )
            )
        self._steps = (library.Step * len(steps))(*steps)
        plan = program.plan
        self._from = kinds["images_to_planes"](
            output=program.input.offset,
            **_sizes(plan.input, plan.input_channels_first, self.images),
        )
        self._to = kinds["planes_to_images"](
            input=program.output.offset,
            **_sizes(plan.output, plan.output_channels_first, self.images),
        )
        self._run = compiled.run

    def run(self, images, results):
        """Of as many images as the program takes at once."""
        self._run(
            self._steps,
            len(self._steps),
            self._from,
            images.ctypes.data,
            self._to,
            results.ctypes.data,
            self._arena(),
        )

    def _arena(self):
        try:
            return self._arenas.address
        except AttributeError:
            memory = np.empty(self._arena_bytes + ALIGNMENT, "uint8")
            self._arenas.memory = memory
            self._arenas.address = (
                memory.ctypes.data + -memory.ctypes.data % ALIGNMENT
            )
            return self._arenas.address


def _sizes(value, channels_first, images):
    """Planes as [image][row][column][channel] see them."""
    channels = 1 if channels_first else value.shape[0]
    return {
        "channels": channels,
        "pixels": value.size // channels,
        "images": images,
    }


def _aligned(table):
    memory = np.empty(table.nbytes + ALIGNMENT, "uint8")
    begin = -memory.ctypes.data % ALIGNMENT
    copy = memory[begin : begin + table.nbytes]
    copy[...] = np.ascontiguousarray(table).ravel().view("uint8")
    return copy


def _fields(kind, fields, places):
    values = {}
    for name, field in fields.items():
        if isinstance(field, Buffer):
            field = field.offset
        elif isinstance(field, np.ndarray):
            field = places[id(field)]
        values[name] = field
    expected = {name for name, _ in kind._fields_}
    if values.keys() != expected:
        raise AssertionError(
            f"Kernel '{kind.__name__}' takes {sorted(expected)}. Received: "
            f"{sorted(values)}"
        )
    return kind(**values)
