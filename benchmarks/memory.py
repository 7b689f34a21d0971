"""How much memory does training with masked layers take beyond plain ones?

    python benchmarks/memory.py --network=resnet18 --batch_size=32

The most bytes that TensorFlow's allocator has lent to tensors at one moment of
a training step, from the allocations in a profile of the step, and the bytes
of the model's and the optimizer's variables.
"""

import math
import pathlib
import statistics
import tempfile

import harness
import keras
import networks
import numpy as np
import tensorflow as tf
from absl import app, flags
from tensorflow.tsl.profiler.protobuf import xplane_pb2

FLAGS = flags.FLAGS
flags.DEFINE_enum("network", "conv4", networks.NAMES, "Network.")
flags.DEFINE_integer("batch_size", 128, "Images per step.")


def memory_of_training(masked):
    """Bytes of the variables, and the most bytes lent in a step."""
    model = networks.build(FLAGS.network, masked)
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    rng = np.random.default_rng(0)
    shape = (FLAGS.batch_size, *model.input_shape[1:])
    images = rng.standard_normal(shape, "float32")
    labels = rng.integers(0, 10, FLAGS.batch_size)

    def step():
        model.train_on_batch(images, labels)

    for _ in range(FLAGS.warmup):
        step()
    peaks = [most_lent(allocations(step)) for _ in range(FLAGS.rounds)]
    variables = model.variables + model.optimizer.variables
    return bytes_of(variables), statistics.median(peaks)


def bytes_of(variables):
    return sum(
        math.prod(variable.shape) * np.dtype(variable.dtype).itemsize
        for variable in variables
    )


def allocations(step):
    """(address, bytes) in the order of time; no bytes where it is freed."""
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            step()
        (file,) = pathlib.Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(file.read_bytes())
    found = []
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                if name in ("MemoryAllocation", "MemoryDeallocation"):
                    when = 1000 * line.timestamp_ns + event.offset_ps
                    facts = statistics_of(event, plane)
                    size = facts["requested_bytes"]
                    freed = name == "MemoryDeallocation"
                    found.append((when, facts["addr"], 0 if freed else size))
    return [(address, size) for _, address, size in sorted(found)]


def statistics_of(event, plane):
    return {
        plane.stat_metadata[stat.metadata_id].name: getattr(
            stat, stat.WhichOneof("value")
        )
        for stat in event.stats
    }


def most_lent(allocated):
    lent, now, most = {}, 0, 0
    for address, size in allocated:
        now += size - lent.pop(address, 0)
        if size:
            lent[address] = size
        most = max(most, now)
    return most


def main(_):
    kernels = 4 * networks.weights(networks.build(FLAGS.network, masked=True))
    measured = {
        "plain": memory_of_training(masked=False),
        "masked": memory_of_training(masked=True),
    }
    plain_peak = measured["plain"][1]
    rows = []
    for name, (variables, peak) in measured.items():
        rows.append(
            {
                "what": name,
                "variables MB": variables / 1e6,
                "most lent in a step MB": peak / 1e6,
                "variables, in kernels": variables / kernels,
                "lent beyond plain, in kernels": (peak - plain_peak) / kernels,
            }
        )
    harness.report(
        f"Memory of training, {FLAGS.network}, batch {FLAGS.batch_size}; "
        f"all kernels together {kernels / 1e6:.1f} MB",
        rows,
    )


if __name__ == "__main__":
    app.run(main)
