"""A run's folder: made once, continued by the run that it belongs to."""

import csv
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform

from absl import flags
from command import RunError

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "output_dir",
    None,
    "Folder for everything that the run writes, new or empty; by default one "
    "under runs/ that is named after the settings and the time.",
)
flags.DEFINE_bool(
    "resume",
    False,
    "Continue the run in --output_dir after its last whole epoch, as if it "
    "had never stopped; begin it if there is none. All settings must be those "
    "of the run.",
)

# Where a run happens does not change what it finds.
OF_THE_PLACE = {"output_dir", "resume", "data_dir", "images", "download"}
OF_THE_PLACE |= {"tpu", "worker_timeout"}
_DESCRIPTION = "run.json"


def open_run_folder(name, devices, may_grow=()):
    """Creates the run's folder, or finds it again with `--resume`.

    Of several workers only the one that writes files makes it. The flags in
    `may_grow` may be others when a run is resumed.

    Raises:
        RunError: If the folder cannot be written, holds other files, or
            another run or another version's, and nothing is to be resumed.
    """
    if not devices.writes_files:
        return pathlib.Path(FLAGS.output_dir)
    if FLAGS.resume and not FLAGS.output_dir:
        raise RunError("--resume needs --output_dir, the folder of the run.")
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")[:-3]
    path = pathlib.Path(FLAGS.output_dir or f"runs/{name}-{now}")
    try:
        path.mkdir(parents=True, exist_ok=True)
        # A run killed at its very beginning leaves a half description.
        half = _beside(path / _DESCRIPTION)
        occupied = any(file != half for file in path.iterdir())
        if occupied and FLAGS.resume:
            _check_same_run(path, may_grow)
        elif occupied:
            raise RunError(
                f"--output_dir='{path}' already holds files, perhaps another "
                "run. Nothing was changed. Choose a new folder, remove that "
                "one, or continue its run with --resume."
            )
        else:
            write_json(path / _DESCRIPTION, _description())
    except OSError as error:
        raise RunError(
            f"Cannot use --output_dir='{path}': {error.strerror or error}. "
            "Expected a new or empty folder that can be written."
        ) from error
    return path


def _description():
    """What makes a run the same run."""
    ours = {
        flag.name: flag.value
        for module, defined in FLAGS.flags_by_module_dict().items()
        if module.split(".")[0] not in ("absl", "tensorflow_datasets")
        for flag in defined
        if flag.name not in OF_THE_PLACE
    }
    return {"flags": ours, "versions": versions()}


def versions():
    """What decides a run's results, without importing any of it."""
    return {
        "mpt_keras": importlib.metadata.version("mpt_keras"),
        "keras": importlib.metadata.version("keras"),
        "backend": _backend(),
        "numpy": importlib.metadata.version("numpy"),
        "python": platform.python_version(),
    }


def _backend():
    """The one that Keras would choose, by its environment or its file."""
    home = pathlib.Path(os.environ.get("KERAS_HOME") or "~/.keras")
    try:
        settings = json.loads((home.expanduser() / "keras.json").read_text())
    except (OSError, ValueError):
        settings = {}
    chosen = os.environ.get("KERAS_BACKEND")
    return chosen or settings.get("backend", "tensorflow")


def _check_same_run(path, may_grow):
    try:
        there = json.loads((path / _DESCRIPTION).read_text())
        flags_there, versions_there = there["flags"], there["versions"]
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"--output_dir='{path}' holds no run to resume: expected a "
            f"{_DESCRIPTION} that an earlier run wrote. Nothing was changed."
        ) from error
    here = json.loads(json.dumps(_description(), default=str))
    settings = differences(
        "--",
        *(
            {
                name: value
                for name, value in values.items()
                if name not in may_grow
            }
            for values in (flags_there, here["flags"])
        ),
    )
    if settings:
        raise RunError(
            f"--output_dir='{path}' holds another run: {settings}. Nothing was "
            "changed. Repeat that run's settings, or choose a new folder."
        )
    changed = changed_versions(versions_there)
    if changed:
        raise RunError(
            f"--output_dir='{path}' holds a run of other versions: {changed}. "
            "Nothing was changed. Install those versions to continue it, or "
            "begin anew in another folder."
        )


def changed_versions(there):
    """How the versions here differ from those of an earlier description."""
    # The seed's numbers and the file formats are those of these.
    decisive = ("mpt_keras", "keras", "backend")
    here = versions()
    return differences(
        "",
        {name: there.get(name) for name in decisive},
        {name: here[name] for name in decisive},
    )


def differences(prefix, there, here):
    """Two dictionaries' differences in words, empty if there are none."""
    return ", ".join(
        f"{prefix}{name} is {there.get(name)} there and {here.get(name)} here"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name)
    )


def write_json(path, content):
    """Writes beside, then renames, so that no half file is ever seen."""
    beside = _beside(path)
    beside.write_text(json.dumps(content, indent=2, default=str) + "\n")
    beside.replace(path)


def _beside(path):
    return path.with_suffix(".partial")


def read_history(path):
    """The epochs that a `CSVLogger` wrote, a list of dictionaries."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            {name: float(value) for name, value in row.items()}
            for row in csv.DictReader(file)
        ]


def cut_history(path, epochs):
    """Leaves the epochs before a number; the others will be repeated.

    The first row may be that of a later epoch, where a network was set back.
    """
    if not path.exists():
        return
    with path.open() as file:
        header, *rows = file.readlines() or [""]
    kept = [row for row in rows if int(row.partition(",")[0]) < epochs]
    beside = _beside(path)
    beside.write_text("".join([header, *kept] if kept else []))
    beside.replace(path)
