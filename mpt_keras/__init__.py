"""Lottery tickets with Keras: found, compared, shipped.

A multi-prize ticket is a sub-network of a randomly initialised network whose
weights are never trained, only pruned and binarised, and which is as accurate
as the trained network. The public names stand in `__init__.pyi`; each is
imported when it is first used, and Keras with it.
"""

import importlib.metadata

import lazy_loader

from mpt_keras import _import_order

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
_import_order.install()


def __getattr__(name):
    if name == "__version__":
        return _version()
    value = _load(name)
    globals()[name] = value
    return value


def _version():
    try:
        return importlib.metadata.version("mpt_keras")
    except importlib.metadata.PackageNotFoundError:
        return "0+source"  # run from a source tree
