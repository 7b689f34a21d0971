"""Trains a small network on one and on two devices of JAX.

    XLA_FLAGS=--xla_force_host_platform_device_count=2 KERAS_BACKEND=jax \\
        python tests/two_devices.py found.npz

writes the losses and the masks of each run.
"""

import sys

import every_layer
import keras
import numpy as np

import mpt_keras as mpt

CALLBACKS = {
    "schedule": lambda: [
        mpt.callbacks.SparsitySchedule(lambda step: step / 100, per="step")
    ],
    "global": lambda: [mpt.callbacks.GlobalSparsity(0.7)],
}


def train(devices, callbacks):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            mpt.MPTConv2D(8, 3, activation="relu", seed=0),
            mpt.MPTSeparableConv2D(8, 3, activation="relu", seed=1),
            keras.layers.Flatten(),
            mpt.MPTDense(3, seed=2),
        ]
    )
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 96)
    images = rng.standard_normal((96, 8, 8, 3)) + labels[:, None, None, None]
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    scores = mpt.masked_layers(model)[0].scores
    assert len(scores.value.devices()) == devices
    losses = model.fit(
        images.astype("float32"),
        labels,
        batch_size=32,
        epochs=5,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    ).history["loss"]
    kernels = every_layer.masked_kernels(model).values()
    masks = {f"{i}": masked.mask() for i, masked in enumerate(kernels)}
    return {"losses": losses, **masks}


def main(path):
    devices = keras.distribution.list_devices("cpu")
    assert len(devices) == 2
    found = {}
    parallel = keras.distribution.DataParallel(devices=devices)
    for count, distribution in ((1, None), (2, parallel)):
        keras.distribution.set_distribution(distribution)
        for name, callbacks in CALLBACKS.items():
            for key, value in train(count, callbacks()).items():
                found[f"{name}/{count}/{key}"] = value
    np.savez(path, **found)


if __name__ == "__main__":
    main(sys.argv[1])
