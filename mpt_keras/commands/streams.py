"""Standard streams: closed ones, and what C++ code says on them."""

import contextlib
import os
import pathlib
import sys


def open_closed_streams():
    """Lets nothing else take the place of standard streams that are closed."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            try:
                os.fstat(number)
            except OSError:  # the least number that is free is this one
                os.open(os.devnull, os.O_RDWR)
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, pathlib.Path(os.devnull).open(mode))  # noqa: SIM115


@contextlib.contextmanager
def without_chatter():
    """Shuts off what TensorFlow's C++ code says on the standard error.

    Not with `TF_CPP_MIN_LOG_LEVEL=0`, and not what Python says.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    before = sys.stderr
    before.flush()
    with contextlib.ExitStack() as stack:
        real = os.dup(2)
        stack.callback(os.close, real)
        stack.callback(os.dup2, real, 2)
        if _is_standard_error(before):
            sys.stderr = stack.enter_context(
                open(real, "w", buffering=1, closefd=False)
            )
            stack.callback(setattr, sys, "stderr", before)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)
        yield


def _is_standard_error(stream):
    try:
        return stream.fileno() == 2
    except (AttributeError, OSError):
        return False
