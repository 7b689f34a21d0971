"""How long does exact selection take, against sorting?

python benchmarks/selection.py
"""

import statistics

import harness
import numpy as np
import tensorflow as tf
from absl import app, flags

from mpt_keras import threshold
from mpt_keras.sparsity import pruned_count

FLAGS = flags.FLAGS
flags.DEFINE_list(
    "sizes",
    ["1000", "10000", "100000", "1000000", "2359296", "10000000"],
    "Numbers of scores.",
)
flags.DEFINE_float("sparsity", 0.5, "Fraction of weights pruned.")


flags.DEFINE_enum(
    "scores", "uniform", ["uniform", "normal"], "How the scores are drawn."
)


def candidates(size):
    rng = np.random.default_rng(0)
    drawn = {
        "uniform": lambda: rng.uniform(-1, 1, size),
        "normal": lambda: rng.standard_normal(size),
    }
    array = drawn[FLAGS.scores]().astype("float32")
    scores = tf.constant(array)
    pruned = pruned_count(FLAGS.sparsity, size)
    kept = tf.constant(size - pruned, tf.int32)

    def compiled(function, **options):
        graph = tf.function(function, autograph=False, **options)
        return lambda: tf.nest.map_structure(np.asarray, graph(scores, kept))

    return {
        "selection": compiled(_key),
        "selection in XLA": compiled(_key, jit_compile=True),
        "tf.sort": compiled(lambda s, k: tf.sort(tf.abs(s))[-k]),
        "tf.math.top_k": compiled(
            lambda s, k: tf.math.top_k(tf.abs(s), k, sorted=False)[0][-1]
        ),
        "numpy.partition": lambda: np.partition(np.abs(array), pruned)[pruned],
    }


def _key(scores, kept):
    key, *_ = threshold.fused_threshold(threshold.as_bits(scores), kept)
    return key


def main(_):
    rows = []
    for size in map(int, FLAGS.sizes):
        times = harness.in_turn(candidates(size))
        rows.append(
            {
                "scores": size,
                **{
                    f"{name} ms": statistics.median(ms)
                    for name, ms in times.items()
                },
                "sort / selection": harness.ratio(
                    times, "tf.sort", "selection"
                ),
                "XLA / plain": harness.ratio(
                    times, "selection in XLA", "selection"
                ),
            }
        )
    harness.report("The k-th largest of n float32 scores", rows)


if __name__ == "__main__":
    app.run(main)
