"""Many runs of one example: methods x sparsities x seeds, and their summary.

    python examples/sweep.py --output_dir=sweeps/conv4 \\
        --methods=mpt_1_32,edge_popup,dense --sparsities=0.5,0.8 \\
        --seeds=0,1,2 -- --download --data_dir=data --epochs=10

trains one run after the other, each in a process and a folder of its own;
what stands after `--` is passed on to the example. A finished run is one line
of `runs.jsonl`, from which the table and the plot are made. The same command
continues a sweep that was interrupted, and one with more methods, sparsities
or seeds adds to it. `--report` makes the table and the plot anew and trains
nothing.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import signal
import subprocess
import sys

import command
import run_folder
from absl import flags
from command import RunError

from mpt_keras.experiments import lines as json_lines
from mpt_keras.experiments.report import report

FLAGS = flags.FLAGS

EXAMPLES = pathlib.Path(__file__).parent

# Name -> the flags of the example that make it.
METHODS = {
    "mpt_1_32": ("--method=biprop",),
    "mpt_1_1": ("--method=biprop", "--binary_activations"),
    # Differs from mpt_1_32 only where real activations have batch norms.
    "mpt_1_32_bn": ("--method=biprop", "--trained_batch_norm"),
    "mpt_1_1_bn": (
        *("--method=biprop", "--binary_activations", "--trained_batch_norm"),
    ),
    "edge_popup": ("--method=edge_popup",),
    "mpt_1_32_recycling": ("--method=biprop", "--recycling=highest"),
    "edge_popup_recycling": ("--method=edge_popup", "--recycling=highest"),
    "edge_popup_iterand": ("--method=edge_popup", "--recycling=random"),
    "dense": ("--method=dense",),
    "dense_binary": ("--method=dense", "--binary_activations"),
}

flags.declare_key_flag("output_dir")
flags.DEFINE_enum(
    "example",
    "cifar10_biprop",
    ["cifar10_biprop", "imagenet_biprop"],
    "The example that trains.",
)
flags.DEFINE_list(
    "methods",
    ["mpt_1_32", "edge_popup", "dense"],
    f"Methods, separated by commas, out of {', '.join(METHODS)}. Dense "
    "networks are trained once per seed, whatever the sparsities.",
)
flags.DEFINE_list(
    "sparsities", ["0.5"], "Fractions of weights pruned, each in [0, 1)."
)
flags.DEFINE_list("seeds", ["0"], "Seeds, integers from 0 on.")
flags.DEFINE_bool(
    "report",
    False,
    "Only make the table and the plot anew, from the finished runs in "
    "--output_dir.",
)

# What the sweep sets in every run.
_OWN_FLAGS = {"method", "sparsity", "seed", "output_dir", "resume"}
_OWN_FLAGS |= {"binary_activations", "trained_batch_norm", "recycling"}
_DESCRIPTION = "sweep.json"
_LOCK = "lock"
# Of a run's result: paths and details, and what the line says already.
_NOT_COMPARED = {"ticket", "saved_model", "layers", "sparsity", "seed"}


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of a sweep; `sparsity` is None where nothing is pruned."""

    method: str
    sparsity: float | None
    seed: int

    @property
    def name(self):
        pruned = () if self.sparsity is None else (str(self.sparsity),)
        return "-".join((self.method, *pruned, f"seed{self.seed}"))

    @property
    def flags(self):
        pruned = self.sparsity is not None
        return [
            *METHODS[self.method],
            *([f"--sparsity={self.sparsity}"] if pruned else []),
            f"--seed={self.seed}",
        ]


# --- What is asked for ----------------------------------------------------


def planned_runs():
    """All runs asked for, each once: every method once before a second seed.

    Raises:
        RunError: If a list is empty or one of its values is none.
    """
    methods = _values("methods", str, METHODS.__contains__, ", ".join(METHODS))
    sparsities = _values(
        "sparsities", float, lambda value: 0 <= value < 1, "numbers in [0, 1)"
    )
    seeds = _values(
        "seeds", int, lambda value: 0 <= value < 2**32, "integers from 0 on"
    )
    return [
        Run(method, sparsity, seed)
        for seed in seeds
        for method in methods
        for sparsity in (sparsities if _prunes(method) else [None])
    ]


