"""Weights of a twin: dense to masked and back."""

import keras
import numpy as np
import pytest
from backend import as_numpy

import mpt_keras as mpt


def network(masked, bias=False, units=3):
    conv, dense = (
        (mpt.MPTConv2D, mpt.MPTDense)
        if masked
        else (keras.layers.Conv2D, keras.layers.Dense)
    )
    separable = (
        mpt.MPTSeparableConv2D if masked else keras.layers.SeparableConv2D
    )
    inner = keras.Sequential(
        [
            keras.Input((8, 8, 4)),
            separable(5, 3, use_bias=False),
            keras.layers.BatchNormalization(),
        ]
    )
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            conv(4, 3, padding="same", use_bias=bias),
            inner,
            keras.layers.Flatten(),
            dense(units, use_bias=True, bias_initializer="ones"),
        ]
    )


def train(model, rng):
    model.compile("adam", "mse")
    x, y = rng.standard_normal((8, 8, 8, 2)), rng.standard_normal((8, 3))
    model.fit(x, y, verbose=0)


def test_a_dense_twin_goes_into_a_masked_network_and_back(rng):
    dense, masked, back = network(False), network(True), network(False)
    train(dense, rng)
    scores = [as_numpy(x.scores) for x in masked.layers if hasattr(x, "scores")]
    mpt.transfer_weights(dense, masked)
    for layer in mpt.masked_layers(masked):
        layer.sparsity = 0.0
        layer.binarize = False
    for ours, theirs in zip(
        [x.scores for x in masked.layers if hasattr(x, "scores")],
        scores,
        strict=True,
    ):
        np.testing.assert_array_equal(as_numpy(ours), theirs)
    np.testing.assert_array_equal(
        as_numpy(masked.layers[0].kernel), as_numpy(dense.layers[0].kernel)
    )
    mpt.transfer_weights(masked, back)
    for ours, theirs in zip(back.weights, dense.weights, strict=True):
        np.testing.assert_array_equal(as_numpy(ours), as_numpy(theirs))


def test_the_papers_networks_are_twins():
    options = {"width": 0.1, "trained_batch_norm": True}
    dense = mpt.models.resnet20(masked=False, seed=0, **options)
    masked = mpt.models.resnet20(seed=1, **options)
    mpt.transfer_weights(dense, masked)
    x = np.ones((2, 32, 32, 3), "float32")
    for layer in mpt.masked_layers(masked):
        for kernel in layer.masked_kernels:
            kernel.binarize = False
        layer.sparsity = 0.0
    np.testing.assert_allclose(
        *(as_numpy(model(x)) for model in (masked, dense)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("twin", "message"),
    [
        (lambda: network(True, units=4), r"\(\(?.*3\).*4\)"),
        (
            lambda: keras.Sequential([keras.Input((2,)), mpt.MPTDense(2)]),
            "4 layers that have weights, .* with 1",
        ),
    ],
)
def test_other_networks_are_refused(twin, message):
    target = twin()
    before = [as_numpy(weight) for weight in target.weights]
    with pytest.raises(ValueError, match=message):
        mpt.transfer_weights(network(False), target)
    for ours, theirs in zip(target.weights, before, strict=True):
        np.testing.assert_array_equal(as_numpy(ours), theirs)


def test_a_bias_without_a_place(rng):
    dense, masked = network(False, bias=True), network(True)
    mpt.transfer_weights(dense, masked)  # it is 0
    dense.layers[0].bias.assign(np.ones(4))
    with pytest.raises(ValueError, match="Build the target with use_bias=True"):
        mpt.transfer_weights(dense, masked)


def test_what_is_derived_from_weights_follows_them(rng):
    x = rng.normal(100, 5, (64, 8)).astype("float32")

    def network():
        return keras.Sequential(
            [
                keras.Input((8,)),
                keras.layers.Normalization(),
                keras.layers.Dense(4, use_bias=False),
            ]
        )

    source, target = network(), network()
    source.layers[0].adapt(x)
    mpt.transfer_weights(source, target)
    np.testing.assert_array_equal(
        *(model.predict_on_batch(x) for model in (source, target))
    )


class Scale(keras.layers.Layer):
    """Its weight has no name of its own."""

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(input_shape[-1],))

    def call(self, inputs):
        return inputs * self.scale


def test_weights_without_names():
    source, target = (
        keras.Sequential([keras.Input((8,)), Scale(), layer])
        for layer in (
            keras.layers.Dense(4, use_bias=False),
            mpt.MPTDense(4),
        )
    )
    mpt.transfer_weights(source, target)
    np.testing.assert_array_equal(
        *(as_numpy(model.layers[0].scale) for model in (source, target))
    )
