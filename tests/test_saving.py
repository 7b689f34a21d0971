"""Checkpoints and backups: whole at every moment, exact when restored."""

import contextlib
import resource

import keras
import numpy as np
import pytest

import mpt_keras as mpt
from mpt_keras import callbacks


@pytest.fixture
def data(rng):
    images = rng.standard_normal((32, 6)).astype("float32")
    return images, rng.integers(0, 3, 32)


def make_model(units=8, optimizer="adam"):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            mpt.MPTDense(units, activation="relu", seed=1),
            keras.layers.BatchNormalization(),
            mpt.MPTDense(3, seed=2),
        ]
    )
    model.compile(
        optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    return model


def values(model):
    variables = [*model.weights, *model.optimizer.variables]
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def fit(model, data, epochs, *used):
    return model.fit(
        *data,
        epochs=epochs,
        batch_size=8,
        shuffle=False,
        verbose=0,
        callbacks=list(used),
    )


class StopIn(keras.callbacks.Callback):
    """Breaks off inside an epoch, after one step of it."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.now == self.epoch:
            raise KeyboardInterrupt


@contextlib.contextmanager
def full_disk(free):
    """No file can grow beyond `free` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_an_interrupted_fit_continues_exactly(optimizer, data, tmp_path):
    whole = make_model(optimizer=optimizer)
    fit(whole, data, 4)
    interrupted = make_model(optimizer=optimizer)
    backup = callbacks.AtomicBackup(tmp_path / "backup")
    with pytest.raises(KeyboardInterrupt):
        fit(interrupted, data, 4, backup, StopIn(epoch=2))
    assert backup.completed_epochs == 2
    resumed = make_model(optimizer=optimizer)
    history = fit(resumed, data, 4, callbacks.AtomicBackup(tmp_path / "backup"))
    assert history.epoch == [2, 3]
    for ours, expected in zip(values(resumed), values(whole), strict=True):
        np.testing.assert_array_equal(ours, expected)
    # Nothing is left to do.
    backup = callbacks.AtomicBackup(tmp_path / "backup")
    with pytest.warns(UserWarning, match=r"come to its end, after 4 .*remove"):
        assert fit(make_model(optimizer=optimizer), data, 4, backup).epoch == []
    callbacks.AtomicBackup(tmp_path / "backup").remove()
    anew = make_model(optimizer=optimizer)
    assert fit(anew, data, 4, backup).epoch == [0, 1, 2, 3]


def test_a_model_that_was_resumed_trains_whole_again(data, tmp_path):
    fit(make_model(), data, 2, callbacks.AtomicBackup(tmp_path, run={}))
    resumed = make_model()
    backup = callbacks.AtomicBackup(tmp_path, run={})
    assert fit(resumed, data, 3, backup).epoch == [2]
    assert fit(resumed, data, 3).epoch == [0, 1, 2]


def test_one_backup_for_several_models_is_not_silent(data, tmp_path):
    backup = callbacks.AtomicBackup(tmp_path)
    first = make_model()
    fit(first, data, 2, backup)
    with pytest.warns(UserWarning, match="nothing is trained"):
        fit(make_model(), data, 2, backup)
    first.compile("adam", first.loss)
    with pytest.warns(UserWarning, match="nothing is trained"):
        fit(first, data, 2, backup)


def test_a_training_that_was_stopped_early_has_come_to_its_end(data, tmp_path):
    def stopping():
        return keras.callbacks.EarlyStopping("loss", patience=0, min_delta=99)

    first = fit(
        make_model(), data, 9, stopping(), callbacks.AtomicBackup(tmp_path)
    )
    assert len(first.epoch) == 2
    with pytest.warns(UserWarning, match="nothing is trained"):
        again = fit(
            make_model(), data, 9, stopping(), callbacks.AtomicBackup(tmp_path)
        )
    assert again.epoch == []


def test_a_backup_for_another_optimizer_is_refused(data, tmp_path):
    fit(make_model(), data, 2, callbacks.AtomicBackup(tmp_path))
    with pytest.raises(ValueError, match="optimizer: Adam there, SGD here"):
        fit(
            make_model(optimizer="sgd"),
            data,
            2,
            callbacks.AtomicBackup(tmp_path),
        )


def test_removing_a_backup_removes_nothing_else(data, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    (tmp_path / "partial-epochs-3").mkdir()
    (tmp_path / "removed-epochs-1").mkdir()
    backup = callbacks.AtomicBackup(tmp_path)
    fit(make_model(), data, 1, backup)
    backup.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_removal_that_is_killed_leaves_no_half_backup(
    data, tmp_path, monkeypatch
):
    backup = callbacks.AtomicBackup(tmp_path)
    fit(make_model(), data, 1, backup)

    def killed(path, **options):
        if path.exists():
            next(path.iterdir()).unlink()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            backup.remove()
    assert callbacks.AtomicBackup(tmp_path).completed_epochs == 0
    again = callbacks.AtomicBackup(tmp_path)
    assert fit(make_model(), data, 1, again).epoch == [0]


def test_a_model_without_weights_yet_cannot_be_backed_up(data, tmp_path):
    model = keras.Sequential([mpt.MPTDense(3)])
    model.compile("sgd", "mse")
    backup = callbacks.AtomicBackup(tmp_path)
    backup.set_model(model)
    with pytest.raises(ValueError, match="weights exist before training"):
        backup.on_train_begin()


def shortened(data):
    return tuple(array[:24] for array in data)


@pytest.mark.parametrize(
    ("units", "epochs", "change", "run", "message"),
    [
        (9, 3, None, None, "a model of 10 variables with 178 numbers there"),
        (8, 4, None, None, "epochs: 3 there, 4 here"),
        (8, 3, shortened, None, "steps: 4 there, 3 here"),
        (8, 3, None, {"seed": 1}, "seed: None there, 1 here"),
    ],
)
def test_a_backup_of_another_training_is_refused(
    units, epochs, change, run, message, data, tmp_path
):
    with pytest.raises(KeyboardInterrupt):
        fit(
            make_model(),
            data,
            3,
            callbacks.AtomicBackup(tmp_path),
            StopIn(epoch=2),
        )
    other = make_model(units)
    before = other.get_weights()
    backup = callbacks.AtomicBackup(tmp_path, run=run)
    with pytest.raises(ValueError, match=f"{message}.*remove the backup"):
        fit(other, change(data) if change else data, epochs, backup)
    for ours, expected in zip(other.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, expected)
    assert backup.completed_epochs == 2


@pytest.mark.parametrize("make", ["per_epoch", "per_step", "global"])
def test_a_sparsity_that_changes_continues(make, data, tmp_path):
    def schedule():
        if make == "global":
            ramp = mpt.schedules.Polynomial(0.4, 0.5, end=3)
            return callbacks.GlobalSparsity(schedule=ramp)
        end = 3 if make == "per_epoch" else 12
        ramp = mpt.schedules.Polynomial(0.0, 0.8, end=end)
        return callbacks.SparsitySchedule(ramp, per=make.removeprefix("per_"))

    whole = make_model()
    fit(whole, data, 4, schedule())
    backup = callbacks.AtomicBackup(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fit(make_model(), data, 4, schedule(), backup, StopIn(epoch=1))
    resumed = make_model()
    fit(resumed, data, 4, schedule(), callbacks.AtomicBackup(tmp_path))
    for ours, expected in zip(values(resumed), values(whole), strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_a_backup_that_was_not_finished_is_passed_over(data, tmp_path):
    backup = callbacks.AtomicBackup(tmp_path, run={})
    fit(make_model(), data, 2, backup)
    partial = tmp_path / "partial-epochs-3"
    partial.mkdir()
    (partial / "latest.weights.h5").write_bytes(b"\x89HDF")
    (tmp_path / "epochs-of-somebody").mkdir()
    assert callbacks.AtomicBackup(tmp_path).completed_epochs == 2
    assert fit(make_model(), data, 3, backup).epoch == [2]
    assert not partial.exists()
    assert backup.completed_epochs == 3


def test_only_the_last_backup_is_kept(data, tmp_path):
    fit(make_model(), data, 3, callbacks.AtomicBackup(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["epochs-3"]


def test_a_reader_restores_and_writes_nothing(data, tmp_path):
    fit(make_model(), data, 2, callbacks.AtomicBackup(tmp_path, run={}))
    reader = callbacks.AtomicBackup(tmp_path, read_only=True, run={})
    assert fit(make_model(), data, 3, reader).epoch == [2]
    assert reader.completed_epochs == 2


def test_a_removed_backup_is_gone(data, tmp_path):
    backup = callbacks.AtomicBackup(tmp_path / "backup")
    backup.remove()
    fit(make_model(), data, 1, backup)
    backup.remove()
    assert backup.completed_epochs == 0
    assert not (tmp_path / "backup").exists()


def test_a_backup_on_a_full_disk_leaves_the_last_one(data, tmp_path):
    model = make_model(units=500)
    backup = callbacks.AtomicBackup(tmp_path, run={})
    fit(model, data, 1, backup)
    with (
        full_disk(10_000),
        pytest.raises(OSError, match="What was saved there before is unharmed"),
    ):
        fit(model, data, 2, backup)
    assert [path.name for path in tmp_path.iterdir()] == ["epochs-1"]
    assert fit(make_model(units=500), data, 2, backup).epoch == [1]


@pytest.mark.parametrize("name", ["last.keras", "last.weights.h5"])
def test_a_checkpoint_on_a_full_disk_leaves_the_last_one(name, data, tmp_path):
    model = make_model(units=500)
    only_weights = name.endswith(".h5")
    checkpoint = callbacks.AtomicCheckpoint(
        tmp_path / name, save_weights_only=only_weights
    )
    fit(model, data, 1, checkpoint)
    before = (tmp_path / name).read_bytes()
    with full_disk(10_000), pytest.raises(OSError, match="Make room"):
        fit(model, data, 1, checkpoint)
    assert (tmp_path / name).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_best_checkpoint_is_the_best(data, tmp_path):
    path = tmp_path / "best.keras"
    model = make_model()
    best = callbacks.AtomicCheckpoint(
        path, "loss", save_best_only=True, initial_value_threshold=0.0
    )
    fit(model, data, 2, best)
    assert not path.exists()
    best = callbacks.AtomicCheckpoint(path, "loss", save_best_only=True)
    fit(model, data, 2, best)
    saved = keras.models.load_model(path)
    for ours, expected in zip(values(saved), values(model), strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_what_a_killed_run_left_replaces_nothing(data, tmp_path):
    path = tmp_path / "best.keras"
    model = make_model()
    fit(model, data, 1, callbacks.AtomicCheckpoint(path))
    before = path.read_bytes()
    garbage = tmp_path / "partial-best.keras"
    best = callbacks.AtomicCheckpoint(
        path, "loss", save_best_only=True, initial_value_threshold=0.0
    )
    for make in (
        lambda: garbage.write_bytes(b"PK"),
        lambda: fill(garbage),
        lambda: garbage.symlink_to(tmp_path),
    ):
        make()
        fit(model, data, 1, best)
        assert path.read_bytes() == before
        assert [file.name for file in tmp_path.iterdir()] == [path.name]


def fill(folder):
    folder.mkdir()
    (folder / "best.keras").write_bytes(b"PK")


def test_names_with_placeholders(data, tmp_path):
    path = tmp_path / "new" / "folder" / "m-{epoch:02d}-{loss:.1f}.keras"
    model = make_model()
    checkpoint = callbacks.AtomicCheckpoint(path)
    history = fit(model, data, 2, checkpoint).history
    assert checkpoint.filepath == str(path)
    names = sorted(file.name for file in path.parent.iterdir())
    assert names == [
        f"m-{epoch:02d}-{loss:.1f}.keras"
        for epoch, loss in enumerate(history["loss"], 1)
    ]
    saved = keras.models.load_model(path.parent / names[-1])
    for ours, expected in zip(values(saved), values(model), strict=True):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("path", ["gs://bucket/x.keras", "e-{epoch}/x.keras"])
def test_paths_that_are_not_supported(path):
    with pytest.raises(ValueError, match="a local disk, with placeholders in"):
        callbacks.AtomicCheckpoint(path)


def test_a_folder_that_cannot_be_written(data, tmp_path):
    (tmp_path / "file").write_text("")
    checkpoint = callbacks.AtomicCheckpoint(tmp_path / "file" / "last.keras")
    with pytest.raises(OSError, match="Could not write"):
        fit(make_model(), data, 1, checkpoint)
    with pytest.raises(OSError, match="Could not write"):
        fit(
            make_model(),
            data,
            1,
            callbacks.AtomicBackup(tmp_path / "file" / "backup"),
        )


def test_a_checkpoint_between_epochs_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Expected save_freq='epoch'"):
        callbacks.AtomicCheckpoint(tmp_path / "last.keras", save_freq=10)
