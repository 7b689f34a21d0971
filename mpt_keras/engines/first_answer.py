"""From the start of a process to its first answer, in every format."""

import contextlib
import dataclasses
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

import keras
import numpy as np

from mpt_keras.engines.c_file import Heading
from mpt_keras.engines.inputs import ModelInput
from mpt_keras.runtime import compiling, processor


@dataclasses.dataclass(frozen=True)
class Program:
    """Python that only wants an answer of a file, in its three parts.

    They see `path`, `threads`, the list `arrays` and `named`, which gives an
    engine's names of the inputs their arrays.
    """

    imports: str
    load: str
    answer: str


# By the labels of `benchmarking.VARIANTS`, and "keras".
PROGRAMS: Mapping[str, Program] = {
    "keras": Program(
        "import keras",
        "model = keras.saving.load_model(path, compile=False)",
        "model.predict_on_batch(arrays[0] if len(names) == 1 else "
        "named(names))",
    ),
    "saved_model": Program(
        "import tensorflow as tf",
        "loaded = tf.saved_model.load(path)\n"
        "serve = loaded.signatures['serving_default']\n"
        "takes = serve.structured_input_signature[1]",
        "serve(**{k: tf.constant(v) for k, v in named(takes).items()})",
    ),
    "litert": Program(
        "from ai_edge_litert.interpreter import Interpreter",
        "run = Interpreter(path, num_threads=threads).get_signature_runner()",
        "run(**named(run.get_input_details()))",
    ),
    "onnx": Program(
        "import onnxruntime",
        "options = onnxruntime.SessionOptions()\n"
        "options.log_severity_level = 3\n"
        "options.intra_op_num_threads = threads\n"
        "session = onnxruntime.InferenceSession(\n"
        "    path, options, providers=['CPUExecutionProvider'])",
        "session.run(None, named([i.name for i in session.get_inputs()]))",
    ),
    "openvino": Program(
        "import openvino",
        "model = openvino.Core().compile_model(path + '/model.xml', 'CPU',\n"
        "    {'INFERENCE_NUM_THREADS': str(threads)})",
        "model(named([i.get_any_name() for i in model.inputs]))",
    ),
    "larq": Program(
        "from larq_compute_engine.testing import Interpreter",
        "model = Interpreter(open(path, 'rb').read(), num_threads=threads)",
        "model.predict(arrays[0])",
    ),
    "runtime": Program(
        "from mpt_keras.runtime import load",
        "network = load(path, threads=threads)",
        "network(arrays[0])",
    ),
}
PROGRAMS = {**PROGRAMS, "litert int8": PROGRAMS["litert"]}

_SCRIPT = """
{head}
import json, sys
path, inputs, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
names = json.loads(sys.argv[4])
def named(takes):
    takes = list(takes)
    return dict(zip(takes if len(takes) == 1 else names, arrays))
{imports}
import numpy
{probe}
with numpy.load(inputs) as file:
    arrays = list(file.values())
{load}
{probe}
{answer}
{probe}
print("{answered}", flush=True)
"""
_ANSWERED = "mpt_keras: answered"


_C_PROGRAM = """
#include <stdio.h>
void {function}(const float *input, float *output);
static float input[{inputs}], output[{outputs}];
int main(void)
{{
    {function}(input, output);
    puts("{answered}");
    return fflush(stdout);
}}
"""


def command(
    program: Program,
    path: pathlib.Path,
    inputs: pathlib.Path,
    names: Sequence[str],
    threads: int = 1,
    head: str = "",
    probe: str = "",
) -> list[str]:
    """The command that runs a program.

    Args:
        program: Its parts.
        path: The file that it loads.
        inputs: File of `write_inputs`.
        names: Of the model's inputs.
        threads: With how many to compute.
        head: Python in front of the program.
        probe: Python behind each of its parts.
    """
    parts = dataclasses.asdict(program)
    text = _SCRIPT.format(head=head, probe=probe, answered=_ANSWERED, **parts)
    return [
        *(sys.executable, "-c", text, str(path), str(inputs)),
        *(str(threads), json.dumps(list(names))),
    ]


