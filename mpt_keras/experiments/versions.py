"""What decides a run's results beside its settings: whose code computes it."""

import importlib.metadata
import json
import os
import pathlib
import platform

# The seed's numbers and the file formats are those of these.
_DECISIVE = ("mpt_keras", "keras", "backend")


def here():
    """Name -> version, without importing any of it."""
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


def changed(there):
    """In words, how the versions here differ from others; empty if not."""
    now = here()
    return differences(
        {name: there.get(name) for name in _DECISIVE},
        {name: now[name] for name in _DECISIVE},
    )


def differences(there, here):
    """Two dictionaries' differences in words, empty if there are none."""
    return ", ".join(
        f"{name} is {there.get(name)} there and {here.get(name)} here"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name)
    )
