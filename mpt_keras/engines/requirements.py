"""Packages that one format alone needs, imported when it is used."""

import importlib
import types

import keras


def load(module: str, package: str, extra: str) -> types.ModuleType:
    """Imports an engine's module, or says how to install it.

    Args:
        module: Dotted name of the module.
        package: The distribution that brings it.
        extra: The extra of `mpt_keras` that brings all that the format needs.

    Raises:
        ImportError: If it is not installed.

    Example:

    >>> load("math", "python", "litert").sqrt(4.0)
    2.0
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != module.split(".")[0]:
            raise
        raise ImportError(
            f"This format needs the package `{package}`, which is not "
            f'installed. Install it: pip install "mpt_keras[{extra}]"'
        ) from None


def check_keras_version(first: tuple[int, int], what: str) -> None:
    """Raises `ImportError` if Keras is older than the version that does it.

    Args:
        first: Major and minor number of the first version.
        what: What it does, for the error.

    Example:

    >>> check_keras_version((3, 13), "LiteRT files")
    """
    found = tuple(int(part) for part in keras.__version__.split(".")[:2])
    if found < first:
        raise ImportError(
            f"Keras writes {what} from version {first[0]}.{first[1]} on, which "
            "needs Python 3.11 or later. Received: keras "
            f"{keras.__version__}. Update it: pip install -U keras"
        )
