"""How soon does a process answer that only runs a ticket, and in what memory?

    python benchmarks/runtime_start.py --rounds=5 --warmup=1

Processes that import one engine, load a file and answer once, in turn: seconds
from the start of the process, and of them those of importing (with NumPy), of
loading and of answering. Megabytes are what the process holds in memory
(`VmRSS`, libraries included) beyond one that imports NumPy alone, after each
part, and the most that it ever held (`VmHWM`); `packed MB` are the weights as
the runtime packs them and its arena.
"""

import pathlib
import statistics
import tempfile

import harness
import networks
import numpy as np
from absl import app, flags, logging

import mpt_keras as mpt
from mpt_keras.engines import first_answer
from mpt_keras.engines.inputs import model_inputs, random_arrays
from mpt_keras.engines.litert import LiteRT
from mpt_keras.engines.onnx import ONNX
from mpt_keras.runtime import load

FLAGS = flags.FLAGS
flags.DEFINE_list(
    "networks",
    [
        *("vgg_small:1/1:75", "resnet18:1/1:75"),
        *("conv4:1/32:80", "resnet18:1/32:80"),
    ],
    "Tickets, NETWORK:BITS:PERCENT.",
)
flags.DEFINE_float("width", 1.0, "Multiplier of every layer's width.")
flags.DEFINE_list(
    "beside", ["keras", "litert", "onnx"], "Engines beside the runtime."
)
_NUMPY = "NumPy alone"
_PROGRAMS = {
    **first_answer.PROGRAMS,
    _NUMPY: first_answer.Program("import numpy", "", ""),
}
_HEAD = """
import time
def probe():
    with open("/proc/self/status") as file:
        found = dict(line.split(":", 1) for line in file)
    sizes = (int(found[key].split()[0]) for key in ("VmRSS", "VmHWM"))
    print(time.perf_counter(), *sizes)
probe()
"""


def write(model, folder):
    """Engine -> file."""
    frozen = mpt.freeze(model) if mpt.masked_layers(model) else model
    writers = {
        "keras": ("frozen.keras", frozen.save),
        "litert": ("float.tflite", lambda path: LiteRT().write(frozen, path)),
        "onnx": ("ticket.onnx", lambda path: ONNX().write(frozen, path)),
        "runtime": (
            "network.ticket",
            lambda path: mpt.save_ticket(model, path),
        ),
    }
    files = {}
    for engine in (*FLAGS.beside, "runtime"):
        name, write_to = writers[engine]
        files[engine] = folder / name
        write_to(files[engine])
    return files


def start(name, path, inputs, names):
    """Seconds until the answer, and seconds and kB at the four probes."""
    words = first_answer.command(
        _PROGRAMS[name], path, inputs, names, head=_HEAD, probe="probe()"
    )
    seconds, lines = first_answer.run(words)
    return seconds, np.array([line.split() for line in lines], float)


def rows_of(what):
    model = networks.ticket(what, FLAGS.width)
    sources = model_inputs(model)
    names = [source.name for source in sources]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        files = {**write(model, folder), _NUMPY: folder}
        inputs = folder / "inputs.npz"
        first_answer.write_inputs(inputs, random_arrays(sources, 1))
        found = {name: [] for name in files}
        harness.in_turn(
            {
                name: lambda name=name, path=path: found[name].append(
                    start(name, path, inputs, names)
                )
                for name, path in files.items()
            }
        )
        network = load(files["runtime"])
        packed = network.weight_bytes + network.arena_bytes
    medians = {
        name: (
            statistics.median(seconds for seconds, _ in runs),
            np.median([probes for _, probes in runs], axis=0),
        )
        for name, runs in (
            (name, runs[FLAGS.warmup :]) for name, runs in found.items()
        )
    }
    base = 1024 * medians[_NUMPY][1][1, 1]
    rows = []
    for name, (seconds, probes) in medians.items():
        begin, imported, loaded, answered = probes[:, 0]
        held = 1024 * probes[:, 1] - base
        rows.append(
            {
                "network": what,
                "what": name,
                "first answer s": seconds,
                "import s": imported - begin,
                "load s": loaded - imported,
                "answer s": answered - loaded,
                "imported MB": held[1] / 1e6,
                "loaded MB": held[2] / 1e6,
                "answered MB": held[3] / 1e6,
                "most MB": (1024 * probes[3, 2] - base) / 1e6,
                "packed MB": packed / 1e6 if name == "runtime" else "",
            }
        )
    return rows


def main(_):
    logging.set_verbosity(logging.WARNING)  # TensorFlow tells what it writes
    rows = [row for what in FLAGS.networks for row in rows_of(what)]
    harness.report("New processes, up to their first answer", rows)


if __name__ == "__main__":
    app.run(main)
