"""A run that is killed and resumed finds what it would have found."""

import json
import pathlib
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time

import backend
import conftest
import keras
import numpy as np
import pytest

import mpt_keras as mpt
from mpt_keras.callbacks import AtomicBackup
from mpt_keras.experiments import Search, history, shipping
from mpt_keras.experiments.command import in_one_line
from mpt_keras.experiments.training import Stopped

pytest.importorskip("sklearn")

PROGRAM = conftest.ROOT / "examples" / "cifar10_biprop.py"
SETTINGS = {
    "dataset": "digits",
    "model": "lenet_300_100",
    "width": 0.1,
    "batch_size": 64,
    "recycling": "highest",
    "recycling_every": 1,
    "seed": 1,
}
SEARCH = Search(epochs=4, **SETTINGS)
QUIET = {"verbose": "0"}


def found(folder):
    """Scores, masks, statistics, epochs and figures that a run found."""
    arrays = {}
    for path in sorted(folder.glob("**/last.keras")):
        name = path.parent.relative_to(folder).as_posix()
        model = keras.models.load_model(path)
        for index, layer in enumerate(mpt.masked_layers(model)):
            arrays[f"{name} mask {index}"] = backend.as_numpy(layer.mask())
        for index, weight in enumerate(model.weights):
            arrays[f"{name} weight {index}"] = backend.as_numpy(weight)
        for row in history.read(path.parent / history.FILE):
            for key, value in row.items():
                if "seconds" not in key:
                    arrays[f"{name} {row['epoch']} {key}"] = value
    for text in (folder / "lines.jsonl").read_text().splitlines():
        line = json.loads(text)
        for key, value in line.items():
            # A ticket has Keras' names of layers, numbered in each process.
            if "second" not in key and key != "ticket_bytes":
                arrays[f"{line['folder']} {key}"] = value
    return arrays


