"""What a TPU asks of a training step: XLA compiles it, all shapes static.

No TPU was at hand, so this stands for it: the whole step of every network,
with loss and optimizer, as one XLA computation on the processor.
"""

import re

import keras
import numpy as np
import pytest
from backend import needs_tensorflow, tf

import mpt_keras as mpt

VARIANTS = [
    ("conv2", {}),
    (
        "residual_net",
        {
            "blocks": (1, 1),
            "widths": (64, 128),
            "bottleneck": True,
            "imagenet_stem": True,
            "binary_activations": True,
        },
    ),
]
# Compiling takes long.
SLOW_VARIANTS = [
    ("conv2", {"binarize": False}),
    ("conv2", {"binary_activations": True, "trained_batch_norm": True}),
    ("conv2", {"masked": False}),
    ("conv4", {}),
    ("conv4", {"binary_activations": True, "trained_batch_norm": True}),
    ("conv6", {}),
    ("conv8", {}),
    ("vgg_small", {}),
    ("resnet20", {}),
    ("residual_net", {"blocks": (1, 1), "widths": (64, 128)}),
]


@needs_tensorflow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        *VARIANTS,
        *(pytest.param(*v, marks=pytest.mark.slow) for v in SLOW_VARIANTS),
    ],
)
def test_the_whole_step_is_one_static_computation(name, options, rng):
    model = getattr(mpt.models, name)(width=0.07, seed=1, **options)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss)
    model.optimizer.build(model.trainable_variables)
    images = tf.constant(rng.standard_normal((4, 32, 32, 3)), tf.float32)
    labels = tf.constant(rng.integers(0, 10, 4))

    @tf.function(jit_compile=True)
    def step(images, labels):
        before = model(images, training=False)
        model.train_step((images, labels))
        return before, model(images, training=False)

    described = step.experimental_get_compiler_ir(images, labels)
    text = described(stage="hlo")
    assert "convolution" in text
    assert not re.search(r"\[[^\]]*<=", text), "a dynamic dimension"
    assert "custom-call" not in text, "a call out of the computation"
    expected = model(images, training=False)
    before, after = step(images, labels)
    if not options.get("binary_activations"):
        # Sums of +-1 are often 0, and rounding then decides their sign.
        np.testing.assert_allclose(before, expected, rtol=1e-3, atol=1e-4)
    assert np.isfinite(after).all()
    assert (after != before).numpy().any()
