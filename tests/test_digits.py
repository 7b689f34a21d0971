"""The defaults work: real images, nothing but `compile("adam")`."""

import keras
import numpy as np
import pytest
from backend import as_numpy

import mpt_keras as mpt

datasets = pytest.importorskip("sklearn.datasets")


def digits():
    """A random fifth is held out; the last 297 (other writers) are harder."""
    bunch = datasets.load_digits()
    images = (bunch.images[..., None] / 16).astype("float32")
    order = np.random.default_rng(0).permutation(len(images))
    train, test = order[:1437], order[1437:]
    return (
        (images[train], bunch.target[train]),
        (images[test], bunch.target[test]),
    )


def convnet(binary_activations):
    if binary_activations:
        between = [keras.layers.BatchNormalization, mpt.quantizers.ApproxSign]
    else:
        between = [keras.layers.ReLU]
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            mpt.MPTConv2D(32, 3, padding="same"),
            *(make() for make in between),
            mpt.MPTConv2D(64, 3, padding="same"),
            keras.layers.MaxPooling2D(),
            *(make() for make in between),
            keras.layers.Flatten(),
            mpt.MPTDense(128),
            *(make() for make in between),
            mpt.MPTDense(10),
        ]
    )


def train(binary_activations, epochs=20):
    keras.utils.set_random_seed(0)
    train, test = digits()
    model = convnet(binary_activations)
    model.compile(
        "adam",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(*train, epochs=epochs, verbose=0)
    _, accuracy = model.evaluate(*test, verbose=0)
    return model, accuracy


@pytest.mark.parametrize(
    ("binary_activations", "expected"), [(False, 0.98), (True, 0.96)]
)
def test_the_defaults_reach_their_accuracy(binary_activations, expected):
    model, accuracy = train(binary_activations)
    assert accuracy >= expected
    frozen = mpt.freeze(model)
    images = digits()[1][0]
    np.testing.assert_array_equal(
        frozen.predict(images, verbose=0), model.predict(images, verbose=0)
    )


def test_two_runs_of_one_seed_find_the_same_masks():
    first, second = (
        [
            as_numpy(layer.mask())
            for layer in mpt.masked_layers(train(True, epochs=1)[0])
        ]
        for _ in range(2)
    )
    for ours, theirs in zip(first, second, strict=True):
        np.testing.assert_array_equal(ours, theirs)
