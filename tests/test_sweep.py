"""A sweep trains every run once, whatever happens to it, and counts it once."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import backend
import conftest
import numpy as np
import pytest
from absl import flags

FLAGS = flags.FLAGS
EXAMPLES = conftest.ROOT / "examples"

# An example that trains nothing. It notes that it began, waits for as long as
# there is a file `hold-` and its folder's name, and fails for `fail-`.
TRAINER = """
import json, pathlib, random, sys, time
flags = dict(word[2:].partition("=")[::2] for word in sys.argv[1:])
folder = pathlib.Path(flags["output_dir"])
folder.mkdir(exist_ok=True)
with (folder / "starts").open("a") as file:
    file.write("begun ")
control = pathlib.Path(flags["control"])
while (control / f"hold-{folder.name}").exists():
    time.sleep(0.01)
if (control / f"fail-{folder.name}").exists():
    print("much before")
    print("Pass --helpshort or --helpfull to see help on flags.")
    sys.exit("trainer: out of luck.\\nPass --help")
if "silent" not in flags:
    numbers = random.Random(folder.name)
    accuracies = [numbers.random(), numbers.random()]
    result = {
        "model": "net", "data": "noise", "seed": 7, "sparsity": 0.4999,
        "test_accuracy": accuracies[-1], "best_test_accuracy": max(accuracies),
        "test_accuracy_per_epoch": accuracies, "seconds": time.time(),
        "weights": 8, "layers": {}, "ticket": "/somewhere", "flags": flags,
    }
    beside = folder / "result.partial"
    beside.write_text(json.dumps(result))
    beside.replace(folder / "result.json")
