"""Refuses, before anything else is imported, what could only fail later."""

import os

import keras


def check_keras_3(version=keras.__version__, environment=os.environ):
    """Raises `ImportError` under legacy Keras, with the way out."""
    legacy = environment.get("TF_USE_LEGACY_KERAS")
    wants_legacy = (legacy or "").lower() in ("1", "true")
    if wants_legacy or _release(version) < (3, 12):
        raise ImportError(
            "mpt_keras needs Keras 3.12 or later, and tf.keras must be the "
            f"same Keras. Received: keras {version}, TF_USE_LEGACY_KERAS="
            f"{legacy!r}. Unset TF_USE_LEGACY_KERAS (with it, tf.keras is "
            "Keras 2, whose models and optimizers do not work with ours), and "
            "install keras>=3.12."
        )


def _release(version):
    return tuple(int(number) for number in version.split(".")[:2])
