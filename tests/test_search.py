"""A search from plain Python: what it finds, leaves behind, and refuses."""

import json
import pathlib
import shutil
import subprocess
import sys

import backend
import keras
import numpy as np
import pytest

import mpt_keras as mpt
from mpt_keras.command_line import main
from mpt_keras.experiments import (
    Place,
    Result,
    RunError,
    Search,
    data,
    training,
)

pytest.importorskip("sklearn")

RATE = 2.0
# Erratic enough for the best epoch not to be the last.
SEARCH = Search(
    dataset="digits",
    model="conv2",
    width=0.1,
    epochs=4,
    batch_size=64,
    learning_rate=RATE,
    schedule="constant",
    sparsity=0.6,
    seed=2,
)
FC = SEARCH.replace(model="lenet_300_100", epochs=1)
QUIET = {"verbose": "0"}


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a"
    return SEARCH.run(str(folder), **QUIET)


@pytest.fixture(scope="module")
def images():
    return data.read("digits", Place(), None, 0.1)


def arrays(found):
    """Images and labels of `test_data` or `validation_data`."""
    return [backend.as_numpy(part) for part in found]


def accuracy(model, found):
    images, labels = arrays(found)
    return np.mean(model.predict(images, verbose=0).argmax(-1) == labels)


def masks(model):
    return [backend.as_numpy(x.mask()) for x in mpt.masked_layers(model)]


def assert_same_masks(one, other):
    for mask, expected in zip(masks(one), masks(other), strict=True):
        np.testing.assert_array_equal(mask, expected)


# --- What is found --------------------------------------------------------


def test_a_result(result):
    assert isinstance(result, Result)
    assert isinstance(result.folder, pathlib.Path)
    (line,) = result.lines
    text = (result.folder / "lines.jsonl").read_text()
    assert [json.loads(one) for one in text.splitlines()] == [line]
    assert result.figures == line
    identity = ("method", "sparsity", "seed", "width", "model", "data")
    assert [line[name] for name in identity] == [
        *("mpt_1_32", 0.6, 2, 0.1, "conv2", "digits")
    ]
    assert line["folder"] == "."
    assert line["validation"] == 0.1
    assert line["versions"]["backend"] == keras.backend.backend()


def test_the_figures_are_those_of_the_model(result, images):
    model = result.model()
    figures = result.figures
    found = masks(model)
    assert figures["weights"] == sum(mask.size for mask in found)
    assert figures["weights_kept"] == sum(int(mask.sum()) for mask in found)
    pruned = 1 - figures["weights_kept"] / figures["weights"]
    assert pruned == pytest.approx(0.6, abs=1e-3)
    right = accuracy(model, images.test_data(60))
    assert figures["test_accuracy"] == pytest.approx(right)
    whole = json.loads((result.folder / "result.json").read_text())
    layers = whole.pop("layers")
    assert whole == figures
    assert (
        sum(layer["kept"] for layer in layers.values())
        == (figures["weights_kept"])
    )


