"""Runs of a sweep on this machine, one or several at the same time."""

import collections
import os
import time

from mpt_keras.experiments.task import Process

_POLL = 0.05  # seconds


def run_all(tasks, jobs):
    """Yields tasks as they end, with why they failed or None.

    Whatever is at work is ended if the generator is closed.
    """
    waiting = collections.deque(tasks)
    at_work = {}
    environment = {} if jobs == 1 else shares(jobs)
    try:
        while waiting or at_work:
            while waiting and len(at_work) < jobs:
                task = waiting.popleft()
                at_work[task.name] = task, Process(task, environment)
            ended = [
                name
                for name, (_, process) in at_work.items()
                if not process.is_at_work()
            ]
            for name in ended:
                task, process = at_work.pop(name)
                yield task, process.failure()
            if not ended:
                time.sleep(_POLL)
    finally:
        for _, process in at_work.values():
            process.end()


def shares(jobs):
    """What gives each of several processes its share of the machine."""
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    return {
        "OMP_NUM_THREADS": threads,
        "TF_NUM_INTRAOP_THREADS": threads,
        # Each takes what it needs of a GPU's memory, instead of all of it.
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
