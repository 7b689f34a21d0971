"""Keras before our modules that need it; after Keras, the classes it must know.

Keras loads saved models by the names of classes, which it knows once their
modules are imported. `import mpt_keras` does not import them, nor Keras; so
they are imported as soon as somebody imports Keras.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys

from mpt_keras import _environment

_PACKAGE = __name__.partition(".")[0]
_WITHOUT_KERAS = {
    *("command_line", "compiled", "config", "drawing", "figures", "files"),
    *("figure_words", "frozen_part", "pretrained"),
    *("runtime", "schedules", "seeds", "sparsity", "sparsity_rules"),
    *("sums", "text_tables", "ticket"),
    *("ticket.compiled_masks", "ticket.container", "ticket.errors"),
    *("ticket.kernels", "ticket.logarithms", "ticket.mask_codec"),
    *("ticket.mask_model", "ticket.mask_settings", "ticket.mask_totals"),
    *("ticket.mask_weights", "ticket.packaged", "ticket.range_coder"),
    *("ticket.reading", "ticket.records", "ticket.start"),
}
# Packages whose modules import Keras themselves, where they need it.
_PREFIXES = ("commands", "runtime.", "experiments")
_WITH_CLASSES = (
    *("layers", "quantizers", "losses", "conversion", "lottery"),
    "engines.hls4ml",
)


def install():
    """Sees to it from now on; at once, where Keras is there already."""
    sys.meta_path.insert(0, _Finder())
    if "keras" in sys.modules:
        _import_classes(sys.modules["keras"])


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        package, _, module = fullname.partition(".")
        without = module in _WITHOUT_KERAS or module.startswith(_PREFIXES)
        needs_keras = package == _PACKAGE and not without
        if fullname != "keras" and not needs_keras:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None:
            # Not now, while the interpreter holds a lock on all imports.
            execute = spec.loader.exec_module
            around = _with_keras_before if needs_keras else _with_classes_after
            spec.loader.exec_module = lambda module: around(execute, module)
        return spec


def _with_classes_after(execute, keras):
    execute(keras)
    _import_classes(keras)


def _with_keras_before(execute, module):
    name = module.__name__
    if "keras" not in sys.modules:
        # Keras brings our classes with it, and these perhaps this module.
        del sys.modules[name]
        _environment.check_keras()
        if name in sys.modules:
            return
        sys.modules[name] = module
    _environment.check_keras()
    execute(module)


def _import_classes(keras):
    if not _environment.is_supported(keras.__version__):
        return
    try:
        for name in _WITH_CLASSES:
            importlib.import_module(f"{_PACKAGE}.{name}")
    except RuntimeError:  # a deadlock: another thread is importing them
        pass
