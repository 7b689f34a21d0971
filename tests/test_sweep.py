"""A sweep trains every run once, whatever happens to it, and counts it once."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
import stub_experiment
from sweeps import (
    marks,
    names,
    starts,
    sweep_process,
    wait_for,
    without_seconds,
)

from mpt_keras.experiments import local_engine, locks, task
from mpt_keras.experiments import many_runs as sweep
from mpt_keras.experiments.errors import RunError
from mpt_keras.experiments.place import Place


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "sweep"


@pytest.fixture
def control(tmp_path):
    path = tmp_path / "control"
    path.mkdir()
    return path


@pytest.fixture
def run(control, monkeypatch):
    """Runs a sweep of stubs in this process; returns its lines."""
    monkeypatch.setattr(task, "WORKER", stub_experiment.WORKER)

    def run_it(folder, seeds=(0,), place=None, settings=None, **rest):
        engine = {
            key: rest.pop(key)
            for key in ("engine", "jobs", "address", "cpus", "gpus")
            if key in rest
        }
        units = stub_experiment.units(control, seeds, **rest)
        return sweep.run_sweep(
            units, folder, place, settings=settings, **engine
        )

    return run_it


def described(folder):
    return json.loads((folder / "sweep.json").read_text())


def lines_of(folder):
    text = (folder / "lines.jsonl").read_text()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


# --- What is trained ------------------------------------------------------


def test_each_unit_in_a_folder_of_its_own(run, folder, control, capsys):
    lines = run(folder, (4, 1), Place(images="a.npz"), epochs=3)
    assert names(lines) == ["stub-seed4", "stub-seed1"]
    assert names(lines_of(folder)) == names(lines)
    first, _ = lines
    assert first["settings"]["epochs"] == 3
    assert first["images"] == "a.npz"
    job = json.loads((folder / "stub-seed4.json").read_text())
    assert job["folder"] == str(folder / "stub-seed4")
    assert set(starts(folder).values()) == {1}
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(f"2 of 2 runs to train in '{folder}'")
    accuracy = f"test accuracy {first['test_accuracy']:.2%}, "
    assert printed[1].startswith(f"1 of 2 stub-seed4: {accuracy}")


def test_several_trainings_in_a_unit(run, folder, capsys):
    lines = run(folder, (0, 1), trainings=2)
    assert names(lines) == [
        *("stub-seed0/part0", "stub-seed0/part1"),
        *("stub-seed1/part0", "stub-seed1/part1"),
    ]
    assert "1 of 2 stub-seed0: 2 trainings, " in capsys.readouterr().out


def test_a_finished_sweep_trains_nothing_and_can_be_added_to(
    run, folder, capsys
):
    run(folder)
    before = (folder / "lines.jsonl").read_bytes()
    run(folder)
    assert (folder / "lines.jsonl").read_bytes() == before
    assert "(finished before)" in capsys.readouterr().out
    lines = run(folder, (1, 0))
    assert (folder / "lines.jsonl").read_bytes().startswith(before)
    assert names(lines) == ["stub-seed1", "stub-seed0"]
    assert set(starts(folder).values()) == {1}


def test_a_unit_that_is_asked_for_more(run, folder):
    run(folder, (0, 1))
    lines = run(folder, (0, 1), trainings=2)
    assert names(lines)[-2:] == ["stub-seed1/part0", "stub-seed1/part1"]
    assert set(starts(folder).values()) == {2}
    run(folder, (0, 1), trainings=2)
    assert set(starts(folder).values()) == {2}


def test_a_line_counts_although_its_run_was_removed(run, folder):
    before = run(folder)
    shutil.rmtree(folder / "stub-seed0")
    assert without_seconds(run(folder)) == without_seconds(before)
    assert not starts(folder)


@pytest.mark.parametrize("left", [0, 1, 40, -2, -1])
def test_a_line_that_was_cut_is_written_again(left, run, folder):
    before = without_seconds(run(folder, (0, 1), trainings=2))
    *lines, last = (folder / "lines.jsonl").read_text().splitlines(True)
    (folder / "lines.jsonl").write_text("".join(lines) + last[:left])
    assert without_seconds(run(folder, (0, 1), trainings=2)) == before
    assert (folder / "lines.jsonl").read_text().startswith("".join(lines))
    is_whole = left == -1  # but for its end
    assert starts(folder) == {"stub-seed0": 1, "stub-seed1": 1 + (not is_whole)}


@pytest.mark.parametrize("text", ["half a li", "[]", "3", '{"method": "x"}'])
def test_a_line_that_is_none(text, run, folder):
    run(folder)
    path = folder / "lines.jsonl"
    path.write_text(f"{path.read_text()}{text}\n")
    before = path.read_bytes()
    with pytest.raises(RunError, match=r"Line 2 of '.*' is not that of a tra"):
        run(folder, (0, 1))
    assert path.read_bytes() == before


def test_a_run_that_fails_does_not_stop_the_others(
    run, folder, control, capsys
):
    seeds = (0, 1, 2)
    (control / "fail-stub-seed1").touch()
    with pytest.raises(RunError, match="1 of 3 runs failed") as caught:
        run(folder, seeds)
    assert f"output is in {folder / 'stub-seed1.log'}" in str(caught.value)
    assert (
        "2 of 3 stub-seed1: failed with exit status 1: out of luck.\n"
    ) in capsys.readouterr().out
    assert "much before" in (folder / "stub-seed1.log").read_text()
    assert names(lines_of(folder)) == ["stub-seed0", "stub-seed2"]
    (control / "fail-stub-seed1").unlink()
    assert len(run(folder, seeds)) == 3
    begun = {"stub-seed0": 1, "stub-seed1": 2, "stub-seed2": 1}
    assert starts(folder) == begun


def test_what_nobody_foresaw_leaves_its_trace(run, folder, control, capsys):
    (control / "raise-stub-seed0").touch()
    with pytest.raises(RunError, match="1 of 1 runs failed"):
        run(folder)
    assert "exit status 1: ValueError: not foreseen" in capsys.readouterr().out
    assert "Traceback" in (folder / "stub-seed0.log").read_text()


def test_a_run_that_leaves_no_line(run, folder, capsys):
    with pytest.raises(RunError, match="1 of 1 runs failed"):
        run(folder, trainings=0)
    assert "failed: there is no line in" in capsys.readouterr().out


# --- Several at the same time ---------------------------------------------


def test_several_at_the_same_time(run, folder, control):
    for seed in range(2):
        (control / f"hold-stub-seed{seed}").touch()

    def let_go():
        wait_for(folder / "stub-seed0" / "starts")
        wait_for(folder / "stub-seed1" / "starts")
        assert not (folder / "stub-seed2").exists()
        (control / "hold-stub-seed1").unlink()
        wait_for(folder / "stub-seed2" / "ends")
        (control / "hold-stub-seed0").unlink()

    thread = threading.Thread(target=let_go)
    thread.start()
    lines = run(folder, range(3), jobs=2)
    thread.join()
    assert names(lines) == ["stub-seed0", "stub-seed1", "stub-seed2"]
    assert names(lines_of(folder))[0] == "stub-seed1"
    alone = run(folder.with_name("alone"), range(3))
    assert without_seconds(lines) == without_seconds(alone)


def test_they_share_the_machine(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert local_engine.shares(3)["OMP_NUM_THREADS"] == "2"
    assert local_engine.shares(9)["TF_NUM_INTRAOP_THREADS"] == "1"


# --- Killed ---------------------------------------------------------------

SEEDS = (0, 1, 2)
HELD = "stub-seed1"


@pytest.fixture(params=[1, 2], ids=["one", "two at a time"])
def held(request, folder, control):
    """In the middle of its second run."""
    (control / f"hold-{HELD}").touch()
    with sweep_process(folder, control, jobs=request.param) as process:
        wait_for(folder / HELD / "starts", process)
        while len(described(folder)["finished"]) < request.param:
            time.sleep(0.01)
        yield process


def assert_as_if_never_killed(run, folder):
    """Compares a finished sweep with one that no one killed."""
    uninterrupted = run(folder.with_name("uninterrupted"), SEEDS)
    lines = without_seconds(lines_of(folder))
    assert lines == without_seconds(uninterrupted)


def test_sweep_and_run_killed(held, run, folder, control):
    os.killpg(held.pid, signal.SIGKILL)
    assert held.wait() == -signal.SIGKILL
    (control / f"hold-{HELD}").unlink()
    run(folder, SEEDS)
    assert starts(folder) == {"stub-seed0": 1, HELD: 2, "stub-seed2": 1}
    assert_as_if_never_killed(run, folder)


def test_only_the_sweep_killed(held, run, folder, control):
    """Its run ends with it, or the next one waits until it has."""
    held.kill()
    assert held.wait() == -signal.SIGKILL
    with locks.exclusive(folder / HELD, wait=10):
        (control / f"hold-{HELD}").unlink()
        time.sleep(0.1)
        assert HELD not in marks(folder, "ends")
    run(folder, SEEDS)
    assert starts(folder) == {"stub-seed0": 1, HELD: 2, "stub-seed2": 1}
    assert marks(folder, "ends")[HELD] == 1
    assert_as_if_never_killed(run, folder)


def test_what_is_still_at_work_in_a_run_is_waited_for(run, folder):
    run(folder, (0,))
    (folder / HELD).mkdir()
    is_held = threading.Event()
    log = folder / f"{HELD}.log"

    def hold():
        with locks.exclusive(folder / HELD):
            is_held.set()
            while not log.exists():
                time.sleep(0.01)
            time.sleep(0.5)
            assert not (folder / HELD / "starts").exists()

    thread = threading.Thread(target=hold)
    thread.start()
    is_held.wait()
    assert len(run(folder, (0, 1))) == 2
    thread.join()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_end_it_ends_its_runs(number, held, folder, control):
    held.send_signal(number)
    printed = held.stdout.read()
    assert held.wait() == 1
    assert "Traceback" not in printed
    *_, last = printed.splitlines()
    assert last == (
        "refused: Stopped. Finished runs are kept, and so are the whole epochs "
        f"of the others. The same sweep in '{folder}' continues."
    )
    for busy in (folder, folder / HELD):
        with locks.exclusive(busy, wait=0):
            pass
    assert HELD not in names(lines_of(folder))


def test_what_terminates_it_is_as_it_was_before(run, folder):
    before = signal.getsignal(signal.SIGTERM)
    run(folder)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_sweep_in_a_thread(run, folder):
    found = []
    thread = threading.Thread(target=lambda: found.extend(run(folder)))
    thread.start()
    thread.join()
    assert names(found) == ["stub-seed0"]


# --- Locks ----------------------------------------------------------------


def test_two_sweeps_in_one_folder(held, run, folder):
    with pytest.raises(RunError, match=f"'{folder}' is in use by another"):
        run(folder, SEEDS)
    assert starts(folder)[HELD] == 1


def test_a_lock_that_is_held_may_be_asked_for_again(tmp_path):
    with locks.exclusive(tmp_path), locks.exclusive(tmp_path, wait=9.0):
        pass

    refused = []

    def another():
        try:
            with locks.exclusive(tmp_path, wait=0):
                pass
        except RunError as error:
            refused.append(str(error))

    with locks.exclusive(tmp_path):
        thread = threading.Thread(target=another)
        thread.start()
        thread.join()
    assert len(refused) == 1
    assert str(tmp_path) in refused[0]
    another()
    assert len(refused) == 1
    assert {file.name for file in tmp_path.iterdir()} <= {locks.NAME}


# --- Refused --------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["a", "a"],
        ["a/b"],
        ["../a"],
        [".lock"],
        [""],
        [],
    ],
)
def test_units_that_are_none(words, folder, control):
    stub = stub_experiment.Stub(str(control))
    with pytest.raises(ValueError, match="Invalid value for argument `units`"):
        sweep.run_sweep([(name, stub) for name in words], folder)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ({"engine": "slurm"}, ValueError, "Expected one of local, ray"),
        ({"jobs": 0}, ValueError, "`jobs`. Expected an integer of 1"),
        ({"engine": "ray", "jobs": 2}, RunError, "jobs=2 has no effect"),
        ({"address": "auto"}, RunError, "have no effect with engine='local'"),
        ({"gpus": 1}, RunError, "they need engine='ray'"),
        (
            {"place": Place(distribute="multiworker")},
            *(RunError, "each run is one process"),
        ),
    ],
)
def test_engines_that_are_none(words, error, message, run, folder):
    with pytest.raises(error, match=message):
        run(folder, **words)
    assert not folder.exists()


def contents(folder):
    return {
        path: path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_other_settings_or_versions_are_not_continued(run, folder):
    run(folder, settings={"epochs": 3, "milestones": (1, 2)})
    before = contents(folder)
    with pytest.raises(RunError, match=r"epochs is 3 there and 4 here\. Noth"):
        run(folder, (1,), settings={"epochs": 4, "milestones": (1, 2)})
    assert contents(folder) == before
    same = {"settings": {"epochs": 3, "milestones": (1, 2)}}
    assert len(run(folder, (0, 1), **same)) == 2
    description = described(folder)
    description["versions"]["keras"] = "2.0"
    (folder / "sweep.json").write_text(json.dumps(description))
    with pytest.raises(RunError, match=r"keras is 2.0 there and 3\."):
        run(folder, **same)


def test_images_may_have_moved(run, folder):
    run(folder, (0,), Place(data_dir="here"))
    assert len(run(folder, (0, 1), Place(data_dir="there"))) == 2
    assert starts(folder) == {"stub-seed0": 1, "stub-seed1": 1}


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"settings": {}}'])
def test_files_that_are_no_sweep(content, run, folder):
    folder.mkdir()
    (folder / "precious").write_text("precious")
    if content is not None:
        (folder / "sweep.json").write_text(content)
    before = contents(folder)
    with pytest.raises(RunError, match="that an earlier sweep wrote"):
        run(folder)
    assert contents(folder) == before


def test_a_sweep_killed_at_its_very_beginning(run, folder):
    folder.mkdir()
    (folder / ".lock").touch()
    (folder / "partial-0123").write_text('{"exa')
    assert len(run(folder)) == 1


def test_a_folder_that_cannot_be_made(run, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="Cannot use '"):
        run(tmp_path / "file" / "sweep")


def test_a_node_of_other_versions(run, folder, monkeypatch, capsys):
    of = task.Task.of

    def of_another(*arguments):
        made = of(*arguments)
        text = json.loads(made.text)
        text["versions"]["keras"] = "2.0"
        return task.dataclasses.replace(made, text=json.dumps(text))

    monkeypatch.setattr(task.Task, "of", of_another)
    with pytest.raises(RunError, match="1 of 1 runs failed"):
        run(folder)
    assert "keras is 2.0 there and 3." in capsys.readouterr().out
    assert not starts(folder)


def test_the_worker_needs_no_keras(tmp_path):
    program = (
        "import sys; from mpt_keras.experiments import many_runs, worker; "
        "print({'keras', 'tensorflow', 'jax', 'torch', 'ray'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert done.stdout.strip() == "set()", done.stderr


# --- With experiments that train ------------------------------------------

REAL = """
import json, sys
from mpt_keras.experiments import sweep
sweep(sys.argv[1], **json.loads(sys.argv[2]))
"""


def real(folder, **words):
    """The command of a sweep over scikit-learn's digits."""
    small = {"dataset": "digits", "model": "conv2", "width": 0.05}
    return [sys.executable, "-c", REAL, str(folder), json.dumps(small | words)]