def _prunes(method):
    return "--method=dense" not in METHODS[method]


def _values(name, convert, accepts, expected):
    def wrong(received):
        return RunError(
            f"Invalid --{name}. Expected one or more of: {expected}; separated "
            f"by commas. Received: {received}. Nothing was changed."
        )

    values = []
    for text in FLAGS[name].value:
        try:
            value = convert(text)
        except ValueError as error:
            raise wrong(f"'{text}'") from error
        if not accepts(value):
            raise wrong(f"'{text}'")
        values.append(value)
    if not values:
        raise wrong("none")
    return list(dict.fromkeys(values))


def checked_arguments(arguments):
    """What is passed on to the example, if the sweep can pass it on."""
    if arguments and not arguments[0].startswith("-"):
        raise RunError(
            f"Unexpected '{arguments[0]}'. Expected flags of the sweep, then "
            "--, then flags of the example. Nothing was changed."
        )
    names = set(_settings(arguments))
    own = sorted(names & (_OWN_FLAGS | {f"no{name}" for name in _OWN_FLAGS}))
    if own:
        raise RunError(
            f"--{own[0]} cannot be passed on: the sweep sets it in every run. "
            "Use --methods, --sparsities, --seeds and --output_dir before the "
            "--. Nothing was changed."
        )
    # The one may hide flags of the sweep, after the other none is read.
    for name in sorted(names & {"flagfile", ""}):
        raise RunError(
            f"--{name} cannot be passed on. Expected the flags of the example "
            "themselves after one --. Nothing was changed."
        )
    return arguments


def _settings(arguments):
    """Flag -> value, both as text; `true` for a flag without a value."""
    found = {}
    name = None
    for argument in arguments:
        if argument.startswith("-"):
            name, equals, value = argument.lstrip("-").partition("=")
            found[name] = value if equals else "true"
        else:
            found[name] = argument
    return found


# --- The folder -----------------------------------------------------------


def describe(folder, arguments):
    """Says whose folder it is, if no one has: `is_this_sweep` from then on."""
    if not is_this_sweep(folder, arguments):
        description = {
            "example": FLAGS.example,
            "arguments": arguments,
            "versions": run_folder.versions(),
        }
        run_folder.write_json(folder / _DESCRIPTION, description)


def is_this_sweep(folder, arguments):
    """True if the folder holds this sweep, False if it holds nothing.

    Raises:
        RunError: If it holds another sweep, or files that are none.
    """
    if not folder.exists():
        return False
    try:
        there = json.loads((folder / _DESCRIPTION).read_text())
        settings_there = _compared(there["example"], there["arguments"])
        versions_there = dict(there["versions"])
    except FileNotFoundError as error:
        # A sweep killed at its very beginning leaves no more than these.
        ours = {_LOCK, "sweep.partial"}
        if all(file.name in ours for file in folder.iterdir()):
            return False
        raise _no_sweep(folder) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _no_sweep(folder) from error
    changed = run_folder.differences(
        "--", settings_there, _compared(FLAGS.example, arguments)
    ) or run_folder.changed_versions(versions_there)
    if changed:
        raise RunError(
            f"--output_dir='{folder}' holds a sweep with other settings or "
            f"versions: {changed}. Nothing was changed. Repeat those to "
            "continue it, or choose a new folder."
        )
    return True


def _compared(example, arguments):
    """The settings that every run of a sweep has in common."""
    settings = {"example": example, **_settings(arguments)}
    return {
        name: value
        for name, value in settings.items()
        if name not in run_folder.OF_THE_PLACE
    }


def _no_sweep(folder):
    return RunError(
        f"--output_dir='{folder}' holds files, but no {_DESCRIPTION} that an "
        "earlier sweep wrote. Nothing was changed. Choose a new folder."
    )


