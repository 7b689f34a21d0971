"""The command of this process, run once more to continue its run."""

import os
import sys


def resuming_command():
    """The words of this process' command, with `--resume` at their end.

    They are those that Python was called with, so that `python -m`, a script
    and an installed command begin as they did.
    """
    words = [word for word in sys.orig_argv[1:] if word != "--resume"]
    return [sys.executable, *words, "--resume"]


def start_again():
    """Replaces this process by one that continues its run."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, resuming_command())