def test_the_figures_are_those_of_the_epochs(result, images):
    figures, epochs = result.figures, result.history()
    assert [row["epoch"] for row in epochs] == [0, 1, 2, 3]
    assert figures["epochs"] == 4
    columns = {name: [row[name] for row in epochs] for name in epochs[0]}
    assert figures["test_accuracy_per_epoch"] == columns["test_accuracy"]
    assert figures["validation_accuracy_per_epoch"] == columns["val_accuracy"]
    assert figures["test_loss"] == columns["test_loss"][-1]
    assert figures["train_loss"] == columns["loss"][-1]
    assert columns["learning_rate"] == pytest.approx([RATE] * 4)
    assert all(0 <= churn < 1 for churn in columns["mask_churn"])
    # Images per second are those after each epoch's first step.
    assert images.train_count == 1437 - images.validation_count
    assert figures["steps_per_epoch"] == -(-images.train_count // 64)
    seconds = sum(columns["training_seconds"])
    assert 0 < seconds < sum(columns["seconds"])
    assert figures["images_per_second"] == pytest.approx(
        4 * (images.train_count - 64) / seconds, rel=1e-3
    )


def test_validation_images_choose(result, images):
    """Nothing is chosen on test images."""
    figures, epochs = result.figures, result.history()
    accuracies = [row["val_accuracy"] for row in epochs]
    losses = [row["val_loss"] for row in epochs]
    best, stop = int(np.argmax(accuracies)), int(np.argmin(losses))
    assert best < 3  # or the test says little
    assert figures["best"] == {
        "epoch": best + 1,
        "validation_accuracy": accuracies[best],
        "test_accuracy": epochs[best]["test_accuracy"],
    }
    assert figures["early_stop"] == {
        "iteration": (stop + 1) * figures["steps_per_epoch"],
        "epoch": stop + 1,
        "test_accuracy": epochs[stop]["test_accuracy"],
    }
    model = keras.models.load_model(result.folder / "best.keras")
    found = accuracy(model, images.validation_data(images.validation_count))
    assert accuracies[best] == pytest.approx(found)
    assert epochs[best]["test_accuracy"] == pytest.approx(
        accuracy(model, images.test_data(60))
    )


def test_what_a_run_leaves(result, images):
    folder, figures = result.folder, result.figures
    expected = {"run.json", "result.json", "lines.jsonl", "history.csv"}
    expected |= {"last.keras", "best.keras", "ticket.keras", "network.ticket"}
    if backend.tf:
        expected |= {"tensorboard", "saved_model"}
    assert {path.name for path in folder.iterdir()} - {".lock"} == expected
    there = json.loads((folder / "run.json").read_text())
    in_force = json.loads(json.dumps(figures["settings"]))
    assert there["settings"] == {
        **in_force,
        "distribute": "none",
        "cpu_devices": None,
    }
    assert there["versions"] == figures["versions"]
    said = SEARCH.to_json()
    assert {k: in_force[k] for k in said if k != "kind"} | {
        "kind": "search"
    } == said
    ticket = folder / figures["ticket"]
    assert ticket.stat().st_size == figures["ticket_bytes"]
    samples = images.first_test_images(20)
    scores = result.model().predict(samples, verbose=0)
    for model in (
        keras.models.load_model(folder / figures["plain"]),
        mpt.load_ticket(ticket),
    ):
        np.testing.assert_allclose(
            model.predict(samples, verbose=0), scores, rtol=1e-5, atol=1e-5
        )
    assert not mpt.masked_layers(
        keras.models.load_model(folder / "ticket.keras")
    )
    assert mpt.masked_layers(mpt.load_ticket(ticket))


def test_a_plain_process_without_a_flag(result, tmp_path):
    script = (
        "import sys\n"
        "from mpt_keras.experiments import Search\n"
        f"search = {SEARCH!r}\n"
        "result = search.run(sys.argv[1], verbose='0')\n"
        "assert not result.history()[-1]['test_accuracy'] > 1\n"
    )
    subprocess.run(
        [sys.executable, "-c", script, tmp_path / "run"],
        check=True,
        capture_output=True,
    )
    model = keras.models.load_model(tmp_path / "run" / "last.keras")
    assert_same_masks(model, result.model())


def test_the_same_by_the_command(result, tmp_path, capsys):
    said = {k: v for k, v in SEARCH.to_json().items() if k != "kind"}
    folder = tmp_path / "run"
    words = [f"--{name}={value}" for name, value in said.items()]
    words += [f"--output_dir={folder}", "--verbose=2"]
    assert main(["search", *words]) == 0
    model = keras.models.load_model(folder / "last.keras")
    assert_same_masks(model, result.model())
    first, second, third, fourth, *_, last = (
        capsys.readouterr().out.splitlines()
    )
    assert first == f"Folder: {folder}"
    assert second.startswith("Recipe: biprop_conv, borrowed: it is that of")
    assert third.startswith("Differs from it: ")
    for difference in ("dataset=digits (there cifar10)", "width=0.1 (there 1)"):
        assert difference in third
    assert fourth.startswith("Settings: dataset=digits, model=conv2, width=0.1")
    assert last.startswith("conv2 on digits, mpt_1_32: test accuracy ")
    assert "the best by validation: " in last
    line = json.loads((folder / "lines.jsonl").read_text())
    kept, weights = line["weights_kept"], line["weights"]
    assert f", {kept:,} of {weights:,} weights kept, " in last
    assert f" {line['ticket_bytes']:,} bytes as a ticket, " in last
    others = {"seconds", "training_seconds", "images_per_second"}
    # A ticket has Keras' names of layers, numbered in each process.
    others |= {"ticket_bytes"}
    assert {k: v for k, v in line.items() if k not in others} == {
        k: v for k, v in result.figures.items() if k not in others
    }


# --- Continued ------------------------------------------------------------


def test_a_finished_run_is_not_trained_again(
    result, monkeypatch, capsys, tmp_path
):
    folder = shutil.copytree(result.folder, tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in folder.glob("*.keras")}
    with monkeypatch.context() as patch:
        patch.setattr(training, "train", None)
        again = SEARCH.run(folder, resume=True, **QUIET)
    assert again == Result(folder, result.lines)
    assert {p: p.stat().st_mtime_ns for p in folder.glob("*.keras")} == before
    assert "conv2 on digits, mpt_1_32: test accuracy" in capsys.readouterr().out
    # Another place is the same run; other settings are not.
    SEARCH.run(folder, resume=True, evaluation_batch=10, **QUIET)
    with pytest.raises(RunError, match=r"sparsity is 0\.6 there and 0\.7 here"):
        SEARCH.replace(sparsity=0.7).run(folder, resume=True, **QUIET)
    with pytest.raises(RunError, match="already holds files"):
        SEARCH.run(folder, **QUIET)
    # A run that was killed as it wrote its line is not at its end.
    lines = folder / "lines.jsonl"
    lines.write_text(lines.read_text()[:100])
    with monkeypatch.context() as patch:
        patch.setattr(training, "train", None)
        with pytest.raises(TypeError):
            SEARCH.run(folder, resume=True, **QUIET)


def test_resuming_needs_a_folder():
    with pytest.raises(RunError, match="To resume a run, name its folder"):
        SEARCH.run(resume=True)


# --- Other searches -------------------------------------------------------

NETWORK = """
import keras

import mpt_keras as mpt

calls = []


def build(classes, input_shape, **options):
    calls.append(options)
    return keras.Sequential(
        [
            keras.Input(input_shape),
            keras.layers.Flatten(),
            mpt.MPTDense(classes, sparsity=options["sparsity"], seed=1),
        ],
        name="own",
    )
"""


def test_a_network_of_one_s_own(tmp_path, monkeypatch):
    """In half precision, by whole batches, without validation images."""
    (tmp_path / "own_network.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    search = FC.replace(
        model="own_network:build",
        mixed_precision="bfloat16",
        drop_remainder=True,
        validation=0,
    )
    result = search.run(place=Place(verbose="2"), verbose="0")
    own = sys.modules.pop("own_network")
    ((options),) = own.calls
    assert (options["sparsity"], options["binarize"]) == (0.6, True)
    assert (options["width"], options["seed"]) == (0.1, 2)
    assert keras.config.dtype_policy().name == "float32"
    assert result.folder.parent == tmp_path.resolve() / "runs"
    assert result.folder.name.startswith("digits-own_network.build-biprop-0.6-")
    policies = {layer.dtype_policy.name for layer in result.model().layers}
    assert "mixed_bfloat16" in policies
    figures = result.figures
    assert figures["steps_per_epoch"] == 1437 // 64
    assert not (result.folder / "best.keras").exists()
    for name in ("best", "early_stop", "validation_accuracy_per_epoch"):
        assert figures[name] is None
    assert not any(name.startswith("val_") for name in result.history()[0])


@pytest.mark.parametrize(
    ("said", "method", "optimizer"),
    [
        (
            {
                "binary_activations": True,
                "global_sparsity": True,
                "sparsity": 0.4,
                "epochs": 10,
                "optimizer": "adam",
                "learning_rate": 0.01,
            },
            "mpt_1_1_global",
            "adam",
        ),
        (
            {
                "method": "edge_popup",
                "kernel_initializer": "signed_constant",
                "scale_fan": "authors",
                "recycling": "highest",
                "recycling_every": 1,
                "epochs": 3,
                "frozen_pruned": 0.2,
                "frozen_kept": 0.1,
            },
            "edge_popup_recycling_frozen",
            "sgd",
        ),
        (
            {
                "method": "dense",
                "sparsity": None,
                "optimizer": "sgd",
                "label_smoothing": 0.1,
                "score_decay": 0.01,
                "warmup_epochs": 2,
            },
            "dense",
            "sgd",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_methods(said, method, optimizer, tmp_path):
    result = FC.replace(**said).run(tmp_path / "run", **QUIET)
    figures, model = result.figures, result.model()
    assert figures["method"] == method
    assert type(model.optimizer).__name__.lower() == optimizer
    rate = result.history()[0]["learning_rate"]
    assert rate == pytest.approx(
        {"adam": 0.01, "sgd": RATE}[optimizer] / said.get("warmup_epochs", 1)
    )
    is_dense = method == "dense"
    assert ("mask_churn" in result.history()[0]) != is_dense
    assert (figures["ticket"] is None) == is_dense
    assert (figures["ticket_bytes"] is None) == is_dense
    if is_dense:
        assert figures["sparsity"] is None
        assert figures["weights_kept"] == figures["weights"]
        assert "sparsity" not in figures["settings"]
        return
    assert bool(mpt.masked_layers(model))
    if method == "mpt_1_1_global":  # one epoch of the ramp, down from a half
        pruned = 1 - figures["weights_kept"] / figures["weights"]
        assert pruned == pytest.approx(0.4, abs=0.1)
    else:
        start = mpt.models.lenet_300_100(
            width=0.1,
            seed=2,
            input_shape=(8, 8, 1),
            binarize=False,
            kernel_initializer="signed_constant",
            scale_fan="authors",
            sparsity=0.6,
        )
        pairs = zip(*map(mpt.masked_layers, (start, model)), strict=True)
        for before, after in pairs:
            assert (after.frozen_pruned, after.frozen_kept) == (0.2, 0.1)
            same = backend.as_numpy(before.kernel) == backend.as_numpy(
                after.kernel
            )
            assert 0.5 < same.mean() < 1


# --- Refused --------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "place", "message"),
    [
        ({"width": 0.001}, {}, "leaves at least one of 300"),
        ({"frozen_pruned": 0.9}, {}, "are kept for ever"),
        ({"model": "nowhere:build"}, {}, "No network 'nowhere:build': No mod"),
        ({"model": "json:build"}, {}, "No network 'json:build': module 'json'"),
        ({"validation": 1437}, {}, "Cannot hold out validation=1437"),
        ({"validation": 1e-4}, {}, "Expected a fraction in"),
        (
            {"batch_size": 2000, "drop_remainder": True},
            {},
            r"batch_size=2000 is more than the 1293 images of an epoch\.",
        ),
        ({}, {"images": "nowhere.npz"}, "nowhere.npz"),
        ({}, {"distribute": "tpu"}, "TPU|TensorFlow"),
        ({}, {"data_dir": "a"}, "data_dir=a has no effect here: digits come"),
        (
            {"dataset": "cifar10"},
            {"download": True, "images": "a.npz"},
            "download=True has no effect here: the images are those of",
        ),
        ({}, {"worker_timeout": 3}, "it needs distribute=multiworker or"),
        (
            {"recycling": "highest", "recycled_fraction": 0.7, "epochs": 20},
            {},
            "0.5",
        ),
        ({"recycling": "highest", "epochs": 11}, {}, "never comes to it"),
    ],
    ids=str,
)
def test_what_cannot_run_leaves_no_folder(said, place, message, tmp_path):
    search = FC.replace(mixed_precision="bfloat16", **said)
    with pytest.raises((RunError, ValueError), match=message):
        search.run(tmp_path / "run", **place, **QUIET)
    assert not (tmp_path / "run").exists()
    assert keras.config.dtype_policy().name == "float32"


def test_a_place_of_other_settings():
    with pytest.raises(TypeError, match="folder"):
        FC.run("a", folders="b")
    with pytest.raises(ValueError, match=r"`verbose`\. Expected one of auto"):
        FC.run("a", verbose="3")
