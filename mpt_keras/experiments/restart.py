"""The command of this process, to be run once more."""

import os
import sys


def command(without=("--resume",)):
    """The words of this process' command, but for some flags.

    They are those that Python was called with, so that `python -m`, a script
    and an installed command begin as they did.
    """
    found = [sys.executable]
    words = iter(sys.orig_argv[1:])
    for word in words:
        flag, equals, _ = word.partition("=")
        if flag not in without:
            found.append(word)
        elif flag != "--resume" and not equals:
            next(words, None)  # its value
    return found


def resuming_command():
    """The same, with `--resume` at its end."""
    return [*command(), "--resume"]


def start_again():
    """Replaces this process by one that continues its run."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, resuming_command())
