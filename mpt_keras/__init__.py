"""Lottery tickets with Keras: found, compared, shipped.

A multi-prize ticket is a sub-network of a randomly initialised network whose
weights are never trained, only pruned and binarised, and which is as accurate
as the trained network. The public names stand in `__init__.pyi`; each is
imported when it is first used, and Keras with it.
"""

import importlib
import importlib.metadata

import lazy_loader
import wrapt

from mpt_keras import _environment

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
_WITHOUT_KERAS = ("config", "schedules")


def __getattr__(name):
    if name == "__version__":
        return _version()
    if name in __all__ and name not in _WITHOUT_KERAS:
        _environment.check_keras()
    value = _load(name)
    globals()[name] = value
    return value


def _register(keras):
    """Imports the classes by whose names Keras loads saved models."""
    if _environment.is_supported(keras.__version__):
        for name in ("layers", "quantizers", "losses", "lottery"):
            importlib.import_module(f"mpt_keras.{name}")


# Now, where Keras is there already.
wrapt.register_post_import_hook(_register, "keras")


def _version():
    try:
        return importlib.metadata.version("mpt_keras")
    except importlib.metadata.PackageNotFoundError:
        return "0+source"  # run from a source tree
