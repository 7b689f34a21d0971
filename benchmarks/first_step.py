"""How long is the first training step of a masked network beyond a plain one?

    python benchmarks/first_step.py --network=resnet18 --batch_size=32
    python benchmarks/first_step.py --network=mobilenet_v2 --batch_size=32

The first step traces the model, compiles and runs once. Plain, masked and
masked without XLA (`MPT_KERAS_XLA=0`) take it in turn, each time in a new
process, whose start and whose building of the model are not counted. The
network, its optimizer and the flags are those of `training_step.py`. Tracing
is the part of the first step that Python spends in the model's `train_step`.
"""

import json
import statistics
import time
from unittest import mock

import harness
import keras
import training_step
from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_bool("without_xla", True, "Whether to measure that as well.")
flags.DEFINE_enum(
    "measure",
    None,
    ["plain", "masked"],
    "Measures this, in this process alone.",
)

_PLAIN, _MASKED, _WITHOUT_XLA = "plain", "masked", "masked without XLA"


def seconds_of_this_process():
    keras.config.set_dtype_policy(FLAGS.policy)
    train_step = keras.Model.train_step
    tracing = []

    def timed(*args, **kwargs):
        start = time.perf_counter()
        result = train_step(*args, **kwargs)
        tracing.append(time.perf_counter() - start)
        return result

    with mock.patch.object(keras.Model, "train_step", timed):
        step, first = training_step.one_step(masked=FLAGS.measure == "masked")
    start = time.perf_counter()
    step()
    return {
        "first": first,
        "tracing": sum(tracing),
        "second": time.perf_counter() - start,
    }


def main(_):
    if FLAGS.measure:
        print(json.dumps(seconds_of_this_process()))
        return
    processes = {
        _PLAIN: lambda: harness.in_new_process("--measure=plain"),
        _MASKED: lambda: harness.in_new_process("--measure=masked"),
    }
    if FLAGS.without_xla:
        processes[_WITHOUT_XLA] = lambda: harness.in_new_process(
            "--measure=masked", MPT_KERAS_XLA="0"
        )
    found = {name: [] for name in processes}
    harness.in_turn(
        {
            name: lambda name=name, run=run: found[name].append(run())
            for name, run in processes.items()
        }
    )
    seconds = {
        name: {
            part: [run[part] for run in runs[FLAGS.warmup :]]
            for part in ("first", "tracing", "second")
        }
        for name, runs in found.items()
    }
    rows = []
    for name, parts in seconds.items():
        pairs = zip(parts["first"], seconds[_PLAIN]["first"], strict=True)
        rows.append(
            {
                "what": name,
                "first step s": statistics.median(parts["first"]),
                "beyond plain s": statistics.median(
                    ours - plain for ours, plain in pairs
                ),
                "against plain": harness.ratio(
                    {name: parts["first"] for name, parts in seconds.items()},
                    name,
                    _PLAIN,
                ),
                "tracing s": statistics.median(parts["tracing"]),
                "second step s": statistics.median(parts["second"]),
            }
        )
    harness.report(
        f"The first training step, {FLAGS.network}, batch {FLAGS.batch_size}",
        rows,
    )


if __name__ == "__main__":
    app.run(main)
