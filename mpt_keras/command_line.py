"""The console command `mpt-keras`: what a saved ticket is, does and becomes.

Nothing is imported until a command needs it, so that `--help` answers at once.
"""

import argparse
import os
import pathlib
import sys
import warnings

from mpt_keras.commands import bench, export, pretrained, summary, verify
from mpt_keras.commands.streams import open_closed_streams, without_chatter

# Those of `experiments.commands`, which need the extra.
EXPERIMENTS = {
    "search": "Search a random network for a ticket.",
    "tickets": "Winning tickets of an ordinary network.",
    "distil": "Tickets trained on the dense network's outputs.",
    "sweep": "Many methods at the same settings, in one table.",
    "report": "Table and pictures of finished runs.",
    "compare": "How much the masks of runs agree.",
}
_OF_A_FILE = {
    "summary": summary,
    "export": export,
    "verify": verify,
    "bench": bench,
}
_LONGEST_ERROR = 1000


def main(arguments: list[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: What follows the command's name; by default that of the
            process.

    Returns:
        0; 1 after an error, which is one line on the standard error; 130 if
        it was interrupted. (2 for arguments that are none, by `SystemExit`.)

    Example:

    >>> model.save("network.keras")
    >>> main(["verify", "network.keras"])
    network.keras: the masked network and its frozen form predict the same \
bits for 8 random inputs
    0
    """
    open_closed_streams()
    try:
        run = _parse(sys.argv[1:] if arguments is None else arguments)
        with without_chatter(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            run()
            sys.stdout.flush()
    except KeyboardInterrupt as error:
        return _failed(_stopped(error), 130)
    except BrokenPipeError:
        # Whoever read what is printed has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        _start_again_if_alone(error)
        return _failed(f"error: {_one_line(error)}")
    return 0


def _parse(arguments):
    """The function that does what the arguments ask for."""
    if arguments[:1] and arguments[0] in EXPERIMENTS:
        try:
            from mpt_keras.experiments import commands
        except ImportError as error:
            raise SystemExit(f"mpt-keras: error: {error}") from error
        return commands.parse(arguments)
    options = _parser().parse_args(arguments)
    return lambda: options.run(options)


def _stopped(error):
    if not hasattr(error, "folder"):
        return "interrupted"
    from mpt_keras.experiments.command import stopped

    return stopped(error)


def _start_again_if_alone(error):
    """Does not return if a run has lost another worker."""
    # Without the extra, nothing can have imported them.
    errors = sys.modules.get("mpt_keras.experiments.errors")
    if errors and isinstance(error, errors.WorkerLost):
        from mpt_keras.experiments.command import start_again

        start_again("mpt-keras", error)


def _failed(text, status=1):
    print(f"mpt-keras: {text}", file=sys.stderr)
    return status


def _one_line(error):
    text = " ".join(str(error).split())
    known = isinstance(error, (ValueError, OSError, ImportError))
    if not known and type(error).__name__ != "RunError":
        text = f"{type(error).__name__}: {text}"
    if len(text) <= _LONGEST_ERROR:
        return text or type(error).__name__
    # Keras quotes whole configurations, and says the cause at the end.
    half = _LONGEST_ERROR // 2
    return f"{text[:half]} ... {text[-half:]}"


def _parser():
    whole = argparse.ArgumentParser(
        prog="mpt-keras",
        description="Lottery tickets: found, compared, and what a saved one "
        "weighs, predicts and becomes.",
        epilog="FILE is a .keras file, a ticket of mpt_keras.save_ticket, or "
        "the name of a ticket that comes with the package: `mpt-keras "
        "pretrained` lists them. TF_CPP_MIN_LOG_LEVEL=0 shows what TensorFlow "
        "says.",
    )
    commands = whole.add_subparsers(
        required=True, metavar="COMMAND", title="commands"
    )
    for name, text in EXPERIMENTS.items():
        commands.add_parser(name, help=text)  # parsed by `experiments`
    found = commands.add_parser(
        "pretrained",
        help="The tickets that come with the package.",
        description=pretrained.HELP,
    )
    pretrained.add_arguments(found)
    found.set_defaults(run=pretrained.run)
    for name, module in _OF_A_FILE.items():
        found = commands.add_parser(
            name, help=module.HELP, description=module.HELP
        )
        found.add_argument("file", metavar="FILE", type=pathlib.Path)
        found.add_argument(
            "--base",
            metavar="TICKET",
            help="ticket that FILE was saved against, where it is an update",
        )
        module.add_arguments(found)
        found.set_defaults(run=module.run)
    return whole
