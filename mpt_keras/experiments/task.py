"""A run that a sweep hands out: its files, its process, what became of it."""

import dataclasses
import json
import os
import pathlib
import secrets
import subprocess
import sys

from mpt_keras import files
from mpt_keras.experiments import versions, worker

# What Python is told; the file of the task follows.
WORKER = ("-m", "mpt_keras.experiments.worker")


@dataclasses.dataclass(frozen=True)
class Task:
    """A run to hand out.

    Attributes:
        name: Of the run and its folder.
        experiment: Its JSON.
        folder: Of the sweep, absolute.
        text: Of the file that says what to run.
        worker: Words for Python, to run that file.
        environment: Variables, name -> value.
        directory: Where the sweep was started, for paths of the place.
    """

    name: str
    experiment: dict
    folder: pathlib.Path
    text: str
    worker: tuple[str, ...]
    environment: dict[str, str]
    directory: str

    @classmethod
    def of(cls, name, experiment, folder, place):
        folder = pathlib.Path(folder).resolve()
        found = versions.here()
        job = {
            "experiment": experiment,
            "folder": str(folder / name),
            "place": dataclasses.asdict(place),
            "versions": found,
            # Tells this file from a copy that a sweep left somewhere else.
            "token": secrets.token_hex(8),
        }
        return cls(
            name=name,
            experiment=experiment,
            folder=folder,
            text=json.dumps(job, indent=2) + "\n",
            worker=WORKER,
            environment={"KERAS_BACKEND": found["backend"]},
            directory=str(pathlib.Path.cwd()),
        )

    # Beside the run's folder, which is the run's own.
    @property
    def file(self):
        return self.folder / f"{self.name}.json"

    @property
    def log(self):
        return self.folder / f"{self.name}.log"

    def write(self):
        files.write_text(self.file, self.text)

    def is_there(self):
        """Whether the file is the one that the sweep has written."""
        try:
            return self.file.read_text("utf-8") == self.text
        except OSError:
            return False


class Process:
    """A task at work; it ends with the process that has started it."""

    def __init__(self, task, environment):
        self._task = task
        with task.log.open("ab") as output:
            self._start = output.tell()
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-u", *task.worker),
                    *(str(task.file), worker.ENDS_WITH_INPUT),
                ],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**environment, **os.environ, **task.environment},
                cwd=task.directory,
            )

    def is_at_work(self):
        return self._process.poll() is None

    def failure(self):
        """Waits for its end; why it failed, None if it did not."""
        status = self._process.wait()
        self._process.stdin.close()
        if not status:
            return None
        said = self._task.log.read_bytes()[self._start :]
        return f"failed with exit status {status}: {_last_line(said)}"

    def end(self):
        self._process.kill()
        self.failure()


def _last_line(output):
    lines = output.decode(errors="replace").splitlines()
    said = [line for line in lines if line.strip()]
    return said[-1] if said else "it printed nothing"
