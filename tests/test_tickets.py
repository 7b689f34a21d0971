"""The examples on lottery tickets, distillation and recycling, on digits."""

import json

import backend
import keras
import numpy as np
import programs
import pytest

import mpt_keras as mpt

pytest.importorskip("sklearn")
pytestmark = backend.needs_tensorflow


def words(folder, *others):
    return (f"--output_dir={folder}", "--epochs=2", "--width=0.2", *others)


def succeed(script, *arguments):
    return programs.succeed(f"examples/{script}.py", *words(*arguments))


def lines_of(folder):
    text = (folder / "runs.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def kept(line):
    return line["method"], line["seed"], line["rounds"], line["weights_kept"]


def counts(weights, rounds):
    """Of LeNet at a fifth of its width: 64-60, 60-20 and 20-10 weights."""
    sizes = {64 * 60: 0.8, 60 * 20: 0.8, 20 * 10: 0.9}
    assert weights == sum(sizes)
    return sum(
        n - int((1 - rate**rounds) * n + 1e-9) for n, rate in sizes.items()
    )


def test_lottery_ticket(tmp_path):
    folder = tmp_path / "run"
    options = ("--rounds=2", "--rewind_step=30", "--control_rounds=2")
    printed = succeed("lottery_ticket", folder, *options)
    lines = lines_of(folder)
    weights = lines[0]["weights"]
    after = [counts(weights, rounds) for rounds in range(3)]
    assert [kept(line) for line in lines] == [
        ("dense", 0, 0, weights),
        ("winning_ticket", 0, 1, after[1]),
        ("winning_ticket", 0, 2, after[2]),
        ("reinitialized", 0, 2, after[2]),
        ("random_masks", 0, 2, after[2]),
    ]
    assert lines[2]["sparsity"] == 1 - after[2] / weights
    assert f"{after[2]:,} of {weights:,} weights" in printed
    for name in ("accuracy.png", "table.md", "seed0/ticket.keras"):
        assert (folder / name).stat().st_size > 0
    # The 24 steps of an epoch, then six more, then the rest of the second.
    level = folder / "seed0/level-02"
    assert len((level / "history.csv").read_text().splitlines()) == 2
    # The ticket that is shipped is that of the last round.
    shipped = keras.models.load_model(folder / "seed0/ticket.keras")
    masks = mpt.analysis.read_masks(level)
    kernels = mpt.lottery.kernel_values(shipped)
    for name, mask in masks.items():
        np.testing.assert_array_equal(kernels[name] != 0, mask)
    # More seeds and rounds: nothing is trained twice.
    before = (level / "trained.npz").stat().st_mtime_ns
    options = ("--rounds=3", "--rewind_step=30", "--controls=none")
    succeed("lottery_ticket", folder, *options, "--seeds=0,1", "--resume")
    assert (level / "trained.npz").stat().st_mtime_ns == before
    found = [kept(line) for line in lines_of(folder)]
    assert len(found) == 8
    assert found[:3] == [kept(line) for line in lines[:3]]
    assert found[7] == ("winning_ticket", 1, 3, counts(weights, 3))


def test_kd_ticket(tmp_path):
    folder = tmp_path / "run"
    options = ("--model=conv2", "--rounds=5", "--rewind_step=24")
    options += ("--only_convolutions", "--learning_rate=0.002")
    succeed("kd_ticket", folder, *options)
    lines = lines_of(folder)
    assert [line["method"] for line in lines] == [
        *("dense", "rewinding", "retraining", "kd_ticket", "kd_rewinding")
    ]
    level = folder / "seed0/level-05"
    masks = mpt.analysis.read_masks(level)
    assert all(mask.all() for name, mask in masks.items() if "conv" not in name)
    pruned = [mask for name, mask in masks.items() if "conv" in name]
    total = sum(mask.size for mask in pruned)
    left = total - int((1 - 0.8**5) * total)
    assert sum(int(mask.sum()) for mask in pruned) == left
    # Four trainings of one mask; those of a teacher start where those of
    # labels do, and end elsewhere.
    trained = {
        name: (level / name / "last.keras", level / name / "history.csv")
        for name in ("retraining", "kd_ticket", "kd_rewinding")
    }
    kernels = []
    for model, history in trained.values():
        loaded = keras.models.load_model(model)
        assert not isinstance(loaded, keras.distillation.Distiller)
        kernels.append(mpt.lottery.kernel_values(loaded))
        distilled = "kd" in model.parent.name
        assert ("distillation_loss" in history.read_text()) == distilled
    for name, mask in masks.items():
        for values in kernels:
            np.testing.assert_array_equal(values[name][~mask], 0)
        assert not np.array_equal(kernels[0][name], kernels[1][name])


def test_recycling(tmp_path):
    folder = tmp_path / "run"
    sources = "--sources=none,highest"
    succeed("recycling", folder, sources, "--epochs=4", "--recycling_every=1")
    lines = lines_of(folder)
    assert [line["method"] for line in lines] == [
        *("biprop", "biprop_recycling_highest")
    ]
    folders = [folder / line["folder"] for line in lines]
    histories = [(one / "history.csv").read_text() for one in folders]
    assert all("mask_churn" in history for history in histories)
    # The same search until the first weights make way, after epoch 1.
    losses = [
        [row["loss"] for row in csv_rows(history)] for history in histories
    ]
    assert losses[0][:2] == losses[1][:2]
    first, second = (
        mpt.masked_layers(keras.models.load_model(one / "last.keras"))
        for one in folders
    )
    for a, b in zip(first, second, strict=True):
        same = (backend.as_numpy(a.kernel) == backend.as_numpy(b.kernel)).mean()
        assert 0.55 < same < 0.95


def csv_rows(text):
    header, *rows = (line.split(",") for line in text.splitlines())
    return [dict(zip(header, row, strict=True)) for row in rows]


@pytest.mark.parametrize(
    ("script", "option", "message"),
    [
        (
            "lottery_ticket",
            "--rewind_step=48",
            "Expected a step before the end, 48.",
        ),
        (
            "recycling",
            "--recycled_fraction=0.7",
            "Expected a number in (0, 0.5]",
        ),
    ],
)
def test_bad_flags_end_before_training(script, option, message, tmp_path):
    arguments = words(tmp_path / "run", option)
    said = programs.fail(f"examples/{script}.py", *arguments)
    assert message in said.splitlines()[-1]
    assert not list((tmp_path / "run").rglob("history.csv"))


@pytest.mark.parametrize(
    ("script", "options", "message"),
    [
        (
            "cifar10_biprop",
            ("--method=dense", "--global_sparsity", "--dataset=digits"),
            "--global_sparsity needs a search, not --method=dense.",
        ),
        ("lottery_ticket", ("--dataset=mnist",), "data_dir"),
        ("recycling", ("--dataset=cifar10",), "data_dir"),
    ],
)
def test_no_folder_where_nothing_can_be_trained(
    script, options, message, tmp_path
):
    folder = tmp_path / "run"
    said = programs.fail(
        f"examples/{script}.py",
        f"--output_dir={folder}",
        "--width=0.1",
        "--data_dir=/nowhere",
        *options,
    )
    assert message in said
    assert not folder.exists()
