"""Label smoothing, against NumPy."""

import backend
import keras
import numpy as np
import pytest

import mpt_keras as mpt


def expected(labels, logits, smoothing):
    classes = logits.shape[-1]
    wanted = (1 - smoothing) * np.eye(classes)[labels] + smoothing / classes
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return -(wanted * np.log(chances)).sum(-1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("shape", [(7,), (7, 1)])
def test_smoothed_crossentropy_is_what_numpy_computes(smoothing, shape, rng):
    labels = rng.integers(0, 5, 7)
    logits = rng.normal(size=(7, 5))
    loss = mpt.losses.SmoothedCrossentropy(smoothing)
    found = loss(labels.reshape(shape), logits.astype("float32"))
    np.testing.assert_allclose(
        backend.as_numpy(found),
        expected(labels, logits, smoothing).mean(),
        rtol=1e-5,
    )


def test_a_compiled_model_is_saved_with_it(tmp_path, rng):
    model = keras.Sequential([keras.Input((4,)), mpt.MPTDense(5, seed=0)])
    loss = mpt.losses.SmoothedCrossentropy(0.2)
    model.compile("sgd", loss, metrics=["accuracy"])
    images = rng.normal(size=(6, 4)).astype("float32")
    labels = rng.integers(0, 5, 6)
    found = model.evaluate(images, labels, verbose=0, return_dict=True)
    logits = model.predict_on_batch(images)
    assert found["loss"] == pytest.approx(
        expected(labels, logits, 0.2).mean(), rel=1e-5
    )
    right = logits.argmax(-1) == labels
    assert found["accuracy"] == pytest.approx(right.mean())
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.loss.label_smoothing == 0.2
    assert loaded.evaluate(images, labels, verbose=0, return_dict=True) == found


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan")])
def test_a_smoothing_outside_its_range(smoothing):
    with pytest.raises(ValueError, match=r"Expected a number in \[0, 1\)"):
        mpt.losses.SmoothedCrossentropy(smoothing)
