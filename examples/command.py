"""How the examples start, and how they end when something is wrong."""

import os
import pathlib
import sys

# Before TensorFlow is imported: its start-up notes would bury the results.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from absl import app, logging

from mpt_keras.experiments.errors import RunError


def run(main):
    """`absl.app.run` that ends a `RunError` in one line instead of a trace."""

    def quietly(arguments):
        logging.set_verbosity(logging.WARNING)
        try:
            main(arguments)
        except RunError as error:
            sys.exit(f"{pathlib.Path(arguments[0]).name}: {error}")

    app.run(quietly)
