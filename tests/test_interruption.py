"""A run that is killed and resumed finds what it would have found."""

import json
import pathlib
import random
import shutil
import subprocess
import sys
import time

import backend
import conftest
import keras
import numpy as np
import pytest

import mpt_keras as mpt

pytest.importorskip("sklearn")

EXAMPLES = conftest.ROOT / "examples"
NETWORKS = ("binary_weights", "binary_weights_and_activations")


def command(folder, *arguments):
    return [
        sys.executable,
        EXAMPLES / "quickstart.py",
        f"--output_dir={folder}",
        *arguments,
    ]


def run(folder, *arguments):
    done = subprocess.run(
        command(folder, *arguments), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def start(folder, *arguments):
    return subprocess.Popen(
        command(folder, *arguments),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def found(folder):
    """Scores, masks, statistics and history of everything that a run found."""
    arrays = {}
    for name in NETWORKS:
        model = keras.models.load_model(folder / name / "last.keras")
        for index, layer in enumerate(mpt.masked_layers(model)):
            mask = keras.ops.convert_to_numpy(layer.mask())
            arrays[f"{name} mask {index}"] = mask
        for index, weight in enumerate(model.weights):
            value = keras.ops.convert_to_numpy(weight)
            arrays[f"{name} weight {index}"] = value
        result = json.loads((folder / name / "result.json").read_text())
        for key in ("test_accuracy_per_epoch", "test_loss", "train_loss"):
            arrays[f"{name} {key}"] = np.array(result[key])
    return arrays


def assert_same(found_one, found_other):
    assert found_one.keys() == found_other.keys()
    for name, value in found_one.items():
        np.testing.assert_array_equal(value, found_other[name], name)


def epochs_backed_up(folder):
    """Network -> epochs that are whole, where a backup is."""
    return {
        path.parts[-3]: int(path.name.rpartition("-")[2])
        for path in pathlib.Path(folder).glob("*/backup/epochs-*")
    }


@pytest.mark.distributed
@backend.not_on_torch  # where these networks take minutes
def test_a_killed_run_resumes_as_if_nothing_had_happened(tmp_path):
    settings = ("--epochs=4", "--seed=1")
    run(tmp_path / "whole", *settings)
    process = start(tmp_path / "killed", *settings)
    while epochs_backed_up(tmp_path / "killed").get(NETWORKS[0], 0) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -9
    assert not (tmp_path / "killed" / NETWORKS[0] / "result.json").exists()
    run(tmp_path / "killed", *settings, "--resume")
    assert_same(found(tmp_path / "killed"), found(tmp_path / "whole"))
    for name in NETWORKS:
        left = sorted(p.name for p in (tmp_path / "killed" / name).iterdir())
        whole = sorted(p.name for p in (tmp_path / "whole" / name).iterdir())
        assert left == whole
    # A run that had come to its end only says so again.
    result = tmp_path / "killed" / NETWORKS[0] / "result.json"
    before = result.stat()
    assert "test accuracy" in run(tmp_path / "killed", *settings, "--resume")
    assert before.st_mtime_ns == result.stat().st_mtime_ns


@pytest.mark.slow
def test_twenty_kills_at_random_moments(tmp_path):
    """Prints when each run was killed, and after how many whole epochs."""
    settings = ("--epochs=8", "--seed=1")
    run(tmp_path / "whole", *settings)
    expected = found(tmp_path / "whole")
    last = tmp_path / "whole" / NETWORKS[1] / "result.json"
    began = (tmp_path / "whole" / "run.json").stat().st_mtime
    seconds = last.stat().st_mtime - began
    draw = random.Random(0)
    kills = 0
    while kills < 20:
        folder = tmp_path / f"killed{kills}"
        process = start(folder, *settings)
        # Before it has a folder there is nothing to interrupt.
        while not (folder / "run.json").exists():
            time.sleep(0.001)
        moment = draw.uniform(0, seconds)
        time.sleep(moment)
        process.kill()
        if process.wait() != -9:
            shutil.rmtree(folder)  # had ended by itself
            continue
        kills += 1
        print(
            f"{kills}: killed after {moment:.2f} of {seconds:.2f} s, whole "
            f"epochs: {epochs_backed_up(folder)}"
        )
        run(folder, *settings, "--resume")
        assert_same(found(folder), expected)
