"""How programs that run experiments start, and how they end."""

import contextlib
import dataclasses
import os
import shlex
import sys

from absl import logging

from mpt_keras.experiments import restart
from mpt_keras.experiments.errors import RunError, WorkerLost
from mpt_keras.experiments.settings import Checked, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Output(Checked):
    """The folder of a run."""

    output_dir: str | None = setting(
        None,
        "Folder for everything that the run writes, new or empty; by default "
        "one under runs/ that is named after the settings and the time.",
    )
    resume: bool = setting(
        False,
        "Continue the run in --output_dir after its last whole epoch, as if "
        "it had never stopped; begin it if there is none. All settings must "
        "be those of the run.",
    )


@contextlib.contextmanager
def in_one_line(program):
    """Ends the process in one line where something is wrong or stopped."""
    # TensorFlow's notes would bury the results: before it is imported, and
    # those that it writes by absl, which `app.run` has turned on.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.set_verbosity(logging.WARNING)
    try:
        yield
    except WorkerLost as error:
        start_again(program, error)
    except (RunError, ValueError) as error:
        sys.exit(f"{program}: {' '.join(str(error).split())}")
    except KeyboardInterrupt as error:
        sys.exit(f"{program}: {stopped(error)}")


def start_again(program, error):
    """Says which worker was lost, and replaces this process."""
    print(f"{program}: {error} This one does so itself.", file=sys.stderr)
    restart.start_again()


def stopped(error):
    """What to say of a run that was stopped by hand."""
    folder = getattr(error, "folder", None)
    if folder is None:
        return "stopped, before anything was trained."
    words = restart.command(without=("--resume", "--output_dir"))
    words += [f"--output_dir={folder}", "--resume"]
    kept = (
        "what was finished is kept"
        if error.epochs is None
        else f"epochs kept: {error.epochs}"
    )
    return f"stopped; {kept}. This continues: {shlex.join(words)}"