"""


@pytest.fixture
def sweep(example, tmp_path, monkeypatch):
    """The module, with an example that trains nothing."""
    module = example("sweep")
    examples = tmp_path / "examples"
    examples.mkdir()
    (examples / "cifar10_biprop.py").write_text(TRAINER)
    for name in ("command", "run_folder", "sweep"):
        shutil.copy(EXAMPLES / f"{name}.py", examples)
    monkeypatch.setattr(module, "EXAMPLES", examples)
    return module


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "sweep"


@pytest.fixture
def control(tmp_path):
    path = tmp_path / "control"
    path.mkdir()
    return path


@pytest.fixture
def run(sweep, control):
    """Runs a sweep in this process; returns its lines."""

    def run_it(folder, *passed_on, **lists):
        for name, values in lists.items():
            FLAGS[name].value = values
        sweep.sweep(folder, [f"--control={control}", *passed_on])
        return lines_of(folder)

    return run_it


def lines_of(folder):
    text = (folder / "runs.jsonl").read_text()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def starts(folder):
    """Run -> how often it was begun."""
    return {
        file.parent.name: file.read_text().count("begun")
        for file in folder.glob("*/starts")
    }


def names(lines):
    return [line["folder"] for line in lines]


def without_seconds(lines):
    left = ("seconds", "flags")
    return [{k: v for k, v in ln.items() if k not in left} for ln in lines]


# --- What is trained ------------------------------------------------------


def test_methods_by_sparsities_by_seeds(run, folder, control, capsys):
    lines = run(
        folder,
        "--epochs=3",
        methods=["mpt_1_1_bn", "dense_binary", "mpt_1_1_bn"],
        sparsities=["0.5", ".50", "0"],
        seeds=["4", "1"],
    )
    assert names(lines) == [
        *("mpt_1_1_bn-0.5-seed4", "mpt_1_1_bn-0.0-seed4", "dense_binary-seed4"),
        *("mpt_1_1_bn-0.5-seed1", "mpt_1_1_bn-0.0-seed1", "dense_binary-seed1"),
    ]
    first, _, dense, *_ = lines
    assert first["flags"] == {
        "method": "biprop",
        "binary_activations": "",
        "trained_batch_norm": "",
        "sparsity": "0.5",
        "seed": "4",
        "output_dir": str(folder / "mpt_1_1_bn-0.5-seed4"),
        "resume": "",
        "control": str(control),
        "epochs": "3",
    }
    assert "sparsity" not in dense["flags"]
    assert (first["sparsity"], first["seed"]) == (0.5, 4)
    assert (dense["sparsity"], dense["method"]) == (None, "dense_binary")
    assert first["arguments"] == [f"--control={control}", "--epochs=3"]
    assert len(first["test_accuracy_per_epoch"]) == 2
    assert not {"ticket", "layers"} & first.keys()
    assert set(starts(folder).values()) == {1}
    printed = capsys.readouterr().out.splitlines()
    accuracy = f"test accuracy {dense['test_accuracy']:.2%}, "
    assert printed[2].startswith(f"3 of 6 dense_binary-seed4: {accuracy}")
    assert len((folder / "table.md").read_text().splitlines()) == 2 + 3


def test_a_finished_sweep_trains_nothing_and_can_be_added_to(
    run, folder, capsys
):
    run(folder, methods=["dense"], seeds=["0"])
    before = (folder / "runs.jsonl").read_bytes()
    run(folder, methods=["dense"], seeds=["0"])
    assert (folder / "runs.jsonl").read_bytes() == before
    assert "(finished before)" in capsys.readouterr().out
    more = {"methods": ["edge_popup", "dense"], "sparsities": ["0.5"]}
    lines = run(folder, **more, seeds=["0", "1"])
    assert (folder / "runs.jsonl").read_bytes().startswith(before)
    assert sorted(names(lines)) == [
        *("dense-seed0", "dense-seed1"),
        *("edge_popup-0.5-seed0", "edge_popup-0.5-seed1"),
    ]
    assert set(starts(folder).values()) == {1}


def test_a_line_counts_although_its_run_was_removed(run, folder):
    before = run(folder, methods=["dense"])
    shutil.rmtree(folder / "dense-seed0")
    assert run(folder, methods=["dense"]) == before


@pytest.mark.parametrize("left", [0, 1, 40, -1])
def test_a_line_that_was_cut_is_written_again(left, run, folder):
    before = run(folder, methods=["dense"], seeds=["0", "1"])
    first, second = (folder / "runs.jsonl").read_text().splitlines()
    cut = first + "\n" + (second + "\n")[:left]
    (folder / "runs.jsonl").write_text(cut)
    assert run(folder, methods=["dense"], seeds=["0", "1"]) == before
    assert set(starts(folder).values()) == {1}


def test_a_run_that_fails_does_not_stop_the_others(
    run, folder, control, run_error, capsys
):
    seeds = {"methods": ["dense"], "seeds": ["0", "1", "2"]}
    (control / "fail-dense-seed1").touch()
    with pytest.raises(run_error, match="1 of 3 runs failed") as caught:
        run(folder, **seeds)
    assert f"output is in {folder / 'dense-seed1.log'}" in str(caught.value)
    assert (
        "2 of 3 dense-seed1: failed with exit status 1: trainer: out of luck.\n"
    ) in capsys.readouterr().out
    assert "much before" in (folder / "dense-seed1.log").read_text()
    assert names(lines_of(folder)) == ["dense-seed0", "dense-seed2"]
    assert (folder / "table.md").exists()
    (control / "fail-dense-seed1").unlink()
    assert len(run(folder, **seeds)) == 3
    begun = {"dense-seed0": 1, "dense-seed1": 2, "dense-seed2": 1}
    assert starts(folder) == begun


def test_a_run_that_leaves_no_result(run, folder, run_error, capsys):
    with pytest.raises(run_error, match="1 of 1 runs failed"):
        run(folder, "--silent", methods=["dense"])
    assert "failed: no result in" in capsys.readouterr().out
    assert not (folder / "table.md").exists()


# --- Killed ---------------------------------------------------------------

SEEDS = {"methods": ["dense"], "seeds": ["0", "1", "2"]}
HELD = "dense-seed1"


@pytest.fixture
def held(sweep, folder, control):
    """A sweep in a process of its own, in the middle of its second run."""
    (control / f"hold-{HELD}").touch()
    # A test run in the background ignores Ctrl-C, and so would its children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [
            *(sys.executable, sweep.EXAMPLES / "sweep.py"),
            *(f"--output_dir={folder}", "--methods=dense", "--seeds=0,1,2"),
            *("--", f"--control={control}"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    signal.signal(signal.SIGINT, before)
    while not (folder / HELD / "starts").exists():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.01)
    yield process
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def is_at_work(folder):
    with (folder / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def assert_as_if_never_killed(run, folder):
    """Compares a finished sweep with one that no one killed."""
    uninterrupted = run(folder.with_name("uninterrupted"), **SEEDS)
    lines = without_seconds(lines_of(folder))
    assert lines == without_seconds(uninterrupted)


def test_sweep_and_run_killed(held, run, folder, control, capsys):
    os.killpg(held.pid, signal.SIGKILL)
    assert held.wait() == -signal.SIGKILL
    (control / f"hold-{HELD}").unlink()
    run(folder, **SEEDS)
    assert starts(folder) == {"dense-seed0": 1, HELD: 2, "dense-seed2": 1}
    assert_as_if_never_killed(run, folder)


def test_only_the_sweep_killed(held, run, folder, control, capsys, monkeypatch):
    """The next one waits for the run that is left, and takes its result."""
    held.kill()
    assert held.wait() == -signal.SIGKILL
    assert is_at_work(folder)

    def let_go_and_wait(file, operation):
        if operation == fcntl.LOCK_EX:
            (control / f"hold-{HELD}").unlink()
        lock(file, operation)

    lock = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", let_go_and_wait)
    run(folder, **SEEDS)
    waiting = f"Waiting for the run that is still at work in '{folder}'."
    assert waiting in capsys.readouterr().out
    assert set(starts(folder).values()) == {1}
    assert_as_if_never_killed(run, folder)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_end_it_ends_its_run(number, held, folder):
    held.send_signal(number)
    printed = held.stdout.read()
    assert held.wait() == 1
    assert "Traceback" not in printed
    *_, there, last = printed.splitlines()
    assert there == f"2 of 3 {HELD}: stopped"
    assert last.startswith("sweep.py: Stopped. Finished runs are kept")
    assert not is_at_work(folder)
    assert names(lines_of(folder)) == ["dense-seed0"]


# --- Refused --------------------------------------------------------------


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"methods": ["mpt"]}, "Invalid --methods.*mpt_1_32.*'mpt'"),
        ({"methods": []}, "Invalid --methods.*Received: none"),
        ({"sparsities": ["1.0"]}, r"Invalid --sparsities.*\[0, 1\).*'1.0'"),
        ({"sparsities": ["0.5", "nan"]}, "Received: 'nan'"),
        ({"sparsities": ["-0.1"]}, "Received: '-0.1'"),
        ({"sparsities": ["half"]}, "Received: 'half'"),
        ({"sparsities": []}, "Invalid --sparsities.*Received: none"),
        ({"seeds": ["1.5"]}, "Invalid --seeds.*integers.*'1.5'"),
        ({"seeds": ["-1"]}, "Invalid --seeds.*'-1'"),
        ({"seeds": []}, "Invalid --seeds.*Received: none"),
    ],
)
def test_lists_that_are_none(lists, message, run, folder, run_error):
    with pytest.raises(run_error, match=message):
        run(folder, **lists)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("passed_on", "message"),
    [
        (["--seed=3"], "--seed cannot be passed on: the sweep sets it"),
        (["--epochs=3", "-sparsity", "0.5"], "--sparsity cannot be passed on"),
        (["--nobinary_activations"], "--nobinary_activations cannot be"),
        (["--output_dir=x"], "Use --methods, --sparsities"),
        (["--flagfile=x"], "--flagfile cannot be passed on"),
        (["--epochs=3", "--", "--seed=3"], "cannot be passed on"),
        (["--epochs=3", "--"], "-- cannot be passed on"),
    ],
)
def test_flags_that_cannot_be_passed_on(
    passed_on, message, run, folder, run_error
):
    with pytest.raises(run_error, match=message):
        run(folder, *passed_on)
    assert not folder.exists()


def test_words_without_a_flag(sweep, folder, run_error):
    with pytest.raises(run_error, match="Unexpected 'conv4'"):
        sweep.sweep(folder, ["conv4"])


def test_no_folder_is_named(sweep, run_error):
    FLAGS.output_dir = None
    with pytest.raises(run_error, match="--output_dir is missing"):
        sweep.main(["sweep.py"])


def contents(folder):
    return {
        path: path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_other_settings_or_versions_are_not_continued(run, folder, run_error):
    run(folder, "--epochs=3", "--deterministic", methods=["dense"])
    before = contents(folder)
    expected = "--deterministic is true there and None here, --epochs is 3"
    with pytest.raises(run_error, match=expected):
        run(folder, "--epochs=4")
    FLAGS.example = "imagenet_biprop"
    expected = "--example is cifar10_biprop there and imagenet_biprop here"
    with pytest.raises(run_error, match=expected):
        run(folder, "--epochs=3", "--deterministic")
    FLAGS.example = "cifar10_biprop"
    assert contents(folder) == before
    description = json.loads((folder / "sweep.json").read_text())
    description["versions"]["keras"] = "2.0"
    (folder / "sweep.json").write_text(json.dumps(description))
    with pytest.raises(run_error, match=r"keras is 2.0 there and 3\."):
        run(folder, "--epochs=3", "--deterministic")


def test_images_may_have_moved(run, folder):
    run(folder, "--epochs=3", "--data_dir=here", methods=["dense"])
    moved = ("--data_dir", "there", "--epochs", "3")
    assert len(run(folder, *moved, seeds=["0", "1"])) == 2


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"example": "x"}'])
def test_files_that_are_no_sweep(content, run, folder, run_error):
    folder.mkdir()
    (folder / "precious").write_text("precious")
    if content is not None:
        (folder / "sweep.json").write_text(content)
    before = contents(folder)
    with pytest.raises(run_error, match="that an earlier sweep wrote"):
        run(folder)
    assert contents(folder) == before


def test_a_sweep_killed_at_its_very_beginning(run, folder):
    folder.mkdir()
    (folder / "lock").touch()
    (folder / "sweep.partial").write_text('{"exa')
    assert len(run(folder, methods=["dense"])) == 1
    assert not list(folder.glob("*.partial"))


def test_a_folder_that_cannot_be_made(sweep, tmp_path, run_error, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    (tmp_path / "file").touch()
    FLAGS.output_dir = str(tmp_path / "file" / "sweep")
    with pytest.raises(run_error, match="Cannot use --output_dir="):
        sweep.main(["sweep.py"])


def test_nothing_to_report(sweep, folder, run_error, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    FLAGS.output_dir, FLAGS.report = str(folder), True
    with pytest.raises(run_error, match="No finished run in"):
        sweep.main(["sweep.py"])
    assert not folder.exists()


# --- With the example that trains -----------------------------------------


@pytest.fixture
def real(rng, tmp_path):
    """The command of a sweep over a small file of images."""
    labels = rng.integers(0, 10, 96)
    noise = rng.integers(0, 100, (96, 32, 32, 3))
    pixels = (noise + 15 * labels[:, None, None, None]).astype("uint8")
    np.savez(
        tmp_path / "images.npz",
        train_images=pixels,
        train_labels=labels,
        test_images=pixels[:40],
        test_labels=labels[:40],
    )

    def command(folder, methods, epochs):
        return [
            *(sys.executable, EXAMPLES / "sweep.py", f"--output_dir={folder}"),
            *(f"--methods={methods}", "--"),
            *(f"--images={tmp_path / 'images.npz'}", f"--epochs={epochs}"),
            *("--model=conv2", "--width=0.05", "--batch_size=32"),
        ]

    return command


def succeed(command):
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.distributed
@backend.needs_tensorflow
def test_two_methods_on_images(real, folder):
    printed = succeed(real(folder, "dense,mpt_1_1", epochs=1))
    assert "2 of 2 mpt_1_1-0.5-seed0: test accuracy" in printed
    dense, ticket = lines_of(folder)
    kept = ticket["weights_kept"] / ticket["weights"]
    assert kept == pytest.approx(0.5, abs=1e-3)
    assert "weights" not in dense
    assert (ticket["replicas"], ticket["model"]) == (1, "conv2")
    result = json.loads((folder / ticket["folder"] / "result.json").read_text())
    assert ticket["test_accuracy"] == result["test_accuracy"]
    assert ticket["versions"] == result["versions"]
    description = json.loads((folder / "sweep.json").read_text())
    assert description["versions"] == result["versions"]
    log = (folder / "dense-seed0.log").read_text()
    assert "conv2 on cifar10: test accuracy" in log


@pytest.mark.slow
@backend.needs_tensorflow
@pytest.mark.parametrize("orphaned", [False, True])
def test_a_killed_sweep_of_all_methods(orphaned, real, sweep, folder):
    methods = ",".join(sweep.METHODS)
    whole = folder.with_name("whole")
    succeed(real(whole, methods, epochs=3))
    killed = real(folder, methods, epochs=3)
    process = subprocess.Popen(
        killed, stdout=subprocess.DEVNULL, start_new_session=True
    )
    backup = folder / "mpt_1_1-0.5-seed0" / "backup"
    while not list(backup.glob("epochs-*")):
        assert process.poll() is None
        time.sleep(0.01)
    if orphaned:
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    first = folder / "mpt_1_32-0.5-seed0" / "result.json"
    before = first.stat().st_mtime_ns
    assert ("Waiting for" in succeed(killed)) == orphaned
    assert first.stat().st_mtime_ns == before
    measured = ("seconds", "images_per_second")
    expected, found = (
        [{k: v for k, v in ln.items() if k not in measured} for ln in lines]
        for lines in (lines_of(whole), lines_of(folder))
    )
    assert found == expected


def test_tables_are_never_cut_short(example, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    name = "a_method_with_a_very_long_name_indeed"
    example("tables").print_table([("method", "accuracy"), (name, "97.51 %")])
    assert f"{name}   97.51 %" in capsys.readouterr().out
