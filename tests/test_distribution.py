"""Several devices and several machines find what one device finds."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import backend
import conftest
import keras
import numpy as np
import pytest

from mpt_keras.experiments import devices, history, rendezvous, restart
from mpt_keras.experiments.devices import Devices
from mpt_keras.experiments.errors import RunError
from mpt_keras.experiments.place import Place

pytest.importorskip("sklearn")

# An odd number of images is held out, which the replicas cannot share evenly;
# on JAX they would have to.
VALIDATION = 131 if backend.NAME == "tensorflow" else 130
SETTINGS = ("--epochs=3", "--drop_remainder", f"--validation={VALIDATION}")
MIRRORED = ("--distribute=mirrored", "--cpu_devices=2")


def free_addresses(count):
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return [f"127.0.0.1:{port}" for port in ports]


def start(folder, *arguments, addresses=None, index=0):
    environment = {**os.environ}
    if addresses is not None:
        task = {"type": "worker", "index": index}
        config = {"cluster": {"worker": addresses}, "task": task}
        environment["TF_CONFIG"] = json.dumps(config)
        arguments = (*arguments, "--distribute=multiworker")
    return subprocess.Popen(
        [
            sys.executable,
            conftest.ROOT / "tests" / "distributed_run.py",
            f"--output_dir={folder}",
            *arguments,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def finish(*processes):
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    return errors


def two_workers(folder, *arguments):
    addresses = free_addresses(2)
    finish(
        *(
            start(folder, *arguments, addresses=addresses, index=index)
            for index in range(2)
        )
    )


def values(folder, worker=0):
    with np.load(folder / f"worker{worker}.npz") as file:
        return dict(file)


def epochs(folder):
    """What every epoch logs, but how long it took; columns sorted by name."""
    rows = history.read(folder / history.FILE)
    names = sorted(name for name in rows[0] if "seconds" not in name)
    assert {"loss", "test_loss", "val_loss", "val_accuracy"} <= set(names)
    return np.array([[row[name] for name in names] for row in rows])


def assert_replicas_identical(found):
    for name, value in found.items():
        first = f"{name.rpartition(' of ')[0]} of 0"
        if not name.startswith("mask of "):
            np.testing.assert_array_equal(value, found[first], name)


def assert_same_ticket(found, expected):
    for name, value in expected.items():
        if name.startswith("mask of "):
            np.testing.assert_array_equal(found[name], value, name)
        else:
            np.testing.assert_allclose(
                found[name], value, rtol=1e-4, atol=1e-5, err_msg=name
            )


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    folders = {}

    def get(*arguments):
        if arguments not in folders:
            folder = tmp_path_factory.mktemp("one") / "run"
            finish(start(folder, *SETTINGS, *arguments))
            folders[arguments] = folder
        return folders[arguments]

    return get


@pytest.mark.distributed
@backend.not_on_torch
@pytest.mark.parametrize("arguments", [(), ("--global_sparsity",)])
def test_two_replicas_find_the_ticket_of_one(arguments, one_device, tmp_path):
    folder = tmp_path / "run"
    finish(start(folder, *SETTINGS, *MIRRORED, *arguments))
    found = values(folder)
    on_tensorflow = backend.NAME == "tensorflow"  # JAX keeps one array
    assert any(name.endswith(" of 1") for name in found) == on_tensorflow
    assert_replicas_identical(found)
    assert_same_ticket(found, values(one_device(*arguments)))
    np.testing.assert_allclose(
        epochs(folder), epochs(one_device(*arguments)), atol=1e-4
    )
    # What is shipped loads on every backend, where nothing is synchronized.
    shipped = keras.models.load_model(folder / "ticket.keras")
    assert '"synchronized": true' not in shipped.to_json()


@pytest.mark.distributed
@backend.needs_tensorflow
@pytest.mark.parametrize(
    "arguments", [(), ("--global_sparsity", "--cpu_devices=1")]
)
def test_two_workers_find_the_ticket_of_one(arguments, one_device, tmp_path):
    folder = tmp_path / "run"
    two_workers(folder, *SETTINGS, *arguments)
    found = [values(folder, worker) for worker in range(2)]
    for name, value in found[0].items():
        np.testing.assert_array_equal(found[1][name], value, name)
    assert_same_ticket(found[0], values(one_device(*arguments[:1])))
    np.testing.assert_allclose(
        epochs(folder), epochs(one_device(*arguments[:1])), atol=1e-4
    )


@pytest.mark.distributed
@backend.needs_tensorflow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_worker_comes_back(victim, tmp_path):
    settings = ("--epochs=5", *SETTINGS[1:])
    two_workers(tmp_path / "whole", *settings)
    folder = tmp_path / "killed"
    addresses = free_addresses(2)

    def worker(index, *arguments):
        return start(
            folder, *settings, *arguments, addresses=addresses, index=index
        )

    workers = [worker(0), worker(1)]
    while not (folder / "backup" / "epochs-2").exists():
        assert all(process.poll() is None for process in workers)
        time.sleep(0.005)
    workers[victim].kill()
    workers[victim].communicate()
    assert workers[victim].returncode == -signal.SIGKILL
    assert not (folder / "worker0.npz").exists()
    survivor = workers[1 - victim]
    finish(worker(victim, "--resume"))
    assert "has lost another one" in finish(survivor)
    for index in range(2):
        found = values(folder, index)
        for name, value in values(tmp_path / "whole", index).items():
            np.testing.assert_array_equal(found[name], value, name)
    assert not (folder / "backup").exists()


# --- Bad input ------------------------------------------------------------


def test_a_worker_that_never_appears():
    addresses = free_addresses(3)
    nobody = [f"worker {i} at {addresses[i]}" for i in (1, 2)]
    with pytest.raises(RunError, match=f"{nobody[0]}, {nobody[1]}"):
        rendezvous.meet(addresses, 0, timeout=0.5)


@pytest.mark.distributed
@backend.needs_tensorflow
def test_a_worker_that_is_gone_after_the_meeting(tmp_path):
    addresses = free_addresses(2)
    worker = start(tmp_path, "--worker_timeout=20", addresses=addresses)
    rendezvous.meet(addresses, 1, timeout=60)
    _, errors = worker.communicate(timeout=120)
    assert worker.returncode != 0
    assert "Timeout (0:00:20)!" in errors
    assert "devices.py" in errors


def test_workers_meet_in_any_order():
    addresses = free_addresses(3)
    failures = []

    def come(index, delay):
        time.sleep(delay)
        try:
            rendezvous.meet(addresses, index, timeout=20)
        except RunError as error:
            failures.append(error)

    threads = [
        threading.Thread(target=come, args=(index, delay))
        for index, delay in [(0, 0.4), (1, 0.0), (2, 0.8)]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    for address in addresses:  # free for TensorFlow
        socket.create_server(("", int(address.rpartition(":")[2]))).close()


def test_a_stranger_at_a_workers_address_is_no_worker():
    """Such as the server of a worker that has not noticed a loss yet."""
    addresses = free_addresses(2)
    with socket.create_server(("", int(addresses[1].rpartition(":")[2]))):
        with pytest.raises(RunError, match="in vain for worker 1 at"):
            rendezvous.meet(addresses, 0, timeout=0.5)
        with pytest.raises(RunError, match="Cannot listen at"):
            rendezvous.meet(addresses, 1, timeout=0.5)


@backend.needs_tensorflow
@pytest.mark.parametrize(
    "config",
    [
        None,
        "{",
        "[]",
        '{"cluster": {"worker": ["a:1"]}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}',
        '{"cluster": {"worker": ["a:1"]}, "task":'
        ' {"type": "worker", "index": 1}}',
    ],
)
def test_a_cluster_that_is_none(config, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(RunError, match="TF_CONFIG, such as"):
        devices.start(32, Place(distribute="multiworker"), "run")


@backend.needs_tensorflow
def test_workers_without_a_common_folder():
    with pytest.raises(RunError, match="a folder that all workers"):
        devices.start(32, Place(distribute="multiworker"))


@backend.needs_tensorflow
def test_workers_in_a_process_that_has_computed(monkeypatch):
    """As in a notebook; TensorFlow sets workers up once, and first."""
    (address,) = free_addresses(1)
    task = {"type": "worker", "index": 0}
    config = {"cluster": {"worker": [address]}, "task": task}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    keras.ops.ones(1)
    with pytest.raises(RunError, match="comes too late"):
        devices.start(32, Place(distribute="multiworker"), "run")


@backend.needs_tensorflow
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no-such-tpu", "No TPU found by tpu=no-such-tpu"),
        ("local", "No TPU found by tpu=local"),
        ("grpc://127.0.0.1:9", "127.0.0.1:9 does not answer"),
    ],
)
def test_a_tpu_that_is_not_there(name, reason):
    place = Place(distribute="tpu", tpu=name, worker_timeout=2.0)
    with pytest.raises(RunError, match=reason) as caught:
        devices.start(32, place)
    assert "grpc://host:port" in str(caught.value)


@pytest.mark.skipif(
    backend.NAME == "tensorflow", reason="needs another backend"
)
@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("distribute", "multiworker"),
        ("distribute", "tpu"),
        ("deterministic", True),
    ],
)
def test_settings_that_are_tensorflows(setting, value):
    expected = f"{setting}={value} needs the TensorFlow backend"
    with pytest.raises(RunError, match=expected):
        devices.start(32, Place(**{setting: value}))


@backend.not_on_torch
def test_a_processor_that_has_computed_already():
    keras.ops.ones(1)
    with pytest.raises(RunError, match="cpu_devices=7 comes too late"):
        devices.start(32, Place(cpu_devices=7))


@pytest.mark.skipif(backend.NAME != "jax", reason="JAX keeps it globally")
def test_one_device_after_several():
    try:
        devices.start(32, Place(distribute="mirrored"))
        assert keras.distribution.distribution() is not None
        assert devices.start(32, Place()) == Devices()
        assert keras.distribution.distribution() is None
    finally:
        keras.distribution.set_distribution(None)


@pytest.mark.skipif(backend.NAME != "tensorflow", reason="of TensorFlow")
def test_runs_of_one_process_share_a_strategy():
    # On several processors the sums of a second one are those of the first.
    first, second = (
        devices.start(32, Place(distribute="mirrored")) for _ in range(2)
    )
    assert first.strategy is second.strategy is not None


def test_a_batch_that_does_not_divide(monkeypatch):
    two = Devices(replicas=2)
    monkeypatch.setattr(devices, "_mirrored", lambda place: two)
    mirrored = Place(distribute="mirrored")
    with pytest.raises(RunError, match="nearest that does is 32") as caught:
        devices.start(33, mirrored)
    message = "batch_size=33 does not divide by the 2 replicas"
    assert message in str(caught.value)
    assert devices.start(34, mirrored) is two


@pytest.mark.parametrize(
    ("count", "replicas", "strategy", "expected"),
    [
        (10_000, 1, None, 500),
        (1001, 1, None, 500),
        (21, 2, object(), 18),  # the first batch in equal parts
        (10_000, 2, object(), 500),
        (10_000, 3, object(), 498),
        (501, 2, object(), 498),  # 500 would leave a replica without an image
        (360, 2, None, 360),
        (10_000, 8, None, 400),
        (10_000, 1000, object(), 1000),
    ],
)
def test_no_replica_evaluates_nothing(count, replicas, strategy, expected):
    several = Devices(strategy, replicas)
    assert several.evaluation_batch(count, 500) == expected


def test_images_that_jax_cannot_share():
    with pytest.raises(RunError, match="would not share them evenly"):
        Devices(None, 3).evaluation_batch(10_000, 500)


def test_a_remainder_is_not_shared():
    assert not Devices().drops_remainder(False)
    assert Devices().drops_remainder(True)
    with pytest.raises(RunError, match="drop_remainder=False needs one device"):
        Devices(replicas=2).drops_remainder(False)
    assert Devices(replicas=2).drops_remainder()
    assert not Devices().drops_remainder()


def test_what_several_workers_cannot():
    Devices(replicas=2).check_one_machine("rewind")
    with pytest.raises(RunError, match="multiworker cannot rewind"):
        Devices(replicas=2, workers=2).check_one_machine("rewind")


# --- A command starts itself again ----------------------------------------

TWICE = """
import sys
from mpt_keras.experiments import restart
print(sys.argv[1:], __name__, sys.flags.dont_write_bytecode)
if len(sys.argv) < 4:
    restart.start_again()
"""


@pytest.mark.parametrize("way", ["script", "module", "installed"])
def test_a_command_starts_itself_again(way, tmp_path):
    """With the options of Python, and from the same folder."""
    package = tmp_path / "program"
    package.mkdir()
    (package / "__main__.py").write_text(f"import program.other\n{TWICE}")
    (package / "other.py").write_text("")
    (tmp_path / "script.py").write_text(TWICE)
    installed = tmp_path / "installed"
    installed.write_text(f"#!{sys.executable} -B{TWICE}")
    installed.chmod(0o755)
    command = {
        "script": [sys.executable, "-B", "script.py"],
        "module": [sys.executable, "-B", "-m", "program"],
        "installed": [installed],
    }[way]
    done = subprocess.run(
        [*command, "search", "--a=b c"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(conftest.ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"['search', {words}] __main__ 1"
        for words in ("'--a=b c'", "'--a=b c', '--resume'")
    ]


def test_a_command_that_resumes_already(monkeypatch):
    words = ["python", "-m", "mpt_keras", "search", "--resume", "--seed=1"]
    monkeypatch.setattr(sys, "orig_argv", words)
    assert restart.resuming_command() == [
        *(sys.executable, "-m", "mpt_keras", "search", "--seed=1", "--resume"),
    ]
