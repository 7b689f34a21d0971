"""What a callback must know of the `fit` that calls it."""

import keras
from keras import ops

from mpt_keras.layers.traversal import masked_layers


def take_back_variables(model):
    """Brings the variables up to date; on JAX a `fit` holds their values."""
    if keras.backend.backend() == "jax":
        model.jax_state_sync()


def layers_to_search(callback, model):
    """The masked layers of the model that a callback is given.

    Raises:
        ValueError: If there is none.
    """
    layers = masked_layers(model)
    if not layers:
        raise ValueError(
            f"{type(callback).__name__} needs a model with masked layers "
            "(MPTConv2D, MPTDense, ...). Received a model with none: "
            f"'{model.name}'"
        )
    return layers


def completed_batches(model) -> int:
    """Batches that the optimizer has seen, in resumed runs as well."""
    optimizer = model.optimizer
    updates = int(ops.convert_to_numpy(optimizer.iterations))
    return updates * (optimizer.gradient_accumulation_steps or 1)
