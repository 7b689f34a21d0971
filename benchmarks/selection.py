"""How long does exact selection take, against sorting?

python benchmarks/selection.py
"""

import harness
import numpy as np
import tensorflow as tf
from absl import app, flags

from mpt_keras import selection

FLAGS = flags.FLAGS
flags.DEFINE_list(
    "sizes",
    ["1000", "10000", "100000", "1000000", "2359296", "10000000"],
    "Numbers of scores.",
)
flags.DEFINE_float("sparsity", 0.5, "Fraction of weights pruned.")


def candidates(size):
    rng = np.random.default_rng(0)
    array = rng.uniform(-1, 1, size).astype("float32")
    scores = tf.constant(array)
    pruned = selection.pruned_count(FLAGS.sparsity, size)
    kept = tf.constant(size - pruned, tf.int32)

    def compiled(function, **options):
        graph = tf.function(function, **options)
        return lambda: tf.nest.map_structure(np.asarray, graph(scores, kept))

    def threshold(s, k):
        return selection.threshold([s], k)

    return {
        "selection": compiled(threshold),
        "selection, XLA": compiled(threshold, jit_compile=True),
        "mask": compiled(lambda s, k: selection.top_mask(s, k)[:1]),
        "tf.sort": compiled(lambda s, k: tf.sort(tf.abs(s))[-k]),
        "tf.math.top_k": compiled(
            lambda s, k: tf.math.top_k(tf.abs(s), k, sorted=False)[0][-1]
        ),
        "numpy.partition": lambda: np.partition(np.abs(array), pruned)[pruned],
    }


def main(_):
    rows = []
    for size in map(int, FLAGS.sizes):
        times = harness.in_turn(candidates(size))
        rows.append(
            {
                "scores": size,
                **{f"{name} ms": ms for name, ms in times.items()},
                "sort / selection": times["tf.sort"] / times["selection"],
                "XLA / plain": times["selection, XLA"] / times["selection"],
            }
        )
    harness.report("The k-th largest of n float32 scores", rows)


if __name__ == "__main__":
    app.run(main)
