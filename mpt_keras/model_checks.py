"""Checks of models that are given as arguments."""

import keras


def check_is_model(model, expected="a Keras model") -> None:
    """Raises `ValueError` if it is no Keras model."""
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"Invalid value for argument `model`. Expected {expected}. "
            f"Received: model={model!r}"
        )


def check_is_built(model) -> None:
    """Raises `ValueError` if a model's weights do not exist yet."""
    if not model.built:
        raise ValueError(
            f"Model '{model.name}' is not built, so its weights do not exist "
            "yet. Call it on a batch, or start it with keras.Input."
        )
