"""How does the cost of masking grow with the weights and with the layers?

    python benchmarks/scaling.py

One selection, masking and gradient of every layer, without the convolutions
that hide it: first one layer of n weights, then many layers of 262,144.
"""

import math
import statistics

import harness
import numpy as np
import tensorflow as tf
from absl import app, flags

from mpt_keras import masking

FLAGS = flags.FLAGS
flags.DEFINE_list(
    "sizes",
    ["10000", "100000", "1000000", "2359296", "10000000"],
    "Weights of the one layer.",
)
flags.DEFINE_list("depths", ["1", "4", "16", "64"], "Numbers of layers.")


def masking_of(layers):
    """A compiled function that masks layers of these sizes, and its weights."""
    rng = np.random.default_rng(0)
    kernels, scores, gradients = (
        [
            tf.Variable(rng.uniform(-1, 1, size).astype("float32"))
            for size in layers
        ]
        for _ in range(3)
    )
    halves = [tf.constant(size // 2) for size in layers]

    @tf.function(autograph=False)
    def step():
        ends = []
        for s, w, g, kept in zip(
            scores, kernels, gradients, halves, strict=True
        ):
            with tf.GradientTape() as tape:
                value = s.read_value()
                tape.watch(value)
                output = masking.masked_kernel(value, w.read_value(), kept)
            ends += [output[0], tape.gradient(output, value, g)[0]]
        return tf.add_n(ends)

    return lambda: step().numpy()


def main(_):
    settings = [[int(size)] for size in FLAGS.sizes]
    settings += [[2**18] * int(depth) for depth in FLAGS.depths]
    times = harness.in_turn(
        {str(number): masking_of(s) for number, s in enumerate(settings)}
    )
    rows = []
    for layers, ms in zip(settings, times.values(), strict=True):
        median = statistics.median(ms)
        rows.append(
            {
                "layers": len(layers),
                "weights": sum(layers),
                "ms": median,
                "ns per weight": 1e6 * median / sum(layers),
            }
        )
    logs = [
        [math.log(row[key]) for row in rows if row["weights"] >= 10**6]
        for key in ("weights", "ms")
    ]
    exponent = float(np.polyfit(*logs, 1)[0])
    harness.report(
        f"Masking; from a million weights on, ms grow as n^{exponent:.2f}", rows
    )


if __name__ == "__main__":
    app.run(main)
