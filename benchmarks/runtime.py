"""How fast does the runtime answer, beside TensorFlow, LiteRT and ONNX Runtime?

    python benchmarks/runtime.py --rounds=50 --warmup=5

One image at a time, every engine with `--threads`, in turn, `--calls` images
in each turn; the runtime with each instruction set of this processor, and with
64 images at once; and the C file, compiled for this processor. Times are those
of one image. `TensorFlow` is the frozen model in a `tf.function`, without XLA.
Networks are `NETWORK:BITS:PERCENT pruned`, as `networks.ticket` takes them;
those of `magnitude` are ordinary networks that keep the values of their largest
weights.
"""

import pathlib
import statistics
import tempfile

import harness
import networks
import numpy as np
import tensorflow as tf
from absl import app, flags, logging

import mpt_keras as mpt
from mpt_keras.engines import saved_model
from mpt_keras.engines.c_file import CFile
from mpt_keras.engines.differences import differences
from mpt_keras.engines.inputs import model_inputs
from mpt_keras.engines.litert import LiteRT
from mpt_keras.engines.onnx import ONNX
from mpt_keras.runtime import load, processor

FLAGS = flags.FLAGS
flags.DEFINE_list(
    "networks",
    [
        *("vgg_small:1/1:75", "resnet18:1/1:75"),
        *("conv4:1/32:80", "conv4:1/32:95"),
        *("resnet18:1/32:80", "resnet18:1/32:95"),
        *(f"conv4:magnitude:{percent}" for percent in (90, 95, 99)),
        *(f"resnet18:magnitude:{percent}" for percent in (90, 95, 99)),
    ],
    "Tickets, NETWORK:BITS:PERCENT.",
)
flags.DEFINE_float("width", 1.0, "Multiplier of every layer's width.")
flags.DEFINE_integer("threads", 1, "Of each engine.", lower_bound=1)
flags.DEFINE_integer("calls", 5, "Images one after another, in each turn.")
flags.DEFINE_list(
    "levels",
    None,
    "Instruction sets of the runtime, the best first; by default all that "
    "this processor has.",
)
_TOGETHER = 64
_EXPORTS = {
    "LiteRT": ("float.tflite", LiteRT()),
    "LiteRT int8": ("int8.tflite", LiteRT(weights="int8")),
    "ONNX Runtime": ("ticket.onnx", ONNX()),
    "C file": ("ticket.c", CFile()),
}


def levels():
    if FLAGS.levels:
        return FLAGS.levels
    return [level for level in processor.levels() if level != "plain"]


def engines(model, folder):
    """Engine -> bytes that it loads, and function from images to logits."""
    frozen = mpt.freeze(model) if mpt.masked_layers(model) else model
    function = tf.function(frozen, jit_compile=False)
    found = {
        "TensorFlow": (
            4 * frozen.count_params(),
            lambda images: function(tf.constant(images)).numpy(),
        )
    }
    sources = model_inputs(frozen)
    for name, (file, engine) in _EXPORTS.items():
        engine.write(frozen, folder / file)
        run = engine.load(folder / file, sources, FLAGS.threads)
        found[name] = (
            engine.size(folder / file),
            lambda images, run=run: run([images])[0],
        )
    path = folder / "network.ticket"
    mpt.save_ticket(model, path)
    for level in levels():
        found[f"runtime {level}"] = (
            path.stat().st_size,
            load(path, threads=FLAGS.threads, level=level),
        )
    return found


def answer(run, images, at_once):
    for number in range(FLAGS.calls):
        first = number * at_once % len(images)
        run(images[first : first + at_once])


def rows_of(what):
    model = networks.ticket(what, FLAGS.width)
    draw = np.random.default_rng(0)
    images = draw.standard_normal(
        (_TOGETHER, *model.input_shape[1:]), "float32"
    )
    with tempfile.TemporaryDirectory() as folder:
        found = engines(model, pathlib.Path(folder))
        reference = found["TensorFlow"][1](images)
        best = f"runtime {levels()[0]}"
        together = f"{best}, {_TOGETHER} images"
        found[together] = found[best]
        at_once = {name: 1 for name in found} | {together: _TOGETHER}
        times = harness.in_turn(
            {
                name: lambda name=name, run=run: answer(
                    run, images, at_once[name]
                )
                for name, (_, run) in found.items()
            }
        )
        times = {
            name: [one / (FLAGS.calls * at_once[name]) for one in ms]
            for name, ms in times.items()
        }
        rows = []
        for name, (loaded, run) in found.items():
            ms = statistics.median(times[name])
            rows.append(
                {
                    "network": what,
                    "what": name,
                    "bytes": loaded,
                    "difference": differences(
                        [run(images)], [reference]
                    ).relative,
                    "ms": ms,
                    "images per second": 1e3 / ms,
                    "TensorFlow / this": harness.ratio(
                        times, "TensorFlow", name
                    ),
                    "this / runtime": harness.ratio(times, name, best),
                }
            )
    return rows


def main(_):
    logging.set_verbosity(logging.WARNING)  # TensorFlow tells what it writes
    if not saved_model.limit_threads(FLAGS.threads):
        print("TensorFlow began with another number of threads.")
    rows = [row for what in FLAGS.networks for row in rows_of(what)]
    harness.report(
        f"One image, threads: {FLAGS.threads}, runtime {levels()[0]}", rows
    )


if __name__ == "__main__":
    app.run(main)