def c_command(path: pathlib.Path, folder: pathlib.Path) -> list[str]:
    """The command of a program that calls a C file once, with zeros.

    Args:
        path: A file that `export` wrote.
        folder: Where the program is compiled to.

    Raises:
        CompilerError: If no compiler makes programs.
    """
    heading = Heading(path)
    source = folder / "first_answer.c"
    source.write_text(
        _C_PROGRAM.format(
            function=heading.function,
            inputs=math.prod(heading.input_shape),
            outputs=math.prod(heading.output_shape),
            answered=_ANSWERED,
        ),
        encoding="utf-8",
    )
    flags = compiling.LEVELS[compiling.architecture()][processor.choose()]
    program = folder / "first_answer.exe"
    program.write_bytes(
        compiling.program([path, source], flags, f"'{path.name}'")
    )
    program.chmod(0o700)
    return [str(program)]


def run(words: Sequence[str]) -> tuple[float, list[str]]:
    """Runs a command in a process of its own, up to its answer.

    Returns:
        Seconds since the process was asked for, and the lines that it printed
        before.

    Raises:
        RuntimeError: If it ends without an answer.
    """
    environment = {**os.environ, "KERAS_BACKEND": keras.backend.backend()}
    lines = []
    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        with subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        ) as process:
            for line in process.stdout or ():
                if line.strip() == _ANSWERED:
                    return time.perf_counter() - start, lines
                lines.append(line.rstrip("\n"))
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip()
    last = said.splitlines()[-1] if said else f"status {process.returncode}"
    raise RuntimeError(f"A new process ended without an answer: {last}")


def write_inputs(path: pathlib.Path, arrays: Sequence[np.ndarray]) -> None:
    """Writes a batch where programs read it: `.npz`, in the model's order."""
    np.savez(path, *arrays)


def first_answers(
    files: Mapping[str, pathlib.Path],
    sources: Sequence[ModelInput],
    arrays: Sequence[np.ndarray],
    threads: int = 1,
    rounds: int = 3,
) -> dict[str, float]:
    """How long processes take that start, load a file and answer once.

    Each imports its engine alone; a C file is compiled before, to a program.
    TensorFlow, and with it Keras and the SavedModel, has the number of threads
    that the environment variables say.

    Args:
        files: Key of `PROGRAMS`, or `"c"` -> file or folder; others are left
            out, and C files that no compiler makes a program of.
        sources: The model's inputs.
        arrays: A batch of one example, an array for each of them.
        threads: Of each engine.
        rounds: Number of processes for each file; they take turns.

    Returns:
        Label -> median, in seconds.

    Raises:
        RuntimeError: If a process ends without an answer.

    Example:

    >>> mpt_keras.save_ticket(model, "first.ticket")
    >>> sources = mpt_keras.engines.inputs.model_inputs(model)
    >>> arrays = [np.zeros((1, 4), "float32")]
    >>> files = {"runtime": pathlib.Path("first.ticket")}
    >>> first_answers(files, sources, arrays, rounds=1)["runtime"] > 0
    True
    """
    names = [source.name for source in sources]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        inputs = folder / "inputs.npz"
        write_inputs(inputs, arrays)
        commands = {}
        for label, path in files.items():
            if label in PROGRAMS:
                commands[label] = command(
                    PROGRAMS[label], path, inputs, names, threads
                )
            elif label == "c":
                with contextlib.suppress(compiling.CompilerError):
                    commands[label] = c_command(path, folder)
        seconds = {label: [] for label in commands}
        for _ in range(rounds):
            for label, words in commands.items():
                seconds[label].append(run(words)[0])
    return {label: statistics.median(found) for label, found in seconds.items()}
