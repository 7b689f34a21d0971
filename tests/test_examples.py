"""The examples as a user runs them: in a process of their own."""

import csv
import json
import os
import pathlib
import subprocess
import sys

import backend
import conftest
import keras
import numpy as np
import pytest

import mpt_keras as mpt

tfds = pytest.importorskip("tensorflow_datasets")
pytestmark = backend.needs_tensorflow

EXAMPLES = conftest.ROOT / "examples"


def run(script, *arguments, folder=None, **variables):
    return subprocess.run(
        [sys.executable, EXAMPLES / f"{script}.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, **variables},
    )


def succeed(script, *arguments, folder=None):
    done = run(script, *arguments, folder=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fail(script, *arguments, **options):
    done = run(script, *arguments, **options)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


def write_cifar10(folder, train=500, side=32, classes=10, label=None):
    """A part of CIFAR-10's size, written in the format of its own."""
    rng = np.random.default_rng(0)

    def split(count):
        for key in range(count):
            number = int(rng.integers(10))
            image = rng.integers(0, 100, (side, side, 3)) + 15 * number
            yield (
                key,
                {
                    "id": f"{key}",
                    "image": image.astype("uint8"),
                    "label": number if label is None else label,
                },
            )

    features = tfds.features.FeaturesDict(
        {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=(side, side, 3)),
            "label": tfds.features.ClassLabel(num_classes=classes),
        }
    )
    splits = {"train": list(split(train)), "test": list(split(train // 5))}
    tfds.dataset_builders.store_as_tfds_dataset(
        name="cifar10",
        version="3.0.2",
        data_dir=folder,
        features=features,
        split_datasets=splits,
        disable_shuffling=True,
    )
    return folder


@pytest.fixture(scope="module")
def tiny_cifar10(tmp_path_factory):
    return write_cifar10(tmp_path_factory.mktemp("tfds"))


def cifar10(data_dir, output_dir, *arguments):
    return succeed(
        "cifar10_biprop",
        f"--data_dir={data_dir}",
        f"--output_dir={output_dir}",
        "--width=0.1",
        *arguments,
    )


def result_of(folder):
    return json.loads((folder / "result.json").read_text())


def test_quickstart_and_serving(tmp_path):
    run_folder = tmp_path / "run"
    succeed("quickstart", "--epochs=1", f"--output_dir={run_folder}")
    for name in ("binary_weights", "binary_weights_and_activations"):
        result = result_of(run_folder / name)
        assert result["weights_kept"] * 2 == result["weights"]
        assert result["test_accuracy"] > 0.5
    saved_model = run_folder / "binary_weights" / "saved_model"
    image = np.random.default_rng(0).integers(0, 17, (8, 8, 1), "uint8")
    np.save(tmp_path / "image.npy", image)
    keras.utils.save_img(tmp_path / "image.png", 15 * image, scale=False)
    printed = succeed(
        "serve_savedmodel",
        f"--saved_model={saved_model}",
        "--class_names=" + ",".join("abcdefghij"),
        tmp_path / "image.npy",
        tmp_path / "image.png",
    )
    lines = printed.strip().splitlines()
    model = keras.models.load_model(saved_model.parent / "last.keras")
    best = "abcdefghij"[model.predict(image[None], verbose=0).argmax()]
    assert f"image.npy: class {best} (" in lines[0]
    assert "image.png: class" in lines[1]


def test_cifar10_leaves_everything_a_user_needs(tiny_cifar10, tmp_path):
    folder = tmp_path / "run"
    printed = cifar10(tiny_cifar10, folder, "--epochs=2", "--batch_size=64")
    assert "of 22,505 weights kept" in printed
    result = result_of(folder)
    assert result["weights"] == 22505
    assert result["weights_kept"] == sum(
        layer["weights"] - layer["weights"] // 2
        for layer in result["layers"].values()
    )
    assert result["recipe"]["optimizer"] == "sgd"
    assert len(result["test_accuracy_per_epoch"]) == 2
    flags = json.loads((folder / "run.json").read_text())["flags"]
    assert flags["model"] == "conv4"
    with (folder / "history.csv").open() as file:
        rates = [float(row["learning_rate"]) for row in csv.DictReader(file)]
    assert rates == pytest.approx([0.1, 0.05])
    assert list((folder / "tensorboard" / "train").iterdir())
    best, last = (
        keras.models.load_model(folder / f"{name}.keras")
        for name in ("best", "last")
    )
    images = np.random.default_rng(0).integers(0, 255, (7, 32, 32, 3), "uint8")
    np.save(tmp_path / "images.npy", images)
    printed = succeed(
        "serve_savedmodel",
        f"--saved_model={folder / 'saved_model'}",
        tmp_path / "images.npy",
    )
    served = [int(line.split("class ")[1][0]) for line in printed.splitlines()]
    assert served == list(last.predict(images, verbose=0).argmax(-1))
    assert best.input_shape == last.input_shape == (None, 32, 32, 3)


def test_one_seed_gives_the_same_masks_twice(tiny_cifar10, tmp_path):
    masks = []
    for name, seed in [("a", 3), ("b", 3), ("c", 4)]:
        cifar10(tiny_cifar10, tmp_path / name, "--epochs=1", f"--seed={seed}")
        model = keras.models.load_model(tmp_path / name / "last.keras")
        masks.append(
            np.concatenate(
                [np.ravel(layer.mask()) for layer in mpt.masked_layers(model)]
            )
        )
    np.testing.assert_array_equal(masks[0], masks[1])
    assert (masks[0] != masks[2]).any()


@pytest.mark.parametrize(
    ("arguments", "optimizer"),
    [
        (
            ["--binary_activations", "--global_sparsity", "--sparsity=0.4"],
            "adam",
        ),
        (
            [
                "--method=edge_popup",
                "--kernel_initializer=signed_constant",
                "--scale_fan=authors",
                "--mixed_precision=bfloat16",
                "--model=conv2",
            ],
            "sgd",
        ),
        (
            [
                "--method=dense",
                "--optimizer=adam",
                "--learning_rate=0.001",
                "--schedule=constant",
                "--binary_activations",
                "--trained_batch_norm",
                "--score_decay=0.01",
            ],
            "adam",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_other_methods_and_settings(
    arguments, optimizer, tiny_cifar10, tmp_path
):
    folder = tmp_path / "run"
    cifar10(tiny_cifar10, folder, "--epochs=1", *arguments)
    result = result_of(folder)
    assert result["recipe"]["optimizer"] == optimizer
    assert ("weights" in result) == ("--method=dense" not in arguments)
    if "--global_sparsity" in arguments:
        assert result["sparsity"] == pytest.approx(0.4, abs=1e-4)


@pytest.mark.slow
def test_cifar10_reaches_what_the_authors_code_reaches(tmp_path):
    """Their three epochs end at 43.9, 52.5 and 56.4 % with the same images."""
    succeed(
        "cifar10_biprop",
        f"--data_dir={conftest.shared_folder('tfds')}",
        f"--output_dir={tmp_path / 'run'}",
        "--model=conv4",
        "--sparsity=0.5",
        "--epochs=3",
    )
    accuracies = result_of(tmp_path / "run")["test_accuracy_per_epoch"]
    assert accuracies[-1] > 0.564 - 0.02


# --- Bad input ------------------------------------------------------------


def test_a_folder_without_the_dataset(tmp_path):
    message = fail("cifar10_biprop", f"--data_dir={tmp_path}", folder=tmp_path)
    assert message.startswith("cifar10_biprop.py: No prepared cifar10 in")
    assert "--download" in message
    assert not (tmp_path / "runs").exists()


def test_other_images_under_the_name(tmp_path):
    """Said before anything is written."""
    write_cifar10(tmp_path, train=5, side=28)
    message = fail("cifar10_biprop", f"--data_dir={tmp_path}", folder=tmp_path)
    assert "uint8 and shape (32, 32, 3)" in message
    assert "Received: images per split {'train': 5, 'test': 1}" in message
    assert not (tmp_path / "runs").exists()


def test_labels_of_other_classes(tmp_path, run_error, example):
    write_cifar10(tmp_path, train=5, label=-1)
    prepared = example("prepared")
    builder = prepared.find("cifar10", tmp_path, download=False)
    with pytest.raises(run_error, match="Received: -1 to -1"):
        prepared.arrays(builder, "train")
    for file in tmp_path.glob("cifar10/*/*train*"):
        file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(run_error, match="Cannot read the images of"):
        prepared.arrays(builder, "train")


@pytest.mark.slow  # TensorFlow Datasets tries ten times, ever more patiently
def test_no_network(tmp_path):
    nowhere = "http://127.0.0.1:9"
    message = fail(
        "cifar10_biprop",
        "--download",
        f"--data_dir={tmp_path}",
        folder=tmp_path,
        http_proxy=nowhere,
        https_proxy=nowhere,
    )
    assert "Could not download cifar10" in message
    assert "Without a network, copy a prepared folder" in message


def test_a_download_that_fails(tmp_path, monkeypatch, run_error, example):
    def no_network(self, **kwargs):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(
        tfds.core.DatasetBuilder, "download_and_prepare", no_network
    )
    with pytest.raises(run_error, match="ConnectionError: no route to host"):
        example("prepared").find("cifar10", tmp_path, download=True)


def test_a_folder_that_holds_another_run(tmp_path):
    (tmp_path / "result.json").write_text("precious")
    message = fail("quickstart", f"--output_dir={tmp_path}")
    assert "already holds files, perhaps another run" in message
    assert (tmp_path / "result.json").read_text() == "precious"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    message = fail("quickstart", f"--output_dir={tmp_path / 'file' / 'run'}")
    assert "Cannot use --output_dir=" in message


@pytest.mark.parametrize("sparsity", ["1.0", "nan"])
def test_sparsity_outside_its_range(sparsity):
    done = run("cifar10_biprop", f"--sparsity={sparsity}")
    assert done.returncode != 0
    assert "Expected a number in [0, 1)" in done.stderr + done.stdout


def test_settings_that_make_no_network(tmp_path):
    message = fail("cifar10_biprop", "--width=0.001", folder=tmp_path)
    assert "leaves at least one of 64 filters" in message


def test_a_folder_without_a_saved_model(tmp_path):
    message = fail("serve_savedmodel", f"--saved_model={tmp_path}")
    assert "Expected a folder with saved_model.pb" in message


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((5, 8, 8), "uint8", "Received: uint8 of shape (5, 8, 8)"),
        ((8, 8, 1), "float32", "Expected uint8 of shape (None, 8, 8, 1)"),
    ],
)
def test_arrays_that_do_not_fit_the_model(shape, dtype, message, tmp_path):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), dtype="uint8"),
            keras.layers.Rescaling(1.0),
            keras.layers.Flatten(),
        ]
    )
    model.export(tmp_path / "saved_model", verbose=False)
    np.save(tmp_path / "images.npy", np.zeros(shape, dtype))
    assert message in fail(
        "serve_savedmodel",
        f"--saved_model={tmp_path / 'saved_model'}",
        tmp_path / "images.npy",
    )


def test_a_file_that_is_not_there(tmp_path):
    keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()]).export(
        tmp_path, verbose=False
    )
    message = fail("serve_savedmodel", f"--saved_model={tmp_path}", "cat.png")
    assert message == "serve_savedmodel: no file 'cat.png'."


def test_serving_imports_no_keras():
    tree = (EXAMPLES / "serve_savedmodel.py").read_text()
    assert "import keras" not in tree
    assert "import mpt_keras" not in tree


def test_examples_are_files_of_their_own():
    assert {path.name for path in pathlib.Path(EXAMPLES).glob("*.py")} == {
        *("command.py", "distribution.py", "experiment.py", "images.py"),
        *("multiworker.py", "prepared.py", "rendezvous.py", "run_folder.py"),
        *("recipes.py", "search.py", "streamed_images.py", "digits.py"),
        *("training.py", "small_images.py", "sparsity_flag.py"),
        *("series.py", "tickets.py", "lottery_ticket.py", "kd_ticket.py"),
        *("cifar10_biprop.py", "imagenet_biprop.py"),
        *("quickstart.py", "serve_savedmodel.py"),
        *("sweep.py", "sweep_report.py", "tables.py"),
        *("compare_masks.py", "recycling.py"),
    }
