"""Values of arguments that several commands take."""

import argparse
import pathlib


def inputs_argument(purpose):
    return {
        "metavar": "DATA",
        "type": pathlib.Path,
        "help": f".npy or .npz file of inputs to {purpose}",
    }


def tolerance(text):
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not value >= 0:
        raise argparse.ArgumentTypeError(
            f"expected a number that is not negative, received {text!r}"
        )
    return value
