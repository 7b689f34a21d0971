"""Lottery tickets with Keras: found, compared, shipped.

A multi-prize ticket is a sub-network of a randomly initialised network whose
weights are never trained, only pruned and binarised, and which is as accurate
as the trained network. The public names stand in `__init__.pyi`; each is
imported when it is first used, and Keras with it.
"""

import lazy_loader

from mpt_keras import _environment, _import_order

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
_import_order.install()


def __getattr__(name):
    if name == "__version__":
        return _environment.version()
    value = _load(name)
    globals()[name] = value
    return value
