"""With and without XLA, the library computes the same."""

import runpy

import keras
import numpy as np
import pytest
from backend import as_numpy, needs_tensorflow, value_and_gradients

import mpt_keras as mpt


def network(binarize):
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            mpt.MPTConv2D(9, 3, seed=0, sparsity=0.7, binarize=binarize),
            keras.layers.ReLU(),
            keras.layers.Flatten(),
            mpt.MPTDense(4, seed=1, sparsity=0.29, binarize=binarize),
        ]
    )


def in_one_step(binarize, rng):
    """Outputs, gradients and what a step under one threshold leaves."""
    images = rng.standard_normal((16, 8, 8, 3)).astype("float32")
    upstream = rng.standard_normal((16, 4)).astype("float32")
    model = network(binarize)
    outputs = model.predict(images, verbose=0)
    _, gradients = value_and_gradients(
        lambda: model(images), model.trainable_variables, upstream
    )
    model.compile("sgd", "mse", jit_compile=False)
    model.fit(
        *(images, upstream),
        verbose=0,
        callbacks=[mpt.callbacks.GlobalSparsity(0.8)],
    )
    layers = mpt.masked_layers(model)
    return {
        "outputs": outputs,
        "kept": [int(layer.masked_kernels[0].kept()) for layer in layers],
        "masks": [as_numpy(layer.mask()) for layer in layers],
        "near": [*gradients, *(as_numpy(layer.scores) for layer in layers)],
    }


@needs_tensorflow
@pytest.mark.parametrize("binarize", [True, False])
def test_xla_changes_rounding_alone(binarize, xla):
    found = {}
    for way in (mpt.config.enable_xla, mpt.config.disable_xla):
        way()
        rng = np.random.default_rng(0)
        found[mpt.config.is_xla_enabled()] = in_one_step(binarize, rng)
    plain, compiled = found[False], found[True]
    assert plain["kept"] == compiled["kept"]
    assert sum(plain["kept"]) < 0.21 * (243 + 1296)
    for ours, theirs in zip(plain["masks"], compiled["masks"], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(
        [plain["outputs"], *plain["near"]],
        [compiled["outputs"], *compiled["near"]],
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("value", "enabled"), [(None, True), ("1", True), ("0", False)]
)
def test_the_environment_decides_at_the_beginning(value, enabled, monkeypatch):
    monkeypatch.delenv("MPT_KERAS_XLA", raising=False)
    if value is not None:
        monkeypatch.setenv("MPT_KERAS_XLA", value)
    fresh = runpy.run_path(mpt.config.__file__)
    assert fresh["is_xla_enabled"]() is enabled
