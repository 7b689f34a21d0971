"""What do masked and frozen models cost in `predict`, beyond a plain one?

python benchmarks/inference.py --network=conv4 --batch_size=128
"""

import statistics

import harness
import networks
import numpy as np
from absl import app, flags

import mpt_keras as mpt

FLAGS = flags.FLAGS
flags.DEFINE_enum(
    "network", "conv4", ["conv4", "resnet18", "vgg_small", "dense"], "Network."
)
flags.DEFINE_integer("batch_size", 128, "Images per batch.")
flags.DEFINE_integer("batches", 16, "Batches per call of predict.")


def main(_):
    plain = networks.build(FLAGS.network, masked=False)
    masked = networks.build(FLAGS.network, masked=True)
    models = {"plain": plain, "masked": masked, "frozen": mpt.freeze(masked)}
    count = FLAGS.batch_size * FLAGS.batches
    images = np.random.default_rng(0).standard_normal(
        (count, *plain.input_shape[1:]), "float32"
    )
    times = harness.in_turn(
        {
            name: lambda model=model: model.predict(
                images, batch_size=FLAGS.batch_size, verbose=0
            )
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
    harness.report(f"predict, {FLAGS.network}, batch {FLAGS.batch_size}", rows)


if __name__ == "__main__":
    app.run(main)
