"""The examples by their command lines, and what they leave behind."""

import csv
import json
import os
import re
import shlex
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
    folder = tmp_path / "digits"
    printed = succeed("quickstart", "--epochs=2", f"--output_dir={folder}")
    first, second, serve = printed.splitlines()
    for line, name in (
        (first, "binary_weights"),
        (second, "binary_weights_and_activations"),
    ):
        accuracy, kept, size = re.fullmatch(
            rf"{name}: test accuracy (.*)%, (.*) weights, (.*) bytes", line
        ).groups()
        assert float(accuracy) > 50
        model = mpt.load_ticket(folder / name / "network.ticket")
        masks = [layer.mask() for layer in mpt.masked_layers(model)]
        count = sum(int(np.count_nonzero(mask)) for mask in masks)
        assert f"{count:,}" == kept
        file = folder / name / "network.ticket"
        assert file.stat().st_size == int(size.replace(",", ""))
        plain = keras.models.load_model(folder / name / "ticket.keras")
        assert not mpt.masked_layers(plain)
    words = shlex.split(serve.removeprefix("Serve one: "))
    assert words[:2] == [sys.executable, "examples/serve_savedmodel.py"]
    image = np.random.default_rng(0).integers(0, 17, (8, 8, 1), "uint8")
    np.save(tmp_path / "image.npy", image)
    keras.utils.save_img(tmp_path / "image.png", 15 * image, scale=False)
    printed = succeed(
        "serve_savedmodel",
        *words[2:],
        "--class_names=" + ",".join("abcdefghij"),
        tmp_path / "image.npy",
        tmp_path / "image.png",
    )
    lines = printed.strip().splitlines()
    best = "abcdefghij"[plain.predict(image[None], verbose=0).argmax()]
    assert f"image.npy: class {best} (" in lines[0]
    assert "image.png: class" in lines[1]


def test_cifar10_leaves_everything_a_user_needs(tiny_cifar10, tmp_path):
    folder = tmp_path / "run"
    words = ("--epochs=2", "--batch_size=64", "--seed=3", "--verbose=2")
    printed = cifar10(tiny_cifar10, folder, *words)
    first, recipe, differs, *_, last = printed.splitlines()
    assert first == f"Folder: {folder}"
    assert recipe == "Recipe: biprop_conv"
    assert differs == (
        "Differs from it: validation=0.1 (there 0), width=0.1 (there 1), "
        "epochs=2 (there 250), batch_size=64 (there 128)"
    )
    assert "Epoch 2/2" in printed
    assert "of 22,505 weights kept" in last
    result = result_of(folder)
    assert result["weights"] == 22505
    assert result["weights_kept"] == sum(
        layer["weights"] - layer["weights"] // 2
        for layer in result["layers"].values()
    )
    assert result["settings"]["optimizer"] == "sgd"
    assert result["settings"]["augment"] is True
    assert len(result["test_accuracy_per_epoch"]) == 2
    settings = json.loads((folder / "run.json").read_text())["settings"]
    assert settings["model"] == "conv4"
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


def test_lottery_ticket(tmp_path):
    folder = tmp_path / "run"
    printed = succeed(
        "lottery_ticket",
        f"--output_dir={folder}",
        *("--epochs=1", "--rounds=1", "--width=0.1", "--verbose=0"),
    )
    lines = (folder / "lines.jsonl").read_text().splitlines()
    methods = [json.loads(line)["method"] for line in lines]
    assert methods == [
        *("unpruned", "winning_ticket", "reinitialized", "random_masks")
    ]
    assert all(method in printed for method in methods)
    assert (folder / "table.md").exists()


def test_kd_ticket(tmp_path):
    folder = tmp_path / "run"
    succeed(
        "kd_ticket",
        f"--output_dir={folder}",
        *("--epochs=1", "--sparsities=0.8", "--width=0.1", "--verbose=0"),
    )
    lines = (folder / "lines.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    assert [(line["method"], line["sparsity"]) for line in found] == [
        *(("unpruned", None), ("one_shot", 0.8), ("kd_ticket", 0.8))
    ]


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
        "--validation=0",
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
    words = ("--dataset=digits", "--model=lenet_300_100", "--width=0.1")
    message = fail("cifar10_biprop", f"--output_dir={tmp_path}", *words)
    assert "already holds files, perhaps another run" in message
    assert (tmp_path / "result.json").read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} <= {
        *("result.json", ".lock")
    }


