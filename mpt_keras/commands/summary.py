"""`mpt-keras summary`: the kernels of a network, in a table."""

import argparse

HELP = "Sparsity, bytes and multiply-accumulates of every kernel."
_NARROWEST = 40  # characters of a line


def add_arguments(parser):
    parser.add_argument(
        "--width",
        type=_width,
        help=f"most characters of a line, at least {_NARROWEST} (default: any)",
    )


def run(options):
    from mpt_keras.summaries import summary

    summary(options.file, base=options.base, line_length=options.width)


def _width(text):
    if not (text.isdecimal() and int(text) >= _NARROWEST):
        raise argparse.ArgumentTypeError(
            f"expected an integer of {_NARROWEST} or more, received {text!r}"
        )
    return int(text)
