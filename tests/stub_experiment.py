"""An experiment that trains nothing, and the worker of a sweep that runs it.

It notes that it began, waits for as long as there is a file `hold-` and its
folder's name, and fails for `fail-`.
"""

import dataclasses
import json
import pathlib
import random
import sys
import time

from mpt_keras.experiments import lines, task, worker
from mpt_keras.experiments.errors import RunError

# Instead of `task.WORKER`.
WORKER = (__file__,)


@dataclasses.dataclass(frozen=True)
class Stub:
    """`trainings` lines, of which the first may have been written before."""

    control: str
    seed: int = 0
    epochs: int = 1
    trainings: int = 1

    def to_json(self):
        return {"kind": "stub", **dataclasses.asdict(self)}

    def run(self, folder, resume, place):
        assert resume
        control = pathlib.Path(self.control)
        with (folder / "starts").open("a") as file:
            file.write("begun ")
        while (control / f"hold-{folder.name}").exists():
            time.sleep(0.01)
        if (control / f"fail-{folder.name}").exists():
            print("much before")
            raise RunError("out of luck.")
        if (control / f"raise-{folder.name}").exists():
            raise ValueError("not foreseen")
        (folder / lines.NAME).unlink(missing_ok=True)
        lines.append(folder / lines.NAME, self.lines(folder.name, place))
        with (folder / "ends").open("a") as file:
            file.write("done ")

    def lines(self, name, place):
        numbers = random.Random(name)
        return [
            {
                "method": "stub",
                "sparsity": None,
                "seed": self.seed,
                "width": 1.0,
                "folder": f"part{number}" if self.trainings > 1 else ".",
                "test_accuracy": numbers.random(),
                "train_loss": float("nan"),
                "seconds": time.time() % 1000,
                "settings": dataclasses.asdict(self),
                "images": place.images,
            }
            for number in range(self.trainings)
        ]


def from_json(content):
    kind = content.pop("kind")
    assert kind == "stub", kind
    return Stub(**content)


def units(control, seeds, **settings):
    """Of a sweep of one method."""
    return [
        (f"stub-seed{seed}", Stub(str(control), seed, **settings))
        for seed in seeds
    ]


def sweep(arguments):
    """A whole sweep as a program: a dictionary of `run_sweep`'s arguments."""
    from mpt_keras.experiments import many_runs as sweep

    task.WORKER = WORKER
    words = json.loads(arguments)
    try:
        sweep.run_sweep(units(words.pop("control"), range(3)), **words)
    except RunError as error:
        sys.exit(f"refused: {error}")


if __name__ == "__main__":
    if sys.argv[1] == "sweep":
        sweep(sys.argv[2])
    else:
        sys.exit(worker.main(sys.argv[1:], from_json))