def test_a_process_ends_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "run"
    script = EXAMPLES / "cifar10_biprop.py"
    words = ("--dataset=digits", "--width=0.1", f"--output_dir={folder}")
    quiet = {k: v for k, v in os.environ.items() if "LOG_LEVEL" not in k}
    done = subprocess.run(
        [sys.executable, script, *words],
        capture_output=True,
        text=True,
        env=quiet,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    message = done.stderr.splitlines()[-1]
    assert message.startswith("cifar10_biprop.py: Cannot use the folder ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("kind", ["permuted", "split"])
def test_tasks(kind, tmp_path):
    folder = tmp_path / "tasks"
    printed = succeed(
        *("tasks", f"--kind={kind}", "--tasks=2", "--epochs=2"),
        *(f"--output_dir={folder}", f"--separate={kind == 'split'}"),
    )
    assert "nothing is forgotten" in printed
    assert ("networks of their own" in printed) == (kind == "split")
    tasks = mpt.TaskMasks.load(folder)
    row = rf"{tasks.names[1]} +([\d,]+) +([\d.]+)% +([\d.]+)%.*"
    size, after, at_the_end = re.search(row, printed).groups()
    assert float(after) > 50
    assert after == at_the_end
    file = folder / "tasks" / f"{tasks.names[1]}.ticket"
    assert f"{file.stat().st_size:,}" == size
    message = fail("tasks", f"--output_dir={folder}")
    assert "is there already. Expected a new folder" in message


def row_of(table, *names):
    """The figures in the row of a printed table that begins with names."""
    return re.search(" +".join((*names, "(.*)")), table).group(1).split()


def test_a_vision_transformer(tmp_path):
    words = ("--epochs=3", "--width=16", "--blocks=1", "--patch=4")
    words += ("--batch_size=32", "--learning_rate=0.01")
    words += ("--scores_learning_rate=0.03", f"--output_dir={tmp_path}")
    printed = succeed("vision_transformer", *words)
    for way in ("dense", "mpt_1_32", "edge_popup"):
        accuracy, kept, size, _ = row_of(printed, way)
        assert float(accuracy) > 20
        file = tmp_path / f"{way}-seed0.ticket"
        if way == "dense":
            assert not file.exists()
            weights = int(kept.replace(",", ""))
            continue
        assert f"{file.stat().st_size:,}" == size
        model = mpt.load_ticket(file)
        masks = [layer.mask() for layer in mpt.masked_layers(model)]
        count = sum(int(np.count_nonzero(mask)) for mask in masks)
        assert f"{count:,}" == kept
        assert count == weights / 2
        assert all(
            layer.binarize == (way == "mpt_1_32")
            for layer in mpt.masked_layers(model)
        )
    # What is there is not trained again.
    again = succeed("vision_transformer", *words)
    assert again == printed[printed.index("method") :]
    message = fail("vision_transformer", *words, "--width=8")
    assert "holds figures of other settings: width=16" in message


def test_patches_that_do_not_fit():
    message = fail("vision_transformer", "--patch=3")
    assert message.startswith("vision_transformer.py: Images of 8x8 pixels")
    assert "Received: patch=3" in message


def other_images(path, seed):
    """A file of images of MNIST's size, of which classes are rows."""
    draw = np.random.default_rng(seed)
    arrays = {}
    for split, count in (("train", 128), ("test", 64)):
        labels = draw.integers(0, 10, count)
        images = draw.integers(0, 40, (count, 28, 28, 1), "uint8")
        images[np.arange(count), 2 * labels + seed] = 255
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("kind", ["classes", "images"])
def test_masks_over_pretrained_weights(kind, tmp_path):
    folder = tmp_path / "masks"
    words = ("--epochs=6", "--width=4", "--learning_rate=0.005")
    words += ("--batch_size=32", f"--output_dir={folder}")
    words += ("--train_images=120",)
    first, other = "from-0-to-4", "from-5-to-9"
    if kind == "images":
        first, other = "mnist", "lines"
        mnist = other_images(tmp_path / "a.npz", 0)
        lines = other_images(tmp_path / "lines.npz", 1)
        words += ("--dataset=mnist", f"--images={mnist}")
        words += (f"--other_images={lines}",)
    printed = succeed("pretrained_masks", *words)
    before, after = re.findall(rf"{first}: ([\d.]+)%", printed)
    assert float(before) > 50
    assert before == after
    for kernel, what in (
        ("keep", "masks over its weights"),
        ("random", "masks over random weights"),
    ):
        accuracy, size = row_of(printed, other, what)
        file = folder / kernel / "tasks" / f"{other}.ticket"
        assert f"{file.stat().st_size:,}" == size
        if kernel == "keep":
            assert float(accuracy) > 20
        tasks = mpt.TaskMasks.load(folder / kernel)
        tasks.switch(other)
        for layer in mpt.masked_layers(tasks.model):
            assert layer.name != "logits"
            mask = keras.ops.convert_to_numpy(layer.mask())
            assert (mask == 0).sum() == int(0.3 * mask.size)
    head, everything = (
        int(row_of(printed, other, what)[1].replace(",", ""))
        for what in ("a new head alone", "all weights")
    )
    assert head < everything
    if kind == "images":
        words = ("--dataset=mnist", f"--images={mnist}")
        words += 2 * (f"--other_images={mnist}",)
        twice = f"--output_dir={tmp_path / 'twice'}"
        message = fail("pretrained_masks", *words, twice)
        assert "Two tasks would be called 'a'" in message
    message = fail("pretrained_masks", f"--output_dir={folder}")
    assert "is there already. Expected a new folder" in message


def test_a_microcontroller(tmp_path):
    path = tmp_path / "digits.c"
    printed = succeed(
        "microcontroller", "--epochs=1", f"--output={path}", "--signs=seed"
    )
    assert "digits held out are right" in printed
    assert "draw_signs" in path.read_text()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--sparsity=1.0", "`sparsity`. Expected a number in [0, 1)"),
        ("--sparsity=nan", "`sparsity`. Expected a number in [0, 1)"),
        ("--recipe=none", "`recipe`. Expected one of edge_popup_conv, "),
        ("--model=conv5", "`model`. Expected one of conv2, conv4, "),
        ("--momentum=0.5 --optimizer=adam", "momentum=0.5 has no effect here"),
        ("--resume", "To resume a run, name its folder."),
        (
            "--width=0.001 --dataset=digits",
            "leaves at least one of 64 filters",
        ),
    ],
)
def test_refused_in_one_line(word, message, here):
    said = fail("cifar10_biprop", *word.split())
    assert said.startswith("cifar10_biprop.py: ")
    assert message in said
    assert "\n" not in said
    assert not list(here.iterdir())


@pytest.mark.parametrize("word", ["--epochs=many", "--method=mpt", "--flag=1"])
def test_flags_that_are_none(word, here):
    said = fail("cifar10_biprop", word)
    assert "flag" in str(said).lower()
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    "script", ["cifar10_biprop", "imagenet_biprop", "kd_ticket"]
)
def test_help(script):
    status, printed, _ = programs.run(f"examples/{script}.py", "--help")
    assert status == 1  # as absl has it
    assert "--sparsit" in printed
    assert "--data_dir: Folder of TensorFlow Datasets." in printed
    usual = {
        "cifar10_biprop": "Usual: conv4.",
        "imagenet_biprop": "Default: imagenet_resnet18.",
        "kd_ticket": "Default: lenet_300_100.",
    }
    assert usual[script] in " ".join(printed.split())


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
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {
        *("quickstart", "serve_savedmodel", "microcontroller", "tasks"),
        *("vision_transformer", "pretrained_masks", "small_networks"),
        *("cifar10_biprop", "imagenet_biprop", "lottery_ticket", "kd_ticket"),
    }
    # The first code that a user reads needs nothing but the library.
    tutorial = (EXAMPLES / "quickstart.py").read_text()
    assert "mpt_keras.experiments" not in tutorial
