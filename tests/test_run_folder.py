"""A folder belongs to one run; only that run continues in it."""

import json
import re

import keras
import pytest
from absl import flags

FLAGS = flags.FLAGS


@pytest.fixture
def run_folder(example):
    return example("run_folder")


@pytest.fixture
def opened(run_folder, example, tmp_path):
    """Opens the folder of a run as an example does."""
    devices = example("distribution").Devices()
    FLAGS.output_dir = str(tmp_path / "run")

    def open_it(resume=False):
        FLAGS.resume = resume
        return run_folder.open_run_folder("name", devices)

    return open_it


def test_a_run_finds_its_folder_again(opened, run_folder):
    folder = opened()
    description = json.loads((folder / "run.json").read_text())
    assert description["flags"]["sparsity"] == 0.5
    assert description["versions"]["backend"] == keras.backend.backend()
    FLAGS.worker_timeout = 3.0  # changes nothing that is found
    assert opened(resume=True) == folder
    assert json.loads((folder / "run.json").read_text()) == description


def test_resuming_nothing_begins(opened):
    assert (opened(resume=True) / "run.json").exists()


def test_a_run_killed_at_its_very_beginning(opened, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.partial").write_text('{"flags"')
    folder = opened(resume=True)
    assert [file.name for file in folder.iterdir()] == ["run.json"]


def test_a_worker_that_writes_nothing(run_folder, example, tmp_path):
    FLAGS.output_dir = str(tmp_path / "run")
    devices = example("distribution").Devices(workers=2, index=1)
    run_folder.open_run_folder("name", devices)
    assert not (tmp_path / "run").exists()


def test_resuming_needs_a_folder(opened, run_error):
    FLAGS.output_dir = None
    with pytest.raises(run_error, match="--resume needs --output_dir"):
        opened(resume=True)


def test_without_resume_an_old_folder_is_refused(opened, run_error):
    opened()
    with pytest.raises(run_error, match="continue its run with --resume"):
        opened()


def test_another_run_is_not_continued(opened, run_error):
    before = (opened() / "run.json").read_bytes()
    FLAGS.sparsity = 0.8
    FLAGS.seed = 7
    expected = "--seed is 0 there and 7 here, --sparsity is 0.5 there and 0.8"
    with pytest.raises(run_error, match=expected):
        opened(resume=True)
    FLAGS.sparsity, FLAGS.seed = 0.5, 0
    assert (opened(resume=True) / "run.json").read_bytes() == before


@pytest.mark.parametrize("what", ["mpt_keras", "keras", "backend"])
def test_another_version_is_not_continued(what, opened, run_error):
    file = opened() / "run.json"
    description = json.loads(file.read_text())
    now = description["versions"][what]
    description["versions"][what] = "older"
    file.write_text(json.dumps(description))
    expected = f"other versions: {what} is older there and {now} here"
    with pytest.raises(run_error, match=re.escape(expected)):
        opened(resume=True)


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}", '{"flags": 1}'])
def test_files_that_are_no_run(content, opened, run_error, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "precious").write_text("precious")
    if content is not None:
        (folder / "run.json").write_text(content)
    with pytest.raises(run_error, match="holds no run to resume"):
        opened(resume=True)
    assert (folder / "precious").read_text() == "precious"


@pytest.mark.parametrize(
    ("written", "epochs", "left"),
    [
        ("epoch,loss\n0,0.5\n1,0.25\n2,0.125\n", 2, [0.5, 0.25]),
        ("epoch,loss\n0,0.5\n1,0.", 1, [0.5]),  # broken off within a line
        ("epoch,loss\n0,0.5\n", 0, []),
        ("epoch,loss\n1,0.5\n2,0.25\n3,0.1\n", 3, [0.5, 0.25]),
        ("epoch,loss\n2,0.5\n", 1, []),
        ("", 0, []),
    ],
)
def test_epochs_that_will_be_repeated_are_cut(
    written, epochs, left, run_folder, tmp_path
):
    file = tmp_path / "history.csv"
    run_folder.cut_history(file, 3)
    assert run_folder.read_history(file) == []
    file.write_text(written)
    run_folder.cut_history(file, epochs)
    assert [row["loss"] for row in run_folder.read_history(file)] == left
