"""The sub-commands of `mpt-keras` that run experiments and report them."""

import argparse
import dataclasses
import pathlib

from absl import flags as absl_flags
from absl.flags import argparse_flags

from mpt_keras.experiments import flags
from mpt_keras.experiments.command import Output
from mpt_keras.experiments.methods import OF_THE_SWEEP, Axes
from mpt_keras.experiments.place import Place
from mpt_keras.experiments.search import Search
from mpt_keras.experiments.sweeping import Engine, sweep
from mpt_keras.experiments.tickets import Distilled, WinningTicket

_RUNS = {
    "search": (
        Search,
        "Search a random network for a multi-prize ticket (biprop), masked "
        "real weights (edge-popup), or train it the ordinary way.",
    ),
    "tickets": (
        WinningTicket,
        "Winning tickets of an ordinary network: train, prune by magnitude, "
        "set back, train again; with controls.",
    ),
    "distil": (
        Distilled,
        "Tickets pruned at once, and trained on the dense network's outputs.",
    ),
}
_SWEEP = (
    "Methods x sparsities x widths x seeds at the same settings, and their "
    "table and pictures. What is not said is by each method's recipe."
)


def parse(words):
    """What a command and its arguments ask for.

    Args:
        words: The command's name and what follows it.

    Returns:
        A function without arguments that does it.

    Raises:
        SystemExit: For `--help`, or arguments that are none.
    """
    name, *rest = words
    return {
        **dict.fromkeys(_RUNS, _run),
        "sweep": _sweep,
        "report": _report,
        "compare": _compare,
    }[name](name, rest)


def _run(name, words):
    cls, text = _RUNS[name]
    values = absl_flags.FlagValues()
    flags.define((cls, Output, Place), flag_values=values)
    parser = _parser(name, text, values)
    _parsed(parser, words)
    experiment, output, place = (
        _read(parser, kind, values) for kind in (cls, Output, Place)
    )
    return lambda: experiment.run(output.output_dir, output.resume, place)


def _sweep(name, words):
    values = absl_flags.FlagValues()
    flags.define((Axes, Engine), flag_values=values)
    flags.define((Output,), without={"resume"}, flag_values=values)
    flags.define(
        (Search, WinningTicket),
        without=OF_THE_SWEEP,
        flag_values=values,
    )
    flags.define((Place,), flag_values=values)
    parser = _parser(name, _SWEEP, values)
    _parsed(parser, words)
    axes, engine, output, place = (
        _read(parser, kind, values) for kind in (Axes, Engine, Output, Place)
    )
    if output.output_dir is None:
        parser.error("--output_dir is missing: the folder of the sweep")
    settings = {
        field.name: value
        for cls in (Search, WinningTicket)
        for field in dataclasses.fields(cls)
        if (value := flags.values_of(cls, values).get(field.name))
        != field.default
        and field.name in values
    }
    return lambda: sweep(output.output_dir, axes, engine, place, **settings)


def _report(name, words):
    parser = argparse.ArgumentParser(
        prog=f"mpt-keras {name}",
        description="Table and pictures of finished runs, from their lines "
        "alone.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        type=pathlib.Path,
        help="folder of a sweep or a run, or a file of lines (.jsonl)",
    )
    parser.add_argument(
        "--output_dir",
        type=pathlib.Path,
        help="where table and pictures are written (default: beside the lines)",
    )
    parser.add_argument(
        "--baseline",
        metavar="METHOD",
        help="method that the others are compared with (default: dense, or "
        "unpruned)",
    )
    parser.add_argument(
        "--update",
        action="store_true",
        help="SOURCE is a Markdown file: fill in its tables from the lines "
        "that it names",
    )
    options = parser.parse_args(words)
    if options.update and (options.output_dir or options.baseline):
        parser.error(
            "--output_dir and --baseline have no effect with --update: the "
            "tables stand in the document, and say their baselines"
        )

    def run():
        from mpt_keras.experiments.document import update_document
        from mpt_keras.experiments.reporting import report

        if options.update:
            changed = update_document(options.source)
            print(f"{len(changed)} tables of '{options.source}' changed")
        else:
            report(options.source, options.output_dir, options.baseline)

    return run


def _compare(name, words):
    parser = argparse.ArgumentParser(
        prog=f"mpt-keras {name}",
        description="How much the masks that runs have found agree, and what "
        "they look like.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        type=pathlib.Path,
        help="folder of a run, or a file with masks",
    )
    parser.add_argument(
        "--output_dir",
        required=True,
        type=pathlib.Path,
        help="folder for the tables and pictures",
    )
    parser.add_argument(
        "--labels",
        type=lambda text: text.split(","),
        help="what the runs are called, separated by commas (default: as "
        "their folders)",
    )
    options = parser.parse_args(words)

    def run():
        from mpt_keras.experiments.comparing import compare

        compare(options.runs, options.output_dir, options.labels)

    return run


def _parser(name, text, values):
    return argparse_flags.ArgumentParser(
        prog=f"mpt-keras {name}",
        usage=f"mpt-keras {name} [-h] [--FLAG=VALUE ...]",
        description=text,
        inherited_absl_flags=values,
        allow_abbrev=False,
    )


def _parsed(parser, words):
    try:
        parser.parse_args(words)
    except absl_flags.Error as error:
        parser.error(str(error))


def _read(parser, cls, values):
    try:
        return flags.read(cls, values)
    except ValueError as error:
        parser.error(str(error))
