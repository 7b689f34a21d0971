"""Runs of a sweep on a Ray cluster that is there already.

Ray chooses the nodes, and hands out again what was lost with one; the run
then continues in its folder, which all nodes must see.
"""

import contextlib
import signal
import subprocess
import sys
import threading
import time

from mpt_keras.experiments.errors import RunError
from mpt_keras.experiments.task import Process

_ANSWER = 30.0  # seconds
# Until a file on a network's disk is seen everywhere.
_SEEN = 30.0
_CONNECT = "import ray, sys; ray.init(sys.argv[1], log_to_driver=False)"


def run_all(tasks, address, cpus, gpus):
    """Yields tasks as they end, with why they failed or None.

    Whatever is at work is ended if the generator is closed.

    Args:
        tasks: The tasks, whose files are written.
        address: Of the cluster, as `ray.init` takes it; None for the one that
            RAY_ADDRESS names, or that runs on this machine.
        cpus: CPUs for each run.
        gpus: GPUs for each run.

    Raises:
        RunError: If there is no Ray, no cluster, or a node that does not see
            the sweep's folder.
    """
    ray = _imported()
    with _connected(ray, address or "auto"):
        _check_nodes(ray, tasks[0], cpus, gpus)
        # A process for each, so that Ray's own hold nothing back of a GPU.
        train = ray.remote(
            num_cpus=cpus, num_gpus=gpus, max_retries=-1, max_calls=1
        )(_train)
        waiting = {train.remote(task, cpus): task for task in tasks}
        try:
            while waiting:
                (ended, *_), _ = ray.wait(list(waiting), num_returns=1)
                yield waiting.pop(ended), _failure(ray, ended)
        finally:
            for task in waiting:
                ray.cancel(task, force=True)


def _imported():
    try:
        import ray
    except ImportError as error:
        raise RunError(
            f"Ray cannot be imported ({error}). Install the extra `ray`: "
            'pip install "mpt_keras[ray]".'
        ) from error
    return ray


@contextlib.contextmanager
def _connected(ray, address):
    """Connects, unless somebody has; ends the connection that it has made."""
    if ray.is_initialized():
        yield
        return
    _check_answer(address)
    handler = signal.getsignal(signal.SIGTERM)
    ray.init(address=address, log_to_driver=False)
    if threading.current_thread() is threading.main_thread():
        # Ray's own would end the process in the middle of things.
        signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        ray.shutdown()


def _check_answer(address):
    # In a process of its own: Ray would end this one, or wait for minutes.
    process = [sys.executable, "-c", _CONNECT, address]
    try:
        done = subprocess.run(
            process, capture_output=True, text=True, timeout=_ANSWER
        )
        said = (done.stderr.strip().splitlines() or [""])[-1]
    except subprocess.TimeoutExpired:
        said = f"no answer within {_ANSWER:.0f} s"
    else:
        if done.returncode == 0:
            return
    raise RunError(
        f"No Ray cluster answers at address='{address}' ({said}). Expected the "
        "address that `ray start --head` prints, from a machine that reaches "
        "it, with the same versions of Ray and Python. Nothing was trained."
    )


def _check_nodes(ray, task, cpus, gpus):
    """Refuses a cluster with a node that would train elsewhere."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if _suits(node, cpus, gpus)]
    if not nodes:
        print(
            f"No node of the Ray cluster has {cpus} CPUs and {gpus} GPUs for a "
            "run. Waiting for one.",
            flush=True,
        )
    check = ray.remote(num_cpus=0, max_retries=0)(_seen)
    answers = {
        check.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(
                node["NodeID"], soft=False
            )
        ).remote(task, _SEEN): node["NodeManagerAddress"]
        for node in nodes
    }
    for answer, node in answers.items():
        try:
            is_seen = ray.get(answer)
        except ray.exceptions.RayTaskError as error:
            raise RunError(
                f"The Ray node {node} cannot work for the sweep: "
                f"{_last(error)}. Install the same mpt_keras there."
            ) from error
        except ray.exceptions.RayError:  # it is lost by now
            continue
        if not is_seen:
            raise RunError(f"The Ray node {node} {_unseen(task)}")


def _suits(node, cpus, gpus):
    has = node["Resources"]
    enough = has.get("CPU", 0) >= cpus and has.get("GPU", 0) >= gpus
    return node["Alive"] and enough


def _seen(task, wait):
    end = time.monotonic() + wait
    while not task.is_there():
        if time.monotonic() > end:
            return False
        time.sleep(0.5)
    return True


def _unseen(task):
    return (
        f"does not see the sweep's folder '{task.folder}'. Expected a folder "
        "that all nodes share, at the same path."
    )


def _train(task, cpus):
    """What Ray calls on a node; why the run failed, None if it did not."""
    if not _seen(task, _SEEN):
        return f"failed: the Ray node {_unseen(task)}"
    threads = str(max(1, int(cpus)))
    process = Process(task, {"TF_NUM_INTRAOP_THREADS": threads})
    try:
        return process.failure()
    except BaseException:
        process.end()
        raise


def _failure(ray, ended):
    try:
        return ray.get(ended)
    except ray.exceptions.RayError as error:
        return f"failed: {_last(error)}"


def _last(error):
    return str(error).strip().splitlines()[-1]
