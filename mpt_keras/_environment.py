"""Refuses, before anything else is imported, what could only fail later."""

import functools
import os

# Package that Keras may miss -> the backend that it belongs to.
_BACKENDS = {
    "tensorflow": "tensorflow",
    "jax": "jax",
    "jaxlib": "jax",
    "torch": "torch",
}


def version():
    """That of this package."""
    import importlib.metadata  # takes longer than all else here

    try:
        return importlib.metadata.version("mpt_keras")
    except importlib.metadata.PackageNotFoundError:
        return "0+source"  # run from a source tree


@functools.cache
def check_keras():
    """Imports Keras, or raises `ImportError` with the way out."""
    check_keras_3(import_keras().__version__)


def import_keras():
    """Imports Keras with its backend, or says which backend is missing.

    Raises:
        ImportError: If the backend is not installed or not known.
    """
    try:
        import keras
    except ModuleNotFoundError as error:
        backend = _BACKENDS.get((error.name or "").split(".")[0])
        chosen = os.environ.get("KERAS_BACKEND") or backend
        if backend is None or backend != chosen:
            raise
        raise ImportError(_missing(backend)) from None
    except ValueError as error:
        if "backend" not in str(error):
            raise
        raise ImportError(_unknown(error)) from None
    return keras


def _missing(backend):
    others = [
        name for name in ("tensorflow", "jax", "torch") if name != backend
    ]
    return (
        f"Keras is set to the backend '{backend}', which is not installed. "
        f'Install it: pip install "mpt_keras[{backend}]", or choose one that '
        f"is installed before Python starts: KERAS_BACKEND={others[0]} or "
        f"KERAS_BACKEND={others[1]}."
    )


def _unknown(error):
    return (
        "Keras does not know its backend. Expected KERAS_BACKEND=tensorflow, "
        'jax or torch (or the same as "backend" in ~/.keras/keras.json). '
        f"Received: KERAS_BACKEND={os.environ.get('KERAS_BACKEND')!r}. Keras "
        f"says: {error}"
    )


def check_keras_3(version, environment=os.environ):
    """Raises `ImportError` under legacy Keras, with the way out."""
    if not is_supported(version, environment):
        legacy = environment.get("TF_USE_LEGACY_KERAS")
        raise ImportError(
            "mpt_keras needs Keras 3.12 or later, and tf.keras must be the "
            f"same Keras. Received: keras {version}, TF_USE_LEGACY_KERAS="
            f"{legacy!r}. Unset TF_USE_LEGACY_KERAS (with it, tf.keras is "
            "Keras 2, whose models and optimizers do not work with ours), and "
            "install keras>=3.12."
        )


def is_supported(version, environment=os.environ) -> bool:
    """Whether a Keras is one that the library works with."""
    legacy = environment.get("TF_USE_LEGACY_KERAS", "")
    release = tuple(int(number) for number in version.split(".")[:2])
    return legacy.lower() not in ("1", "true") and release >= (3, 12)
