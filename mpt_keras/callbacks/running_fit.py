"""What a callback must know of the `fit` that calls it."""

import keras


def take_back_variables(model):
    """Brings the variables up to date; on JAX a `fit` holds their values."""
    if keras.backend.backend() == "jax":
        model.jax_state_sync()
