"""How much memory does drawing a large kernel take beyond the kernel?

    python benchmarks/drawing.py --rounds=3 --warmup=0

A new process makes a `keras.Variable` by the initializer. The most that it
ever held (`VmHWM`, which Linux resets on demand) beyond what it held before,
less the kernel itself. A small variable is drawn before, so that libraries and
tables are there.
"""

import json
import math
import pathlib
import statistics
import time

import harness
import keras
from absl import app, flags

import mpt_keras as mpt

FLAGS = flags.FLAGS
flags.DEFINE_integer("weights", 10**8, "About how many, in a square.")
flags.DEFINE_list(
    "initializers",
    ["KaimingNormal", "SignedConstant", "KaimingUniform"],
    "Of mpt_keras.initializers.",
)
flags.DEFINE_string("measure", None, "Measures this, in this process alone.")


def kilobytes(what):
    status = pathlib.Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith(what))
    return int(line.split()[1])


def drawn_in_this_process():
    initializer = getattr(mpt.initializers, FLAGS.measure)(seed=0)
    keras.Variable(initializer, (100, 100), "float32")
    side = math.isqrt(FLAGS.weights)
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # VmHWM is VmRSS
    before = kilobytes("VmRSS")
    start = time.perf_counter()
    keras.Variable(initializer, (side, side), "float32")
    seconds = time.perf_counter() - start
    most = 1024 * (kilobytes("VmHWM") - before)
    return {
        "bytes": most / side**2 - 4,
        "MB": most / 1e6,
        "seconds": seconds,
    }


def main(_):
    if FLAGS.measure:
        print(json.dumps(drawn_in_this_process()))
        return
    found = {name: [] for name in FLAGS.initializers}
    harness.in_turn(
        {
            name: lambda name=name: found[name].append(
                harness.in_new_process(f"--measure={name}")
            )
            for name in found
        }
    )
    rows = []
    for name, runs in found.items():
        medians = {
            key: statistics.median(run[key] for run in runs[FLAGS.warmup :])
            for key in runs[0]
        }
        rows.append(
            {
                "what": name,
                "bytes a weight beyond the kernel": medians["bytes"],
                "most MB": medians["MB"],
                "s": medians["seconds"],
                "ns per weight": 1e9 * medians["seconds"] / FLAGS.weights,
            }
        )
    harness.report(f"Drawing {FLAGS.weights:,} weights, each of 4 bytes", rows)


if __name__ == "__main__":
    app.run(main)
