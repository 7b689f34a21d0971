"""A search that has gone wrong stops with the name of the layer."""

import keras
import numpy as np
import pytest

import mpt_keras as mpt
from mpt_keras import callbacks


@pytest.fixture
def data(rng):
    images = rng.standard_normal((16, 6)).astype("float32")
    return images, rng.integers(0, 3, 16)


def make_model():
    model = keras.Sequential(
        [
            keras.Input((6,)),
            mpt.MPTDense(8, activation="relu", seed=1, name="first"),
            keras.layers.BatchNormalization(name="norm"),
            mpt.MPTDense(3, seed=2, name="second"),
        ]
    )
    model.compile(
        "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    return model


class Spoil(keras.callbacks.Callback):
    """Puts a value into the scores of a layer, in the second epoch."""

    def __init__(self, name, value):
        super().__init__()
        self.name, self.value = name, value

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            scores = self.model.get_layer(self.name).scores
            values = np.array(keras.ops.convert_to_numpy(scores))
            values.flat[0] = self.value
            scores.assign(values)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers(value, data, tmp_path):
    """The loss need not show them: such a weight is simply kept."""
    model = make_model()
    with pytest.raises(FloatingPointError) as caught:
        model.fit(
            *data,
            epochs=4,
            verbose=0,
            callbacks=[
                Spoil("second", value),
                callbacks.CheckFinite(),
                callbacks.AtomicCheckpoint(tmp_path / "last.keras"),
                callbacks.AtomicBackup(tmp_path / "backup"),
            ],
        )
    message = str(caught.value)
    assert "of epoch 2" in message
    assert "scores of layer 'second' (1 of 24)" in message
    assert "first" not in message
    good = keras.models.load_model(tmp_path / "last.keras")
    for weight in good.weights:
        assert np.isfinite(keras.ops.convert_to_numpy(weight)).all()
    assert callbacks.AtomicBackup(tmp_path / "backup").completed_epochs == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_no_number(value, data):
    images, labels = data
    images[9] = value
    with pytest.raises(FloatingPointError) as caught:
        make_model().fit(
            images,
            labels,
            batch_size=4,
            shuffle=False,
            verbose=0,
            callbacks=[callbacks.CheckFinite()],
        )
    message = str(caught.value)
    assert "loss nan in batch 3 of epoch 1" in message
    # In the order of the model, so that the first one named came first.
    first, norm = message.index("'first'"), message.index("norm/")
    assert first < norm < message.index("'second'")


def test_a_loss_that_fails_alone(data):
    model = make_model()
    model.compile("sgd", lambda true, predicted: 0.0 * predicted + np.inf)
    with pytest.raises(FloatingPointError, match="loss inf in batch 1"):
        model.fit(*data, verbose=0, callbacks=[callbacks.CheckFinite()])


def test_a_sound_run_is_left_alone(data):
    plain, guarded = make_model(), make_model()
    expected = plain.fit(*data, epochs=2, shuffle=False, verbose=0)
    history = guarded.fit(
        *data,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[callbacks.CheckFinite()],
    )
    assert history.history == expected.history


@pytest.mark.parametrize("quantizer", ["approx_sign", "ste_sign", "swish_sign"])
def test_activations_that_are_no_numbers(quantizer, data):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Lambda(keras.ops.log),  # of negative numbers as well
            mpt.MPTDense(3, input_quantizer=quantizer, seed=1),
        ]
    )
    model.compile("sgd", "mse")
    images, labels = data
    with pytest.raises(FloatingPointError, match="loss nan in batch 1"):
        model.fit(
            images,
            np.eye(3)[labels],
            verbose=0,
            callbacks=[callbacks.CheckFinite()],
        )
