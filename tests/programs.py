"""Runs the programs of examples/ and benchmarks/ in the process of a test.

A process of their own would spend ten seconds on importing TensorFlow.
"""

import contextlib
import io
import runpy
import sys

import keras
from absl import app
from absl.testing import flagsaver
from conftest import ROOT

app.define_help_flags()


@contextlib.contextmanager
def modules_of(folder):
    """The modules of a folder and their flags, imported anew and forgotten."""
    own = {path.stem for path in folder.glob("*.py")}
    assert not own & sys.modules.keys(), "one program at a time"
    with flagsaver.flagsaver():
        sys.path.insert(0, str(folder))
        try:
            yield
        finally:
            sys.path.remove(str(folder))
            for name in own & sys.modules.keys():
                del sys.modules[name]


def run(path, *words):
    """Runs `path word word ...`.

    Args:
        path: Of the program, from the root of the project.
        *words: Its arguments.

    Returns:
        Its exit status (None, a number or a message), what it printed and
        what it wrote to the standard error, texts.
    """
    policy = keras.config.dtype_policy()
    printed, errors = io.StringIO(), io.StringIO()
    arguments = sys.argv
    sys.argv = [str(ROOT / path), *map(str, words)]
    try:
        with (
            modules_of((ROOT / path).parent),
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(errors),
        ):
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        return end.code, printed.getvalue(), errors.getvalue()
    finally:
        sys.argv = arguments
        keras.config.set_dtype_policy(policy)
    raise AssertionError(f"{path} does not end with absl.app.run")


def succeed(path, *words):
    """Runs a program that must succeed; returns what it printed."""
    status, printed, errors = run(path, *words)
    assert not status, f"{status}\n{errors}"
    return printed


def fail(path, *words):
    """Runs a program that must end by itself; returns its last word."""
    status, _, errors = run(path, *words)
    assert status
    return status if isinstance(status, str) else errors