@contextlib.contextmanager
def only_one_at_work(folder):
    """Waits for other sweeps in the folder, and for what they left running.

    Yields:
        The descriptor that holds the lock; a run inherits it, so that the
        lock lasts as long as the run where the sweep alone was killed.
    """
    with (folder / _LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(
                f"Waiting for the run that is still at work in '{folder}'.",
                flush=True,
            )
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


# --- The runs -------------------------------------------------------------


def run_all(runs, folder, arguments, lock):
    """Trains what is not finished and returns the runs that failed."""
    lines = folder / json_lines.NAME
    finished = {line["folder"]: line for line in json_lines.read(lines)}
    failed = []
    for number, run in enumerate(runs, 1):
        print(f"{number} of {len(runs)} {run.name}: ", end="", flush=True)
        line = finished.get(run.name)
        before = " (finished before)" if line else ""
        try:
            line = line or finish(run, folder, arguments, lock)
        except RunError as error:
            failed.append(run)
            print(error)
            continue
        except BaseException:
            print("stopped")
            raise
        print(
            f"test accuracy {line['test_accuracy']:.2%}, "
            f"{line['seconds']} s{before}"
        )
    return failed


def finish(run, folder, arguments, lock):
    """Trains a run unless its result is there; writes and returns its line.

    Raises:
        RunError: If the run fails, with the last line that it printed.
    """
    file = folder / run.name / "result.json"
    if not file.exists():
        train(run, folder, arguments, lock)
    try:
        result = json.loads(file.read_text())
        line = {
            "method": run.method,
            "sparsity": run.sparsity,
            "seed": run.seed,
            "folder": run.name,
            "example": FLAGS.example,
            "arguments": arguments,
            "test_accuracy": result["test_accuracy"],
            "best_test_accuracy": result["best_test_accuracy"],
            "seconds": result["seconds"],
        }
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"failed: no result in '{file}' ({type(error).__name__}: {error})"
        ) from error
    others = {
        name: value
        for name, value in result.items()
        if name not in line.keys() | _NOT_COMPARED
    }
    append_line(folder / json_lines.NAME, line | others)
    return line


def train(run, folder, arguments, lock):
    """Trains one run in a process of its own, which does not outlive this."""
    words = [
        *(sys.executable, "-u", EXAMPLES / f"{FLAGS.example}.py", *run.flags),
        *(f"--output_dir={folder / run.name}", "--resume", *arguments),
    ]
    log = log_file(run, folder)
    with log.open("ab") as output:
        start = output.tell()
        with subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[lock],
        ) as process:
            try:
                status = process.wait()
            except BaseException:
                process.kill()
                raise
    if status:
        said = _last_line(log.read_bytes()[start:])
        raise RunError(f"failed with exit status {status}: {said}")


def log_file(run, folder):
    # Beside the run's folder, which has to be new or empty.
    return folder / f"{run.name}.log"


def _last_line(output):
    lines = [
        line
        for line in output.decode(errors="replace").splitlines()
        # absl's hint after the line that says what is wrong.
        if line.strip() and not line.startswith("Pass --help")
    ]
    return lines[-1] if lines else "it printed nothing"


def append_line(path, line):
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())


def sweep(folder, arguments):
    """Trains, then reports; one line for what could not be trained."""
    arguments = checked_arguments(arguments)
    runs = planned_runs()
    is_this_sweep(folder, arguments)
    folder.mkdir(parents=True, exist_ok=True)
    with only_one_at_work(folder) as lock:
        describe(folder, arguments)
        failed = run_all(runs, folder, arguments, lock)
        if len(failed) < len(runs):
            report(folder)
    if failed:
        logs = ", ".join(str(log_file(run, folder)) for run in failed)
        raise RunError(
            f"{len(failed)} of {len(runs)} runs failed; their output is in "
            f"{logs}. The same command tries them again."
        )


def main(arguments):
    if not FLAGS.output_dir:
        raise RunError(
            "--output_dir is missing. Expected the folder of the sweep, new, "
            "empty or that of the sweep to continue."
        )
    folder = pathlib.Path(FLAGS.output_dir)
    # Without this the run would outlive the sweep.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if FLAGS.report:
            report(folder)
        else:
            sweep(folder, arguments[1:])
    except KeyboardInterrupt as error:
        raise RunError(
            "Stopped. Finished runs are kept, and so are the whole epochs of "
            "this one. The same command continues."
        ) from error
    except OSError as error:
        raise RunError(
            f"Cannot use --output_dir='{folder}': {error}. Expected a folder "
            "that can be written, with space left. The same command continues."
        ) from error


if __name__ == "__main__":
    command.run(main)
