"""What does a training step with masked layers cost beyond a plain one?

    python benchmarks/training_step.py --network=resnet18 --batch_size=32
    python benchmarks/training_step.py --network=conv4 --batch_size=128
    python benchmarks/training_step.py --batch_size=32 \\
        --network=transformer_block
    KERAS_BACKEND=jax python benchmarks/training_step.py

Plain, masked and masked under one global threshold take their steps in turn,
in one process, through Keras' own compiled training function.
"""

import statistics
import time

import harness
import keras
import networks
import numpy as np
from absl import app, flags

import mpt_keras as mpt

FLAGS = flags.FLAGS
flags.DEFINE_enum("network", "conv4", networks.NAMES, "Network.")
flags.DEFINE_integer("batch_size", 128, "Images per step.")
flags.DEFINE_bool("binary_activations", False, "Sign instead of ReLU.")
flags.DEFINE_bool("jit_compile", False, "Compile the step with XLA.")
flags.DEFINE_enum(
    "policy", "float32", ["float32", "mixed_bfloat16"], "Keras' dtype policy."
)


def one_step(masked, global_sparsity=False):
    """A function that takes one training step and waits for its end.

    And the seconds that its first call took, most of them to compile it.
    """
    model = networks.build(FLAGS.network, masked, FLAGS.binary_activations)
    decay = keras.regularizers.L2(5e-5)
    for layer in model.layers:
        for variable in layer.trainable_variables:
            variable.regularizer = decay
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        # JAX without it would dispatch operation by operation.
        jit_compile=FLAGS.jit_compile or keras.backend.backend() == "jax",
    )
    rng = np.random.default_rng(0)
    shape = (FLAGS.batch_size, *model.input_shape[1:])
    images = rng.standard_normal(shape).astype("float32")
    labels = rng.integers(0, 10, FLAGS.batch_size)
    callback = mpt.callbacks.GlobalSparsity(0.5) if global_sparsity else None
    if callback:
        callback.set_model(model)

    def step():
        if callback:
            callback.on_train_batch_begin(0)
        model.train_on_batch(images, labels)

    start = time.perf_counter()
    step()
    return step, time.perf_counter() - start


def main(_):
    keras.config.set_dtype_policy(FLAGS.policy)
    models = {
        "plain": one_step(masked=False),
        "masked": one_step(masked=True),
        "masked, global": one_step(masked=True, global_sparsity=True),
    }
    times = harness.in_turn({name: step for name, (step, _) in models.items()})
    rows = []
    for name in times:
        ms = statistics.median(times[name])
        rows.append(
            {
                "what": name,
                "ms per step": ms,
                "images per second": 1e3 * FLAGS.batch_size / ms,
                "against plain": harness.ratio(times, name, "plain"),
                "against masked": harness.ratio(times, name, "masked"),
                "first step s": models[name][1],
            }
        )
    harness.report(
        f"One training step, {FLAGS.network}, batch {FLAGS.batch_size}", rows
    )


if __name__ == "__main__":
    app.run(main)
