"""Larq's own quantizers, imported so that they work under Keras 3.

`import larq` fails under Keras 3, because the package also holds layers built
on classes that Keras 3 dropped. Its quantizers need none of them. So
`mpt_keras.larq.quantizers` is Larq's own module, imported without running the
package's `__init__`.

Example:

>>> quantizer = mpt_keras.larq.quantizers.SteSign(clip_value=1.2)
>>> layer = mpt_keras.MPTDense(10, input_quantizer=quantizer)

Reference:
    Geiger and the Plumerai team, "Larq: An Open-Source Library for Training
    Binarized Neural Networks", JOSS 2020.
"""

import importlib
import importlib.metadata
import importlib.util
import sys
import types

import numpy as np
from packaging.requirements import Requirement  # Keras requires it


def __getattr__(name):
    if name != "quantizers":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _import_quantizers()
    globals()["quantizers"] = module
    return module


def _import_quantizers():
    spec = importlib.util.find_spec("larq")
    if spec is None:
        raise ImportError(
            "Larq's quantizers need the package `larq`, which is not "
            "installed. Install it with: pip install 'mpt_keras[larq]' "
            "(Larq needs numpy < 2). The quantizers 'approx_sign', 'ste_sign' "
            "and 'swish_sign' of mpt_keras compute the same without it."
        )
    _check_numpy()
    try:
        importlib.import_module("larq")
    except (AttributeError, ImportError):
        _forget_larq()
        _import_around_init(spec)
    return importlib.import_module("larq.quantizers")


def _import_around_init(spec):
    hollow = types.ModuleType("larq")
    hollow.__path__ = list(spec.submodule_search_locations)
    sys.modules["larq"] = hollow
    try:
        importlib.import_module("larq.quantizers")
    except BaseException:
        _forget_larq()
        raise
    # The hollow package must not be what others get from `import larq`.
    del sys.modules["larq"]


def _forget_larq():
    for name in [n for n in sys.modules if n.split(".")[0] == "larq"]:
        del sys.modules[name]


def _check_numpy():
    """Raises if NumPy is a version that Larq says it does not work with."""
    for text in importlib.metadata.requires("larq") or ():
        requirement = Requirement(text)
        if requirement.name == "numpy" and requirement.marker is None:
            allowed = requirement.specifier
            if not allowed.contains(np.__version__, prereleases=True):
                raise ImportError(
                    f"Larq {importlib.metadata.version('larq')} needs numpy "
                    f"{allowed}, but numpy {np.__version__} is installed. "
                    "Install both together in an environment of their own: "
                    "pip install 'mpt_keras[larq]'. The quantizers "
                    "'approx_sign', 'ste_sign' and 'swish_sign' of mpt_keras "
                    "compute the same without Larq."
                )
