"""All backends compute the same, from one file that TensorFlow wrote.

`every_layer.py` wrote it.
"""

import os
import pathlib
import subprocess
import sys

import backend
import every_layer
import keras
import numpy as np
import oracle
import pytest


@pytest.fixture(scope="module")
def loaded():
    """The model of the file, what is in the other, and what we make of it."""
    if backend.KERAS_VERSION < (3, 15):
        pytest.skip("Keras does not load files of a later version")
    model = keras.models.load_model(every_layer.DATA / "every_layer.keras")
    expected = every_layer.read(model)
    found = every_layer.results(
        model, expected["inputs"], expected["upstreams"]
    )
    return model, expected, found


def differences(ours, theirs):
    """Name -> the largest absolute difference; the numbers are about 1."""
    assert ours.keys() == theirs.keys()
    return {name: np.abs(ours[name] - theirs[name]).max() for name in ours}


def test_outputs_agree_to_1e_5(loaded):
    model, expected, found = loaded
    assert len(found["outputs"]) == 2 * 19 + 3
    predicted = model.predict_on_batch(expected["inputs"])
    for outputs in (found["outputs"], predicted):  # eager, compiled
        found_differences = differences(outputs, expected["outputs"])
        assert max(found_differences.values()) < 1e-5, found_differences


def test_gradients_of_the_scores_agree_to_1e_4(loaded):
    _, expected, found = loaded
    assert len(found["gradients"]) == 2 * 27 + 2 * 3
    found_differences = differences(found["gradients"], expected["gradients"])
    assert max(found_differences.values()) < 1e-4, found_differences


def test_masks_agree_exactly(loaded):
    _, expected, found = loaded
    for path, theirs in expected["masks"].items():
        np.testing.assert_array_equal(found["masks"][path], theirs, path)


def test_masks_and_kernels_are_the_oracles(loaded):
    model, _, found = loaded
    for path, masked in every_layer.masked_kernels(model).items():
        scores, kernel = map(backend.as_numpy, (masked.scores, masked.kernel))
        np.testing.assert_array_equal(
            found["masks"][path], oracle.mask(scores, every_layer.SPARSITY)
        )
        np.testing.assert_allclose(
            backend.as_numpy(masked.effective()),
            oracle.effective(
                scores, kernel, every_layer.SPARSITY, masked.binarize
            ),
            rtol=1e-6,
        )


def test_the_seeds_mean_the_same_weights(loaded):
    """Built here, the model has the weights of the file, to the bit."""
    model, _, _ = loaded
    built = every_layer.build()
    theirs = {variable.path: variable for variable in model.weights}
    assert len(theirs) == 3 * 60 + 10
    for variable in built.weights:
        np.testing.assert_array_equal(
            backend.as_numpy(variable),
            backend.as_numpy(theirs[variable.path]),
            variable.path,
        )


@pytest.fixture(scope="module")
def on_two_devices(tmp_path_factory):
    """What `two_devices.py` found, in a process that sees two devices."""
    if backend.NAME != "jax":
        pytest.skip("keras.distribution is complete on JAX alone")
    path = tmp_path_factory.mktemp("two_devices") / "found.npz"
    script = pathlib.Path(__file__).with_name("two_devices.py")
    flags = "--xla_force_host_platform_device_count=2"
    done = subprocess.run(
        [sys.executable, script, path],
        env={**os.environ, "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    with np.load(path) as found:
        return dict(found)


@pytest.mark.parametrize("callback", ["schedule", "global"])
def test_data_parallel_trains_as_one_device_does(callback, on_two_devices):
    one, two = (
        {
            name.removeprefix(f"{callback}/{devices}/"): value
            for name, value in on_two_devices.items()
            if name.startswith(f"{callback}/{devices}/")
        }
        for devices in (1, 2)
    )
    assert one["losses"][-1] < 0.9 * one["losses"][0]
    np.testing.assert_allclose(two.pop("losses"), one.pop("losses"), atol=1e-4)
    assert len(one) == 4
    for index, mask in one.items():
        np.testing.assert_array_equal(two[index], mask)


@pytest.mark.skipif(
    backend.NAME == "tensorflow", reason="test_digits does more"
)
def test_digits_are_learned_in_a_few_epochs():
    from test_digits import train  # skips without scikit-learn

    for binary_activations in (False, True):
        _, accuracy = train(binary_activations, epochs=6)
        assert accuracy >= 0.95
