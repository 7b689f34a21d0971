"""ImageNet's recipe on a tiny copy of it."""

import json
import shutil
import subprocess
import sys

import backend
import keras
import numpy as np
import programs
import pytest
from small_datasets import damage, examples, write_imagenet

import mpt_keras as mpt
from mpt_keras.experiments import data, history
from mpt_keras.experiments.place import Place

tf = backend.tf
pytestmark = backend.needs_tensorflow

TRAIN, TEST, SIZE = 120, 21, 32
SMALL = (f"--image_size={SIZE}", "--width=0.05", "--batch_size=16")
LONG = (*SMALL, "--epochs=3", "--drop_remainder", "--model=conv4")
LONG += ("--validation=20", "--recipe=biprop_resnet")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return write_imagenet(
        tmp_path_factory.mktemp("tfds"),
        {"train": examples(TRAIN), "validation": examples(TEST)},
    )


# --- Runs -----------------------------------------------------------------


def words(data_dir, folder, *others):
    return (
        *(f"--data_dir={data_dir}", f"--output_dir={folder}", "--verbose=0"),
        *others,
    )


def run(data_dir, folder, *others):
    arguments = words(data_dir, folder, *others)
    programs.succeed("examples/imagenet_biprop.py", *arguments)
    return folder


def fail(*arguments):
    return programs.fail("examples/imagenet_biprop.py", *words(*arguments))


@pytest.fixture(scope="module")
def whole_run(data_dir, tmp_path_factory):
    return run(data_dir, tmp_path_factory.mktemp("whole") / "run", *LONG)


def epochs_of(folder):
    return history.read(folder / history.FILE)


def test_a_run_leaves_everything_a_user_needs(whole_run, data_dir):
    result = json.loads((whole_run / "result.json").read_text())
    assert result["data"] == "imagenet2012"
    assert result["weights_kept"] * 2 == pytest.approx(result["weights"], abs=9)
    settings = result["settings"]
    assert (settings["optimizer"], settings["momentum"]) == ("sgd", 0.875)
    assert (settings["warmup_epochs"], settings["label_smoothing"]) == (5, 0.1)
    rates = [row["learning_rate"] for row in epochs_of(whole_run)]
    assert rates == pytest.approx([0.256 * epoch / 5 for epoch in (1, 2, 3)])
    model = keras.models.load_model(whole_run / "last.keras")
    found = data.read("imagenet2012", Place(data_dir=str(data_dir)), SIZE)
    (batch,) = found.test_data(TEST)
    images, labels = (part.numpy() for part in batch)
    logits = model.predict(images, verbose=0)
    served = tf.saved_model.load(str(whole_run / "saved_model")).signatures
    (served,) = served["serving_default"](tf.constant(images)).values()
    np.testing.assert_allclose(served, logits, rtol=1e-5, atol=1e-5)
    wanted = 0.9 * np.eye(10)[labels] + 0.01
    losses = -(wanted * tf.nn.log_softmax(logits)).numpy().sum(-1)
    penalty = sum(map(float, model.losses))
    assert penalty > 0
    assert result["test_loss"] == pytest.approx(losses.mean() + penalty, 1e-5)
    right = logits.argmax(-1) == labels
    assert result["test_accuracy"] == pytest.approx(right.mean())


def test_validation_images_are_held_out_of_the_stream(whole_run, data_dir):
    found = data.read("imagenet2012", Place(data_dir=str(data_dir)), SIZE, 20)
    assert (found.train_count, found.validation_count) == (TRAIN - 20, 20)
    result = json.loads((whole_run / "result.json").read_text())
    assert result["settings"]["validation"] == 20
    assert result["steps_per_epoch"] == (TRAIN - 20) // 16
    best = keras.models.load_model(whole_run / "best.keras")
    right = [
        best.predict(images, verbose=0).argmax(-1) == labels.numpy()
        for images, labels in found.validation_data(8)
    ]
    accuracies = [row["val_accuracy"] for row in epochs_of(whole_run)]
    assert np.concatenate(right).mean() == pytest.approx(max(accuracies))
    assert result["best"]["validation_accuracy"] == max(accuracies)


@pytest.fixture(scope="module")
def stopped_run(data_dir, tmp_path_factory):
    """The folder of a run that was stopped after its first epoch."""
    folder = tmp_path_factory.mktemp("stopped") / "run"

    back_up = mpt.callbacks.AtomicBackup.on_epoch_end

    def stop(self, epoch, logs=None):
        back_up(self, epoch, logs)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mpt.callbacks.AtomicBackup, "on_epoch_end", stop)
        said = fail(data_dir, folder, *LONG)
    assert said.startswith("imagenet_biprop.py: stopped; epochs kept: 1")
    assert said.endswith(f"--output_dir={folder} --resume")
    assert (folder / "backup").exists()
    assert not (folder / "result.json").exists()
    return folder


def test_a_stopped_run_resumes_as_if_nothing_had_happened(
    whole_run, stopped_run, data_dir, tmp_path
):
    folder = shutil.copytree(stopped_run, tmp_path / "run")
    run(data_dir, folder, *LONG, "--resume")
    found, expected = (
        keras.models.load_model(path / "last.keras")
        for path in (folder, whole_run)
    )
    for one, other in zip(found.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(one, other, one.path)
    for one, other in zip(epochs_of(folder), epochs_of(whole_run), strict=True):
        for name, value in one.items():
            assert "seconds" in name or value == other[name], name


@pytest.mark.distributed
def test_two_devices_train_on_the_same_batches(whole_run, data_dir, tmp_path):
    # A process becomes several devices only before it has computed.
    folder = tmp_path / "run"
    options = (*LONG, "--epochs=1", "--distribute=mirrored", "--cpu_devices=2")
    program = programs.ROOT / "examples" / "imagenet_biprop.py"
    subprocess.run(
        [sys.executable, program, *words(data_dir, folder, *options)],
        check=True,
        capture_output=True,
    )
    (row,) = epochs_of(folder)
    expected = epochs_of(whole_run)[0]
    for name in ("loss", "accuracy"):
        for part in ("", "val_", "test_"):
            assert row[part + name] == pytest.approx(
                expected[part + name], abs=1e-4
            )


# --- Bad input ------------------------------------------------------------


@pytest.fixture
def copied(data_dir, tmp_path):
    return shutil.copytree(data_dir, tmp_path / "tfds")


def test_damage_in_the_middle_of_training(stopped_run, copied, tmp_path):
    damage(copied, "image")
    folder = shutil.copytree(stopped_run, tmp_path / "run")
    message = fail(copied, folder, *LONG, "--resume")
    assert "imagenet_biprop.py: Cannot read the images of" in message
    assert " epochs are whole in" in message
    assert "0 epochs" not in message
    assert keras.models.load_model(folder / "last.keras")


def test_images_that_nobody_can_fetch(tmp_path):
    """In one line, and before anything is written."""
    message = fail(tmp_path, tmp_path / "run", "--download")
    assert "Could not download imagenet2012" in message
    manual = tmp_path / "downloads" / "manual"
    assert f"Manual directory {manual} does not exist" in message
    assert "ILSVRC2012_img_train.tar" in message
    assert message.endswith("put them there by hand.")
    assert not (tmp_path / "run").exists()
