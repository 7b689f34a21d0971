"""Sweeps of stubs: as programs to be killed, and what they leave behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import stub_experiment


def marks(folder, name):
    return {
        file.parent.name: len(file.read_text().split())
        for file in folder.glob(f"*/{name}")
    }


def starts(folder):
    """Run -> how often it was begun."""
    return marks(folder, "starts")


def names(lines):
    return [line["folder"] for line in lines]


def without_seconds(lines):
    """Sorted, and so that NaN is NaN."""
    return sorted(json.dumps({**line, "seconds": 0}) for line in lines)


def wait_for(path, process=None):
    """Waits until something stands in a file."""
    while not path.exists() or not path.stat().st_size:
        assert process is None or process.poll() is None
        time.sleep(0.01)


@contextlib.contextmanager
def sweep_process(folder, control, **words):
    """A sweep in a process of its own."""
    words = {"folder": str(folder), "control": str(control), **words}
    # A test run in the background ignores Ctrl-C, and so would its children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [
            *(sys.executable, *stub_experiment.WORKER),
            *("sweep", json.dumps(words)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    signal.signal(signal.SIGINT, before)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
