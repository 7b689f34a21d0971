"""Several trainings in one run: their seeds, and a line for each result."""

import contextlib
import json

import keras
from absl import flags
from command import RunError

from mpt_keras import files
from mpt_keras.experiments import lines

FLAGS = flags.FLAGS

flags.DEFINE_list(
    "seeds", ["0"], "Seeds, integers from 0 on, one after the other."
)
flags.register_validator(
    "seeds",
    lambda values: values and all(v.strip().isdecimal() for v in values),
    "Expected integers from 0 on, separated by commas.",
)


def each_seed():
    """Sets --seed to each of --seeds in turn, for all that reads it."""
    for seed in dict.fromkeys(map(int, FLAGS.seeds)):
        FLAGS.seed = seed
        keras.utils.set_random_seed(seed)
        yield seed


class Lines:
    """The results of a run: printed as they come, and one JSON line each."""

    def __init__(self, folder):
        self.folder = folder
        self._lines = []

    def add(self, method, sparsity, seed, folder, result):
        """Adds the result of a training, as `report` reads it."""
        line = {
            "method": method,
            "sparsity": sparsity,
            "seed": seed,
            "folder": folder.relative_to(self.folder).as_posix(),
            **result,
        }
        self._lines.append(line)
        text = "".join(json.dumps(one) + "\n" for one in self._lines)
        files.write_text(self.folder / lines.NAME, text)
        kept, weights = result["weights_kept"], result["weights"]
        print(
            f"seed {seed}, {method}: {kept:,} of {weights:,} weights "
            f"({kept / weights:.1%}), test accuracy "
            f"{result['test_accuracy']:.2%}",
            flush=True,
        )


@contextlib.contextmanager
def stopping_in_one_line(folder):
    """Turns Ctrl-C into a `RunError` that says how to continue."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise RunError(
            "Stopped. Finished trainings are kept, and so are the whole "
            "epochs of this one. The same command with "
            f"--output_dir={folder} --resume continues."
        ) from error
