"""What does an eager call of a masked model cost, beyond a frozen one?

    python benchmarks/eager_call.py --network=resnet18

`model(images)` of one image, outside any function that is compiled: what a
notebook or a debugger does. The first call of each model is apart. Another
plain network is called before, so that no model's first call starts
TensorFlow.
"""

import functools
import statistics
import time

import harness
import networks
import numpy as np
from absl import app, flags
from keras import ops

import mpt_keras as mpt

FLAGS = flags.FLAGS
flags.DEFINE_enum("network", "conv4", networks.NAMES, "Network.")
flags.DEFINE_integer("batch_size", 1, "Images per call.")


def main(_):
    masked = networks.build(FLAGS.network, masked=True)
    models = {
        "plain": networks.build(FLAGS.network, masked=False),
        "masked": masked,
        "frozen": mpt.freeze(masked),
    }
    images = np.random.default_rng(0).standard_normal(
        (FLAGS.batch_size, *masked.input_shape[1:]), "float32"
    )

    def call(model):
        ops.convert_to_numpy(model(images))

    call(networks.build(FLAGS.network, masked=False))
    first = {}
    for name, model in models.items():
        start = time.perf_counter()
        call(model)
        first[name] = time.perf_counter() - start
    times = harness.in_turn(
        {name: functools.partial(call, model) for name, model in models.items()}
    )
    rows = [
        {
            "what": name,
            "ms per call": statistics.median(times[name]),
            "against plain": harness.ratio(times, name, "plain"),
            "against frozen": harness.ratio(times, name, "frozen"),
            "first call s": first[name],
        }
        for name in times
    ]
    harness.report(
        f"Eager calls, {FLAGS.network}, batch {FLAGS.batch_size}", rows
    )


if __name__ == "__main__":
    app.run(main)
