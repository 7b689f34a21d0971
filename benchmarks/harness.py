"""What the benchmarks share: runs in turn, medians, a table and JSON."""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from absl import flags
from rich.console import Console
from rich.table import Table

import mpt_keras as mpt

FLAGS = flags.FLAGS
flags.DEFINE_integer("rounds", 15, "Timed rounds; every candidate once each.")
flags.DEFINE_integer("warmup", 2, "Rounds before the timed ones.")
flags.DEFINE_string("json", None, "File for the figures, settings, machine.")
flags.DEFINE_string("lines", None, "File to which each row is added as JSON.")


def in_turn(candidates):
    """Times the candidates in turn, so that all of them see the same machine.

    Every round runs each candidate once, in an order drawn anew: what ran
    before leaves the caches as it likes them.

    Args:
        candidates: Dictionary, name -> function that returns when its work is
            done.

    Returns:
        Dictionary, name -> list of milliseconds, one per round.
    """
    for _ in range(FLAGS.warmup):
        for work in candidates.values():
            work()
    names = list(candidates)
    order = np.random.default_rng(0)
    times = {name: [] for name in names}
    for _ in range(FLAGS.rounds):
        for name in order.permutation(names):
            start = time.perf_counter()
            candidates[name]()
            times[name].append(1e3 * (time.perf_counter() - start))
    return times


def in_new_process(*options, **environment):
    """Runs the same benchmark once more, with more options, in a process.

    Args:
        *options: Flags, which tell it what to do instead of its rounds.
        **environment: Variables, beside those of this process.

    Returns:
        What stands as JSON in the last line that it prints.

    Raises:
        RuntimeError: If it fails.
    """
    backend = keras.backend.backend()
    run = subprocess.run(
        [sys.executable, *sys.argv, *options],
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": backend, **environment},
    )
    if run.returncode:
        raise RuntimeError(f"With {options} it failed:\n{run.stderr}")
    return json.loads(run.stdout.splitlines()[-1])


def ratio(times, name, reference):
    """Median over the rounds of one candidate's time by another's."""
    return statistics.median(
        ours / theirs
        for ours, theirs in zip(times[name], times[reference], strict=True)
    )


def machine():
    """Where the figures come from."""
    return {
        "time": datetime.datetime.now(datetime.timezone.utc).isoformat(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
        "backend_version": importlib.metadata.version(keras.backend.backend()),
        "numpy": np.__version__,
        "mpt_keras": mpt.__version__,
        "flags": _settings(),
    }


def _settings():
    """Flags of the benchmarks, without those of libraries."""
    own = {path.stem for path in pathlib.Path(__file__).parent.glob("*.py")}
    return {
        flag.name: flag.value
        for module, defined in FLAGS.flags_by_module_dict().items()
        if pathlib.Path(module).stem in own
        for flag in defined
        if flag.value is not None
    }


def _processor():
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def report(question, rows):
    """Prints rows (dictionaries with the same keys) and writes them.

    To a file of its own with `--json`; and with `--lines` to the end of a file
    that collects rows of several benchmarks and machines, one line each.

    Args:
        question: What was measured, in one line.
        rows: List of dictionaries; floats are printed with three digits.
    """
    where = machine()
    table = Table(title=question, title_justify="left")
    for name in rows[0]:
        table.add_column(name, justify="left" if name == "what" else "right")
    for row in rows:
        table.add_row(*(_printed(value) for value in row.values()))
    # Where nobody looks, there are 80 columns otherwise.
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    console.print(
        f"{where['processor']}, {where['cores']} cores, keras "
        f"{where['keras']} on {where['backend']} {where['backend_version']}"
    )
    if FLAGS.json:
        content = {"question": question, "rows": rows, **where}
        pathlib.Path(FLAGS.json).write_text(json.dumps(content, indent=2))
    if FLAGS.lines:
        about = {"benchmark": pathlib.Path(sys.argv[0]).stem, **where}
        with pathlib.Path(FLAGS.lines).open("a") as file:
            file.writelines(
                json.dumps({**about, "row": row}) + "\n" for row in rows
            )


def _printed(value):
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"
