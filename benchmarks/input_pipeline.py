"""How many images a second does the experiments' input pipeline deliver?

    python benchmarks/input_pipeline.py

Against what one training step of Conv-4 takes on the same machine, in turn.
"""

import itertools
import statistics

import harness
import keras
import networks
import numpy as np
from absl import app, flags

from mpt_keras.experiments.data.batches import Batches
from mpt_keras.experiments.data.in_memory import ImageData

FLAGS = flags.FLAGS
flags.DEFINE_integer("batch_size", 128, "Images per batch.")
flags.DEFINE_integer("batches", 2000, "Batches drawn per round.")


def batches_of(augment):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (50_000, 32, 32, 3)).astype("uint8")
    labels = rng.integers(0, 10, 50_000)
    data = ImageData(
        name="random",
        train_images=pixels,
        train_labels=labels,
        test_images=pixels,
        test_labels=labels,
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        classes=10,
    )
    batches = Batches(data, FLAGS.batch_size, seed=0, augment=augment)
    batches = iter(batches.from_epoch(0))

    def draw():
        for _ in itertools.islice(batches, FLAGS.batches):
            pass

    return draw


def training_step():
    model = networks.build("conv4", masked=True)
    model.compile(
        "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    rng = np.random.default_rng(0)
    images = rng.standard_normal((FLAGS.batch_size, 32, 32, 3), "float32")
    labels = rng.integers(0, 10, FLAGS.batch_size)
    return lambda: model.train_on_batch(images, labels)


def main(_):
    times = harness.in_turn(
        {
            "pipeline, crop and flip": batches_of(augment=True),
            "pipeline, order alone": batches_of(augment=False),
            "Conv-4 training step": training_step(),
        }
    )
    rates = {
        name: 1e3
        * FLAGS.batch_size
        * (FLAGS.batches if "pipeline" in name else 1)
        / statistics.median(ms)
        for name, ms in times.items()
    }
    consumed = rates["Conv-4 training step"]
    harness.report(
        "Images per second",
        [
            {
                "what": name,
                "images per second": rate,
                "against training": rate / consumed,
            }
            for name, rate in rates.items()
        ],
    )


if __name__ == "__main__":
    app.run(main)
