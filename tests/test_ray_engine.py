"""A sweep on a Ray cluster, whose nodes come and go."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
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

from mpt_keras.experiments import locks, many_runs, ray_engine, task
from mpt_keras.experiments.errors import RunError

pytest.importorskip("ray")
pytestmark = pytest.mark.distributed

_MEMORY = 80_000_000  # bytes of shared memory, the least that Ray takes


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Cluster:
    """A head that trains nothing, and nodes of one CPU, on this machine."""

    def __init__(self, folder):
        self._folder = folder
        self._nodes = []
        self.address = f"127.0.0.1:{free_port()}"
        self._head = self._start(
            *("--head", f"--port={self.address.partition(':')[2]}"),
            *("--num-cpus=0", "--include-dashboard=false"),
            f"--temp-dir={folder}",
        )

    def add_node(self):
        self._nodes.append(
            self._start(f"--address={self.address}", "--num-cpus=1")
        )

    def _start(self, *words):
        # One at a time, and once more where the machine is too busy for it.
        for number in range(3):
            log = self._folder / f"start{len(self._nodes)}-{number}.log"
            with log.open("w") as output:
                process = subprocess.Popen(
                    [
                        *(pathlib.Path(sys.executable).with_name("ray"),),
                        *("start", *words, "--block", "--disable-usage-stats"),
                        f"--object-store-memory={_MEMORY}",
                    ],
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            while process.poll() is None:
                if "will now block" in log.read_text():
                    return process
                time.sleep(0.1)
        raise AssertionError(log.read_text())

    def kill_node(self):
        """As if its machine had lost its power."""
        self._kill(self._nodes.pop())

    def _kill(self, node):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(node.pid, signal.SIGKILL)
        node.wait()

    def close(self):
        for node in (*self._nodes, self._head):
            self._kill(node)


@pytest.fixture(scope="module")
def cluster():
    # A short path: those of its sockets may have 107 bytes.
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        contextlib.closing(Cluster(pathlib.Path(folder))) as made,
    ):
        made.add_node()
        made.add_node()
        yield made


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "sweep"


@pytest.fixture
def control(tmp_path):
    path = tmp_path / "control"
    path.mkdir()
    return path


@pytest.fixture
def run(cluster, control, monkeypatch):
    """Runs a sweep of stubs on the cluster; returns its lines."""
    monkeypatch.setattr(task, "WORKER", stub_experiment.WORKER)

    def run_it(folder, **words):
        words = {"engine": "ray", "address": cluster.address, **words}
        units = stub_experiment.units(control, range(3))
        return many_runs.run_sweep(units, folder, **words)

    return run_it


def hold(control, *seeds):
    for seed in seeds:
        (control / f"hold-stub-seed{seed}").touch()


def let_go(control):
    for file in control.iterdir():
        file.unlink()


def is_at_work(folder):
    try:
        with locks.exclusive(folder, wait=0):
            return False
    except RunError:
        return True


def test_the_same_lines_as_here(run, folder):
    lines = run(folder)
    here = run(folder.with_name("here"), engine="local", address=None)
    assert without_seconds(lines) == without_seconds(here)
    assert names(lines) == ["stub-seed0", "stub-seed1", "stub-seed2"]
    assert names(run(folder, engine="local", address=None)) == names(lines)
    assert set(starts(folder).values()) == {1}


def test_what_was_lost_with_a_node_is_continued(
    cluster, run, folder, control, tmp_path
):
    hold(control, 0, 1, 2)
    words = {"engine": "ray", "address": cluster.address}
    with sweep_process(folder, control, **words) as process:
        while len(starts(folder)) < 2:
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.05)
        cluster.kill_node()
        while all(is_at_work(folder / name) for name in starts(folder)):
            time.sleep(0.05)
        let_go(control)
        printed = process.stdout.read()
        assert process.wait() == 0, printed
    cluster.add_node()
    assert sorted(starts(folder).values()) == [1, 1, 2]
    assert set(marks(folder, "ends").values()) == {1}
    here = run(tmp_path / "here", engine="local", address=None)
    there = run(folder)
    assert without_seconds(there) == without_seconds(here)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_sweep_that_ends_leaves_no_run(number, cluster, run, folder, control):
    hold(control, 1)
    words = {"engine": "ray", "address": cluster.address}
    with sweep_process(folder, control, **words) as process:
        wait_for(folder / "stub-seed1" / "starts", process)
        process.send_signal(number)
        printed = process.stdout.read()
        status = process.wait()
    if number == signal.SIGTERM:
        assert status == 1
        # Not as the last line: Ray logs behind it, in its own time.
        assert "refused: Stopped. Finished runs are kept" in printed
        assert "Traceback" not in printed
    # Ray ends what a process that was killed has started, in its own time.
    end = time.monotonic() + 60.0
    while is_at_work(folder / "stub-seed1"):
        assert time.monotonic() < end, "The run was left at work."
        time.sleep(0.05)
    let_go(control)
    assert len(run(folder)) == 3
    assert starts(folder)["stub-seed1"] == 2
    assert marks(folder, "ends")["stub-seed1"] == 1


def test_a_run_that_fails_does_not_stop_the_others(
    run, folder, control, capsys
):
    (control / "fail-stub-seed1").touch()
    with pytest.raises(RunError, match="1 of 3 runs failed"):
        run(folder)
    printed = capsys.readouterr().out
    assert "stub-seed1: failed with exit status 1: out of luck.\n" in printed


def test_a_node_that_does_not_see_the_folder(run, folder, monkeypatch):
    monkeypatch.setattr(task.Task, "write", lambda self: None)
    monkeypatch.setattr(ray_engine, "_SEEN", 1.0)
    with pytest.raises(RunError, match=r"The Ray node .* does not see the sw"):
        run(folder)
    assert not starts(folder)


@pytest.mark.parametrize("address", ["nobody", "127.0.0.1:9", "silent"])
def test_an_address_that_does_not_answer(address, run, folder, monkeypatch):
    monkeypatch.setattr(ray_engine, "_ANSWER", 8.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        if address == "silent":
            address = f"127.0.0.1:{server.getsockname()[1]}"
        expected = f"No Ray cluster answers at address='{address}'"
        with pytest.raises(RunError, match=expected):
            run(folder, address=address)
    assert not starts(folder)


def test_no_node_is_large_enough(cluster, folder, control):
    words = {"engine": "ray", "address": cluster.address, "cpus": 64}
    with sweep_process(folder, control, **words) as process:
        for line in process.stdout:
            if line.startswith("No node of the Ray cluster has 64 CPUs"):
                break
        process.send_signal(signal.SIGINT)
        assert process.wait() == 1
    assert not starts(folder)
