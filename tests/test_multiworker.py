"""The loop for several workers logs and trains as Keras' `fit` does."""

import types

import backend
import keras
import numpy as np
import pytest

from mpt_keras.experiments import command, devices, restart
from mpt_keras.experiments.errors import RunError, WorkerLost

pytestmark = backend.needs_tensorflow

SIZE = 8


@pytest.fixture
def multiworker():
    from mpt_keras.experiments import multiworker  # imports TensorFlow

    return multiworker


@pytest.fixture
def one():
    """The devices of a strategy of one replica."""
    return devices.Devices(backend.tf.distribute.OneDeviceStrategy("CPU:0"))


def some_images(rng, count):
    labels = rng.integers(0, 3, count).astype("int32")
    images = rng.standard_normal((count, 5)) + labels[:, None]
    return images.astype("float32"), labels


@pytest.fixture
def data(rng):
    """Images, of which the evaluation takes unequal parts."""
    return types.SimpleNamespace(
        train=some_images(rng, 3 * SIZE),
        test=some_images(rng, 7),
        validation=some_images(rng, 5),
    )


def parts_of(images, labels):
    """As the images' own method, with one image that weighs nothing."""

    def parts(largest, parts, own_parts):
        assert (parts, own_parts) == (1, (0,))
        padded = [np.append(array, array[:1], 0) for array in (images, labels)]
        weights = np.append(np.ones(len(labels)), 0.0).astype("float32")
        for first in range(0, len(weights), largest):
            chosen = slice(first, first + largest)
            yield [tuple(array[chosen] for array in (*padded, weights))]

    return parts


def batches_of(data, validation_count):
    images = types.SimpleNamespace(
        test_parts=parts_of(*data.test),
        test_count=len(data.test[1]),
        validation_parts=parts_of(*data.validation),
        validation_count=validation_count,
    )
    in_order = backend.tf.data.Dataset.from_tensor_slices(data.train)
    return types.SimpleNamespace(
        data=images,
        size=SIZE,
        per_epoch=3,
        parts=1,
        own_parts=(0,),
        from_epoch=lambda epoch: in_order.batch(SIZE, True).repeat(),
    )


def compiled_model(one):
    with one.scope():
        model = keras.Sequential(
            [
                keras.Input((5,)),
                keras.layers.Dense(4, "tanh", kernel_regularizer="l2"),
                keras.layers.Dense(3),
            ]
        )
        model.compile(
            keras.optimizers.SGD(0.1, momentum=0.9),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
    return model


class Logs(keras.callbacks.Callback):
    """Keeps the logs of every epoch."""

    def __init__(self):
        super().__init__()
        self.epochs = []

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append((epoch, dict(logs)))


def evaluated(model, images, prefix):
    loss, accuracy = model.evaluate(*images, verbose=0)
    return {f"{prefix}_loss": loss, f"{prefix}_accuracy": accuracy}


@pytest.mark.parametrize("is_held_out", [True, False])
def test_it_trains_and_logs_as_keras_does(
    multiworker, one, data, is_held_out, capsys
):
    model = compiled_model(one)
    other = compiled_model(devices.Devices())
    other.set_weights(model.get_weights())
    logs = Logs()
    batches = batches_of(data, len(data.validation[1]) * is_held_out)
    multiworker.fit(
        model, batches, 1, 3, [logs], one, evaluation_batch=3, verbose=0
    )
    for epoch, found in logs.epochs:
        history = other.fit(
            *data.train, batch_size=SIZE, shuffle=False, verbose=0
        ).history
        expected = {name: values[0] for name, values in history.items()}
        expected |= evaluated(other, data.test, "test")
        if is_held_out:
            expected |= evaluated(other, data.validation, "val")
        assert found.keys() == expected.keys(), epoch
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, 1e-5, err_msg=name)
    assert [epoch for epoch, _ in logs.epochs] == [1, 2]
    for found, expected in zip(model.weights, other.weights, strict=True):
        np.testing.assert_allclose(found, expected, 1e-5, err_msg=found.path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("index", [0, 1])
def test_the_first_worker_alone_shows_progress(
    multiworker, one, data, index, capsys
):
    several = devices.Devices(one.strategy, index=index)
    model = compiled_model(one)
    batches = batches_of(data, 0)
    multiworker.fit(model, batches, 0, 1, [], several, verbose=2)
    assert ("test_accuracy" in capsys.readouterr().out) == (index == 0)


def test_a_callback_ends_it(multiworker, one, data):
    logs = Logs()
    stop = keras.callbacks.EarlyStopping("val_loss", baseline=-1.0, patience=0)
    batches = batches_of(data, len(data.validation[1]))
    multiworker.fit(
        compiled_model(one), batches, 0, 9, [logs, stop], one, verbose=0
    )
    assert len(logs.epochs) < 9


def test_workers_that_found_other_backups(multiworker, one):
    multiworker.agree_on(3, one)
    # The second of the two is not there and counts as one that found none.
    two = devices.Devices(one.strategy, replicas=2, workers=2)
    multiworker.agree_on(0, two)
    with pytest.raises(RunError, match="found a backup of 3 epochs"):
        multiworker.agree_on(3, two)


@pytest.mark.parametrize(
    "name", ["UnavailableError", "AbortedError", "CancelledError"]
)
def test_a_lost_worker_ends_what_no_command_began(multiworker, one, name):
    error = getattr(backend.tf.errors, name)(None, None, "gone")
    expected = f"lost another one \\({name}\\)"
    with (
        pytest.raises(RunError, match=expected) as end,
        multiworker.noticing_lost_workers(one),
    ):
        raise error
    assert isinstance(end.value, WorkerLost)
    assert "let them resume" in str(end.value)


def test_workers_leave_together(multiworker, one, monkeypatch):
    left = []
    monkeypatch.setattr(multiworker, "wait_for_all", left.append)
    two = devices.Devices(one.strategy, replicas=2, workers=2)
    for some in (one, two):
        with some.together():
            assert left == []
    assert left == [two]
    lost = backend.tf.errors.UnavailableError(None, None, "gone")
    with pytest.raises(WorkerLost), two.together():
        raise lost
    assert left == [two]


def test_a_lost_worker_starts_the_program_again(monkeypatch, capsys):
    started = []
    monkeypatch.setattr(restart, "start_again", lambda: started.append(1))
    with command.in_one_line("program.py"):
        raise WorkerLost("Worker 0 has lost another one.")
    assert started == [1]
    assert "program.py: Worker 0 has lost" in capsys.readouterr().err


def test_other_errors_are_no_lost_worker(multiworker, one):
    error = backend.tf.errors.ResourceExhaustedError(None, None, "full")
    with pytest.raises(type(error)), multiworker.noticing_lost_workers(one):
        raise error
