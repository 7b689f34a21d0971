"""A folder belongs to one run; only that run continues in it."""

import json
import re
import subprocess
import sys

import keras
import pytest

from mpt_keras.experiments import folder, history, locks
from mpt_keras.experiments.errors import RunError

SETTINGS = {"sparsity": 0.5, "seed": 0, "milestones": (1, 2), "rounds": 3}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs" / "a"


@pytest.fixture
def opened(path):
    """Opens and closes the folder of a run; returns what is in it."""

    def open_it(resume=False, may_grow=(), **others):
        with folder.opened(path, resume, SETTINGS | others, may_grow):
            pass
        return {file.name for file in path.iterdir()} - {locks.NAME}

    return open_it


def description(path):
    return json.loads((path / "run.json").read_text())


def test_a_run_finds_its_folder_again(opened, path):
    assert opened() == {"run.json"}
    before = description(path)
    assert before["settings"] == {**SETTINGS, "milestones": [1, 2]}
    assert before["versions"]["backend"] == keras.backend.backend()
    assert before["versions"]["keras"] == keras.version()
    assert opened(resume=True) == {"run.json"}
    assert description(path) == before


def test_resuming_nothing_begins(opened):
    assert opened(resume=True) == {"run.json"}


def test_a_run_killed_at_its_very_beginning(opened, path):
    path.mkdir(parents=True)
    (path / locks.NAME).touch()
    assert opened(resume=True) == {"run.json"}


def test_without_resume_an_old_folder_is_refused(opened, path):
    opened()
    before = (path / "run.json").read_bytes()
    with pytest.raises(RunError, match=r"continue its run \(resume\)"):
        opened()
    assert (path / "run.json").read_bytes() == before


def test_another_run_is_not_continued(opened, path):
    opened()
    before = (path / "run.json").read_bytes()
    expected = "seed is 0 there and 7 here, sparsity is 0.5 there and 0.8 here"
    with pytest.raises(RunError, match=expected):
        opened(resume=True, seed=7, sparsity=0.8)
    with pytest.raises(RunError, match="schedule is None there and cosine"):
        opened(resume=True, schedule="cosine")
    assert (path / "run.json").read_bytes() == before
    opened(resume=True)


def test_more_may_be_asked_for(opened, path):
    opened()
    with pytest.raises(RunError, match="rounds is 3 there and 5 here"):
        opened(resume=True, rounds=5)
    opened(resume=True, may_grow=("rounds",), rounds=5)
    assert description(path)["settings"]["rounds"] == 5


@pytest.mark.parametrize("what", ["mpt_keras", "keras", "backend"])
def test_another_version_is_not_continued(what, opened, path):
    opened()
    there = description(path)
    now = there["versions"][what]
    there["versions"][what] = "older"
    (path / "run.json").write_text(json.dumps(there))
    expected = f"other versions: {what} is older there and {now} here"
    with pytest.raises(RunError, match=re.escape(expected)):
        opened(resume=True)


def test_other_versions_that_decide_nothing(opened, path):
    opened()
    there = description(path)
    there["versions"]["python"] = "older"
    (path / "run.json").write_text(json.dumps(there))
    opened(resume=True)


@pytest.mark.parametrize(
    "content", [None, "", "{", "[]", "{}", '{"settings": 1, "versions": {}}']
)
def test_files_that_are_no_run(content, opened, path):
    path.mkdir(parents=True)
    (path / "precious").write_text("precious")
    if content is not None:
        (path / "run.json").write_text(content)
    with pytest.raises(RunError, match="holds no run to resume"):
        opened(resume=True)
    assert (path / "precious").read_text() == "precious"


def test_a_folder_that_cannot_be_made(opened, path):
    path.parent.write_text("a file")
    with pytest.raises(RunError, match=r"Cannot use the folder .*Expected a"):
        opened()


def test_a_folder_in_use(opened, path, monkeypatch):
    """By another process; said at once, and changes nothing."""
    opened()
    script = (
        "import sys, time\n"
        "from mpt_keras.experiments import locks\n"
        "with locks.exclusive(sys.argv[1]):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with other:
        assert other.stdout.readline() == b"held\n"
        exclusive = locks.exclusive
        monkeypatch.setattr(
            locks, "exclusive", lambda path: exclusive(path, wait=0.01)
        )
        with pytest.raises(RunError, match="in use by another process"):
            opened(resume=True)
    opened(resume=True)


@pytest.mark.parametrize(
    ("written", "epochs", "left"),
    [
        ("epoch,loss\n0,0.5\n1,0.25\n2,0.125\n", 2, [0.5, 0.25]),
        ("epoch,loss\n0,0.5\n1,0.", 1, [0.5]),  # broken off within a line
        ("epoch,loss\n9,0.5\n1", 10, [0.5]),  # or within its number
        ("epoch,loss\n0,0.5\n", 0, []),
        ("epoch,loss\n1,0.5\n2,0.25\n3,0.1\n", 3, [0.5, 0.25]),
        ("epoch,loss\n2,0.5\n", 1, []),
        ("", 0, []),
    ],
)
def test_epochs_that_will_be_repeated_are_cut(written, epochs, left, tmp_path):
    file = tmp_path / "history.csv"
    history.cut(file, 3)
    assert history.read(file) == []
    file.write_text(written)
    history.cut(file, epochs)
    assert [row["loss"] for row in history.read(file)] == left
