"""`mpt-keras bench`: engines timed side by side."""

import argparse
import os
import pathlib
import tempfile

from mpt_keras.commands.reading import read, say

HELP = (
    "Time Keras, mpt_keras.runtime and exports, one example at a time, in turn."
)
# Names of `engines.benchmarking.VARIANTS`.
VARIANTS = (
    *("saved_model", "litert", "litert-int8", "onnx", "openvino", "larq"),
    *("hls4ml", "c", "runtime"),
)


def add_arguments(parser):
    parser.add_argument(
        "--formats",
        type=_variants,
        metavar="FORMAT,...",
        help=f"of {', '.join(VARIANTS)} (default: all that are installed)",
    )
    parser.add_argument(
        "--threads", type=int, default=1, help="of each engine (default: 1)"
    )
    parser.add_argument(
        "--rounds", type=int, default=50, help="default: %(default)s"
    )
    parser.add_argument(
        "--first-answer",
        action="store_true",
        help="time new processes, from their start to their first answer, too",
    )
    parser.add_argument(
        "--output", metavar="FOLDER", help="keep the exports there"
    )


def run(options):
    for name in ("OMP_NUM", "TF_NUM_INTRAOP"):
        # Read when TensorFlow is imported.
        os.environ[f"{name}_THREADS"] = str(options.threads)
    from mpt_keras.engines.benchmarking import benchmark

    if options.threads < 1 or options.rounds < 1:
        raise ValueError(
            "Expected at least one thread and one round. Received: threads="
            f"{options.threads}, rounds={options.rounds}"
        )
    labels = options.formats and [
        name.replace("-", " ") for name in options.formats
    ]
    model = read(options.file, options.base)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(options.output or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = benchmark(
            model,
            folder,
            labels,
            options.threads,
            options.rounds,
            options.first_answer,
        )
    threads = "1 thread" if found.threads == 1 else f"{found.threads} threads"
    say(f"{found.processor}, {threads}, medians of {options.rounds}")
    _print_table(found.table())
    for label, reason in found.left_out.items():
        say(f"without {label}: {' '.join(reason.split())}")


def _print_table(rows):
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, widths, strict=True)
        say("  ".join(cell.ljust(width) for cell, width in cells).rstrip())


def _variants(text):
    names = text.split(",")
    for name in names:
        if name not in VARIANTS:
            raise argparse.ArgumentTypeError(
                f"expected some of {','.join(VARIANTS)}, received {name!r}"
            )
    return names
