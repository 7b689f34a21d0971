"""Refuses, before anything else is imported, what could only fail later."""

import os

import keras
from packaging.version import Version


def check_keras_3(version=keras.__version__, environment=os.environ):
    """Raises `ImportError` under legacy Keras, with the way out."""
    legacy = environment.get("TF_USE_LEGACY_KERAS", "").lower() in ("1", "true")
    if legacy or Version(version) < Version("3.12"):
        raise ImportError(
            "mpt_keras needs Keras 3.12 or later, and tf.keras must be the same Keras. "
            f"Received: keras {version}, TF_USE_LEGACY_KERAS="
            f"{environment.get('TF_USE_LEGACY_KERAS')!r}. Unset "
            "TF_USE_LEGACY_KERAS (with it, tf.keras is Keras 2, whose models "
            "and optimizers do not work with ours), and install keras>=3.12."
        )
