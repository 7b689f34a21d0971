"""What a callback must know of the `fit` that calls it."""

import keras
from keras import ops


def take_back_variables(model):
    """Brings the variables up to date; on JAX a `fit` holds their values."""
    if keras.backend.backend() == "jax":
        model.jax_state_sync()


def completed_batches(model) -> int:
    """Batches that the optimizer has seen, in resumed runs as well."""
    optimizer = model.optimizer
    updates = int(ops.convert_to_numpy(optimizer.iterations))
    return updates * (optimizer.gradient_accumulation_steps or 1)