def files(folder):
    """Names of all files but those that are named after the time."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.glob("**/*")
        if "tensorboard" not in path.parts
    )


def assert_same(folder, other):
    here, there = found(folder), found(other)
    assert here.keys() == there.keys()
    for name, value in here.items():
        np.testing.assert_array_equal(value, there[name], name)
    assert files(folder) == files(other)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    SEARCH.run(folder, **QUIET)
    return folder


def stop_after(epochs, patch):
    """The epoch of that number ends, and then somebody presses Ctrl-C."""
    back_up = AtomicBackup.on_epoch_end

    def stop(self, epoch, logs=None):
        back_up(self, epoch, logs)
        if epoch + 1 == epochs:
            raise KeyboardInterrupt

    patch.setattr(AtomicBackup, "on_epoch_end", stop)


# --- By hand --------------------------------------------------------------


def test_a_stopped_run_resumes_as_if_nothing_had_happened(whole, tmp_path):
    folder = tmp_path / "run"
    for epochs in (1, 3):
        with pytest.MonkeyPatch.context() as patch:
            stop_after(epochs, patch)
            with pytest.raises(Stopped) as caught:
                SEARCH.run(folder, resume=True, **QUIET)
        assert caught.value.folder == folder
        assert caught.value.epochs == epochs
        assert not (folder / "lines.jsonl").exists()
        assert len(history.read(folder / "history.csv")) == epochs
        assert keras.models.load_model(folder / "last.keras")
    result = SEARCH.run(folder, resume=True, **QUIET)
    assert result.figures["epochs"] == 4
    assert_same(folder, whole)


def test_stopped_between_training_and_the_end(whole, tmp_path, monkeypatch):
    """What was trained is not trained again."""
    folder = tmp_path / "run"
    ship = shipping.ship

    def stop(*args):
        ship(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shipping, "ship", stop)
        with pytest.raises(Stopped) as caught:
            SEARCH.run(folder, **QUIET)
    assert (caught.value.folder, caught.value.epochs) == (folder, None)
    before = (folder / "last.keras").stat().st_mtime_ns
    SEARCH.run(folder, resume=True, **QUIET)
    assert (folder / "last.keras").stat().st_mtime_ns == before
    assert_same(folder, whole)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            Stopped(pathlib.Path("runs/a b"), 3),
            "p.py: stopped; epochs kept: 3. This continues: ",
        ),
        (
            Stopped(pathlib.Path("runs/a b"), None),
            "p.py: stopped; what was finished is kept. This continues: ",
        ),
    ],
)
def test_ctrl_c_is_one_line_with_the_command(error, words, monkeypatch):
    command = ["python", "p.py", "--seed=1", "--output_dir", "x", "--resume"]
    monkeypatch.setattr(sys, "orig_argv", command)
    with pytest.raises(SystemExit) as caught, in_one_line("p.py"):
        raise error
    before, after = str(caught.value).split(words)
    assert before == ""
    assert shlex.split(after) == [
        *(sys.executable, "p.py", "--seed=1", "--output_dir=runs/a b"),
        "--resume",
    ]


def test_ctrl_c_before_there_is_anything():
    with pytest.raises(SystemExit) as caught, in_one_line("p.py"):
        raise KeyboardInterrupt
    assert caught.value.code == "p.py: stopped, before anything was trained."


# --- Processes ------------------------------------------------------------


def command(folder, search):
    said = {k: v for k, v in search.to_json().items() if k != "kind"}
    words = [f"--{name}={value}" for name, value in said.items()]
    return [sys.executable, PROGRAM, *words, f"--output_dir={folder}"]


def start(folder, search, **options):
    return subprocess.Popen(
        [*command(folder, search), "--verbose=0", "--resume"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def resume(folder, search):
    words = [*command(folder, search), "--verbose=0", "--resume"]
    subprocess.run(words, check=True, capture_output=True)


def epochs_backed_up(folder):
    """Epochs that are whole, 0 where there is no backup."""
    names = [path.name for path in folder.glob("backup/epochs-*")]
    return max((int(name.rpartition("-")[2]) for name in names), default=0)


def wait_for(epochs, folder, process):
    while epochs_backed_up(folder) < epochs:
        assert process.poll() is None
        time.sleep(0.01)


@pytest.mark.distributed
@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
def test_a_process_that_ends_resumes(how, tmp_path):
    search = SEARCH.replace(epochs=30)
    search.run(tmp_path / "whole", **QUIET)
    folder = tmp_path / "run"
    with start(folder, search) as process:
        wait_for(2, folder, process)
        process.send_signal(getattr(signal, how))
        _, said = process.communicate()
    assert not (folder / "lines.jsonl").exists()
    if how == "SIGKILL":
        assert process.returncode == -9
        resume(folder, search)
    else:
        assert process.returncode == 1
        last = said.splitlines()[-1]
        assert last.startswith("cifar10_biprop.py: stopped; ")
        assert "Traceback" not in said
        words = shlex.split(last.split("This continues: ")[1])
        subprocess.run(words, check=True, capture_output=True)
    assert_same(folder, tmp_path / "whole")


@pytest.mark.distributed
def test_a_folder_in_use_by_another_process(tmp_path):
    search, folder = SEARCH.replace(epochs=500), tmp_path / "run"
    with start(folder, search) as process:
        wait_for(1, folder, process)
        second = start(folder, search)
        _, said = second.communicate()
        assert second.returncode == 1
        assert process.poll() is None
        process.kill()
    assert said.splitlines()[-1].startswith(
        f"cifar10_biprop.py: '{folder}' is in use by another process."
    )


@pytest.mark.slow
def test_twenty_kills_at_random_moments(tmp_path):
    """Prints when each run was killed, and after how many whole epochs."""
    search = SEARCH.replace(epochs=30)
    search.run(tmp_path / "whole", **QUIET)
    draw = random.Random(0)
    kills = 0
    while kills < 20:
        folder = tmp_path / f"killed{kills}"
        process = start(folder, search)
        # Before it has a folder there is nothing to interrupt.
        while not (folder / "run.json").exists():
            time.sleep(0.001)
        moment = draw.uniform(0, 10)
        time.sleep(moment)
        process.kill()
        process.communicate()
        if process.returncode != -9:
            shutil.rmtree(folder)  # had ended by itself
            continue
        kills += 1
        epochs = epochs_backed_up(folder)
        print(f"{kills}: killed after {moment:.2f} s, {epochs} whole epochs")
        resume(folder, search)
        assert_same(folder, tmp_path / "whole")
