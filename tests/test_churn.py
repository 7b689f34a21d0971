"""What `MaskChurn` logs, against masks looked at from outside."""

import itertools

import keras
import numpy as np
import pytest
from backend import as_numpy
from test_callbacks import Recorder, kernels_of

import mpt_keras as mpt
from mpt_keras import callbacks

NAMES = ["first", "last"]


def small_model(learning_rate=3.0):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            mpt.MPTDense(20, seed=0, activation="relu", name="first"),
            mpt.MPTDense(3, seed=1, name="last"),
        ]
    )
    model.compile(keras.optimizers.SGD(learning_rate), "mse")
    return model


def masks_in(model):
    return [as_numpy(masked.mask()) for masked in kernels_of(model)]


def fit(model, *others, epochs=3, churn=None):
    churn = churn or callbacks.MaskChurn(per_layer=True)
    rng = np.random.default_rng(0)
    history = model.fit(
        rng.standard_normal((20, 6)),
        rng.standard_normal((20, 3)),
        batch_size=10,
        shuffle=False,
        epochs=epochs,
        verbose=0,
        callbacks=[churn, *others],
    ).history
    return {name: values for name, values in history.items() if "churn" in name}


def churn_of(seen):
    """Of masks at successive moments, per layer and in all."""
    logs = {"mask_churn": []} | {f"mask_churn/{name}": [] for name in NAMES}
    for before, after in itertools.pairwise(seen):
        changed = [(a != b).sum() for a, b in zip(before, after, strict=True)]
        sizes = [mask.size for mask in after]
        logs["mask_churn"].append(sum(changed) / sum(sizes))
        for name, count, size in zip(NAMES, changed, sizes, strict=True):
            logs[f"mask_churn/{name}"].append(count / size)
    return logs


def test_churn_is_what_an_epoch_changed():
    model = small_model()
    recorder = Recorder(masks_in, "on_epoch_end")
    first = masks_in(model)
    logs = fit(model, recorder)
    assert logs == churn_of([first, *recorder.seen])
    assert all(0 < value < 1 for value in logs["mask_churn"])


def test_a_ticket_that_stands_still():
    model = small_model(learning_rate=0.0)
    logs = fit(model, churn=callbacks.MaskChurn(), epochs=2)
    assert logs == {"mask_churn": [0.0, 0.0]}


def test_a_sparsity_that_changes_is_churn():
    model = small_model(learning_rate=0.0)
    schedule = callbacks.SparsitySchedule(lambda epoch: 0.5 - 0.25 * epoch)
    logs = fit(model, schedule, churn=callbacks.MaskChurn(), epochs=2)
    before, after = logs["mask_churn"]
    assert before == 0
    assert after == pytest.approx(0.25, abs=0.01)


def test_every_fit_begins_with_its_own_masks():
    model = small_model(learning_rate=0.0)
    churn = callbacks.MaskChurn()
    fit(model, churn=churn, epochs=1)
    for layer in mpt.masked_layers(model):
        layer.sparsity = 0.9
    assert fit(model, churn=churn, epochs=1) == {"mask_churn": [0.0]}


def test_a_resumed_run_logs_what_a_whole_one_does(tmp_path):
    ramp = mpt.schedules.Polynomial(0.0, 0.8, end=3, power=1)

    def run(epochs, *others):
        keras.utils.set_random_seed(0)
        model = small_model()
        schedule = callbacks.SparsitySchedule(lambda epoch: ramp(epoch))
        return fit(model, schedule, *others, epochs=epochs)

    whole = run(4)
    backup = callbacks.AtomicBackup(tmp_path / "backup", run={})
    parts = run(2, backup), run(4, backup)
    assert backup.completed_epochs == 4
    for name, values in whole.items():
        assert parts[0][name] + parts[1][name] == pytest.approx(values)


def test_a_model_without_masks_is_refused():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="MaskChurn needs a model with masked"):
        model.fit(
            *(np.ones((2, 2)), np.ones(2)),
            callbacks=[callbacks.MaskChurn()],
            verbose=0,
        )
