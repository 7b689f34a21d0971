"""The examples by their command lines, and what they leave behind."""

import csv
import json
import pathlib
import subprocess
import sys

import backend
import conftest
import keras
import numpy as np
import programs
import pytest
from small_datasets import write_cifar10

import mpt_keras as mpt

pytestmark = backend.needs_tensorflow

EXAMPLES = conftest.ROOT / "examples"


def succeed(script, *words):
    return programs.succeed(f"examples/{script}.py", *words)


def fail(script, *words):
    return programs.fail(f"examples/{script}.py", *words)


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
    words = ("--epochs=2", "--batch_size=64", "--seed=3")
    printed = cifar10(tiny_cifar10, folder, *words)
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
    seeded = mpt.models.conv4(width=0.1, seed=3, scale_fan="authors")
    pairs = zip(*map(mpt.masked_layers, (last, seeded)), strict=True)
    for found, expected in pairs:
        np.testing.assert_array_equal(found.kernel, expected.kernel)


@pytest.mark.parametrize(
    ("arguments", "optimizer"),
    [
        (
            [
                "--binary_activations",
                "--global_sparsity",
                "--sparsity=0.4",
                "--model=conv2",
            ],
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
                "--model=conv2",
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
        f"--data_dir={conftest.data_dir()}",
        f"--output_dir={tmp_path / 'run'}",
        "--model=conv4",
        "--sparsity=0.5",
        "--epochs=3",
    )
    accuracies = result_of(tmp_path / "run")["test_accuracy_per_epoch"]
    assert accuracies[-1] > 0.564 - 0.02


# --- Bad input ------------------------------------------------------------


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of its own to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_without_the_dataset(here):
    message = fail("cifar10_biprop", f"--data_dir={here}")
    assert message.startswith("cifar10_biprop.py: No prepared cifar10 in")
    assert "--download" in message
    assert not (here / "runs").exists()


def test_other_images_under_the_name(here):
    """Said before anything is written."""
    write_cifar10(here, train=5, side=28)
    message = fail("cifar10_biprop", f"--data_dir={here}")
    assert "uint8 and shape (32, 32, 3)" in message
    assert "Received: images per split {'train': 5, 'test': 1}" in message
    assert not (here / "runs").exists()


@pytest.mark.slow  # TensorFlow Datasets tries ten times, ever more patiently
def test_no_network(here, monkeypatch):
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    message = fail("cifar10_biprop", "--download", f"--data_dir={here}")
    assert "Could not download cifar10" in message
    assert "Without a network, copy a prepared folder" in message


def test_a_folder_that_holds_another_run(tmp_path):
    (tmp_path / "result.json").write_text("precious")
    message = fail("quickstart", f"--output_dir={tmp_path}")
    assert "already holds files, perhaps another run" in message
    assert (tmp_path / "result.json").read_text() == "precious"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_process_ends_in_one_line(tmp_path):
    """As every program does, by way of `command.run`."""
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "run"
    done = subprocess.run(
        [sys.executable, EXAMPLES / "quickstart.py", f"--output_dir={folder}"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    message = done.stderr.splitlines()[-1]
    assert message.startswith("quickstart.py: Cannot use --output_dir=")


def test_exports_of_a_ticket(tmp_path):
    folder = tmp_path / "exports"
    words = (f"--exports_dir={folder}", "--rounds=1")
    printed = succeed("export_ticket", "--epochs=1", "--layers", *words)
    assert "dense" in printed or "conv2d" in printed
    assert "saved_model" in printed
    assert (folder / "saved_model" / "saved_model.pb").exists()
    message = fail("export_ticket", "--ticket=none.keras", *words)
    assert "no file 'none.keras'" in message


def test_a_microcontroller(tmp_path):
    path = tmp_path / "digits.c"
    printed = succeed(
        "microcontroller", "--epochs=1", f"--output={path}", "--signs=seed"
    )
    assert "digits held out are right" in printed
    assert "draw_signs" in path.read_text()


@pytest.mark.parametrize("sparsity", ["1.0", "nan"])
def test_sparsity_outside_its_range(sparsity):
    message = fail("cifar10_biprop", f"--sparsity={sparsity}")
    assert "Expected a number in [0, 1)" in message


def test_settings_that_make_no_network(here):
    message = fail("cifar10_biprop", "--width=0.001")
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
        *("command.py", "distribution.py", "experiment.py"),
        *("multiworker.py", "rendezvous.py", "run_folder.py"),
        *("recipes.py", "search.py"),
        *("training.py", "small_images.py", "sparsity_flag.py"),
        *("series.py", "tickets.py", "lottery_ticket.py", "kd_ticket.py"),
        *("cifar10_biprop.py", "imagenet_biprop.py"),
        *("quickstart.py", "serve_savedmodel.py"),
        *("sweep.py", "recycling.py", "export_ticket.py"),
        "microcontroller.py",
    }
