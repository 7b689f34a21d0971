"""What runs leave behind is read, and becomes tables and pictures."""

import json
import shutil
import sys

import keras
import numpy as np
import pytest

import mpt_keras as mpt
from mpt_keras.experiments import comparing
from mpt_keras.experiments.errors import RunError


@pytest.fixture
def compare(tmp_path):
    """Compares folders; returns the names of the files that were written."""

    def run(*sources, labels=None):
        comparing.compare(sources, tmp_path / "figures", labels)
        return sorted(file.name for file in (tmp_path / "figures").iterdir())

    return run


@pytest.fixture
def runs(tmp_path, rng):
    """Folders of three runs with masks, one of them with a history."""
    folders = [tmp_path / "runs" / name for name in ("first", "second", "3")]
    for folder in folders:
        folder.mkdir(parents=True)
        masks = {"conv": rng.random((3, 3, 2, 4)) < 0.5}
        masks["last"] = rng.random((6, 3)) < 0.2
        mpt.analysis.save_masks(masks, folder / "masks.npz")
    (folders[0] / "history.csv").write_text(
        # As `CSVLogger` writes it where there is no validation.
        "epoch,mask_churn,val_loss\n0,0.25,NA\n1,0.125,NA\n"
    )
    (folders[1] / "history.csv").write_text("epoch,loss\n0,1.0\n")
    return folders


TABLES = ["comparison.json", "comparison.md"]
PICTURES = ["agreement.png", "jaccard.png", "layers.png"]


def test_three_runs(compare, runs, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    written = compare(*runs)
    masks = [f"masks-{run.name}.png" for run in runs]
    assert written == sorted([*TABLES, *PICTURES, "churn.png", *masks])
    for name in written:
        content = (tmp_path / "figures" / name).read_bytes()
        assert content.startswith(b"\x89PNG") == name.endswith(".png")
    tickets = {run.name: mpt.analysis.read_masks(run) for run in runs}
    comparison = mpt.analysis.compare_all(tickets)
    figures = json.loads((tmp_path / "figures/comparison.json").read_text())
    first = figures["tickets"]["first"]
    assert first["mask_churn"] == [0.25, 0.125]
    assert first["layers"]["conv"] == {
        "weights": 72,
        "kept": int(tickets["first"]["conv"].sum()),
    }
    assert [(p["first"], p["second"]) for p in figures["pairs"]] == [
        *(("first", "second"), ("first", "3"), ("second", "3"))
    ]
    for pair, expected in zip(figures["pairs"], comparison.pairs, strict=True):
        assert pair["jaccard"] == expected.total.jaccard
        assert pair["hamming_by_chance"] == expected.total.hamming_by_chance
    mean = comparison.total.agreement.mean
    assert figures["total"]["agreement"]["mean"] == mean
    table = (tmp_path / "figures/comparison.md").read_text()
    *_, total = table.splitlines()
    assert total == f"| {' | '.join(comparison.table()[-1])} |"
    output = capsys.readouterr().out
    assert f"{100 * mean:.2f}" in output
    assert "churn.png" in output


def test_two_runs_and_their_labels(compare, runs, tmp_path):
    pytest.importorskip("matplotlib")
    written = compare(*runs[1:], labels=["a", "b c"])
    masks = ["masks-a.png", "masks-b c.png"]
    assert written == sorted([*TABLES, *PICTURES, *masks])
    table = (tmp_path / "figures/comparison.md").read_text()
    assert table.startswith("| layer | weights | kept 1st % |")


def test_one_run_is_drawn(compare, tmp_path):
    pytest.importorskip("matplotlib")
    model = keras.Sequential([keras.Input((4,)), mpt.MPTDense(3)])
    model.save(tmp_path / "last.keras")
    written = compare(tmp_path / "last.keras")
    assert written == ["layers.png", "masks-last.png"]


def test_labels_tell_the_runs_apart(tmp_path):
    paths = [
        *(tmp_path / "a" / "level-01", tmp_path / "b" / "level-01"),
        tmp_path / "b" / "masks.npz",
    ]
    assert comparing.labels_for(paths[:1]) == ["level-01"]
    expected = ["a-level-01", "b-level-01", "b-masks"]
    assert comparing.labels_for(paths) == expected


def test_without_matplotlib_there_are_tables(
    compare, runs, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert compare(*runs) == TABLES
    assert "No pictures." in capsys.readouterr().out


@pytest.mark.parametrize(
    "labels", [["a"], ["a", "a"], ["a", ""], ["a", "b/c"], ["a", "b", "c"]]
)
def test_labels_that_are_none(labels, compare, runs):
    with pytest.raises(RunError, match="expected 2 different names"):
        compare(*runs[:2], labels=labels)


def test_what_cannot_be_compared(compare, runs, tmp_path):
    with pytest.raises(RunError, match="Nothing to compare"):
        compare()
    with pytest.raises(RunError, match="A run is given twice"):
        compare(runs[0], runs[0])
    with pytest.raises(RunError, match=r"there is no .*missing"):
        compare(runs[0], tmp_path / "missing")
    other = tmp_path / "other"
    shutil.copytree(runs[0], other)
    mpt.analysis.save_masks({"conv": np.ones(3, bool)}, other / "masks.npz")
    expected = r"'first' with 'other': only one of them has .*\['last'\]"
    with pytest.raises(RunError, match=expected):
        compare(runs[0], other)
    (other / "history.csv").write_text("epoch,mask_churn\n0,much\n")
    with pytest.raises(RunError, match="is not the history of a run"):
        compare(other)


def test_a_folder_that_cannot_be_written(compare, runs, tmp_path):
    (tmp_path / "figures").write_text("a file")
    with pytest.raises(RunError, match="Cannot write into"):
        compare(*runs)