def succeed(command):
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.distributed
def test_two_methods_on_images(folder):
    words = {"methods": ["dense", "mpt_1_1"], "epochs": 1, "jobs": 2}
    printed = succeed(real(folder, **words))
    assert "mpt_1_1-0.5-seed0: test accuracy" in printed
    by_name = {line["folder"]: line for line in lines_of(folder)}
    ticket = by_name["mpt_1_1-0.5-seed0"]
    kept = ticket["weights_kept"] / ticket["weights"]
    assert kept == pytest.approx(0.5, abs=2e-3)
    assert by_name["dense-seed0"]["method"] == "dense"
    assert described(folder)["versions"] == ticket["versions"]
    assert "(finished before)" in succeed(real(folder, **words))


@pytest.mark.slow
@pytest.mark.parametrize("orphaned", [False, True])
def test_a_killed_sweep_of_several_methods(orphaned, folder):
    words = {
        "methods": ["mpt_1_32", "mpt_1_1", "winning_ticket", "dense"],
        "epochs": 3,
    }
    whole = folder.with_name("whole")
    succeed(real(whole, **words))
    command = real(folder, **words)
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, start_new_session=True
    )
    second = folder / "mpt_1_1-0.5-seed0"
    while not list(second.glob("backup/epochs-*")):
        assert process.poll() is None
        time.sleep(0.01)
    if orphaned:
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = (folder / "lines.jsonl").read_bytes()
    succeed(command)
    assert (folder / "lines.jsonl").read_bytes().startswith(before)
    measured = ("seconds", "training_seconds", "images_per_second")
    expected, found = (
        [{k: v for k, v in ln.items() if k not in measured} for ln in lines]
        for lines in (lines_of(whole), lines_of(folder))
    )
    assert found == expected
