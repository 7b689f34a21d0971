"""What do masked and frozen models cost in prediction, beyond a plain one?

    python benchmarks/inference.py --network=conv4 --batch_size=128

By `predict_on_batch`, which runs the function that `predict` compiles. The
time of `predict` itself comes in steps of some hundred milliseconds, whatever
the model: it waits for its data pipeline.
"""

import functools
import statistics

import harness
import networks
import numpy as np
from absl import app, flags

import mpt_keras as mpt

FLAGS = flags.FLAGS
flags.DEFINE_enum("network", "conv4", networks.NAMES, "Network.")
flags.DEFINE_integer("batch_size", 128, "Images per batch.")
flags.DEFINE_integer("batches", 4, "Batches per round.")


def main(_):
    plain = networks.build(FLAGS.network, masked=False)
    masked = networks.build(FLAGS.network, masked=True)
    models = {"plain": plain, "masked": masked, "frozen": mpt.freeze(masked)}
    images = np.random.default_rng(0).standard_normal(
        (FLAGS.batch_size, *plain.input_shape[1:]), "float32"
    )

    def predict(model):
        for _ in range(FLAGS.batches):
            model.predict_on_batch(images)

    times = harness.in_turn(
        {
            name: functools.partial(predict, model)
            for name, model in models.items()
        }
    )
    rows = []
    for name in times:
        ms = statistics.median(times[name]) / FLAGS.batches
        rows.append(
            {
                "what": name,
                "ms per batch": ms,
                "images per second": 1e3 * FLAGS.batch_size / ms,
                "against plain": harness.ratio(times, name, "plain"),
            }
        )
    harness.report(
        f"Prediction, {FLAGS.network}, batch {FLAGS.batch_size}", rows
    )


if __name__ == "__main__":
    app.run(main)
