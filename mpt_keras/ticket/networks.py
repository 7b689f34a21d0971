"""From the configuration in a ticket to a network, by allowed names only."""

import copy
import itertools

import keras

from mpt_keras.layers.traversal import walk
from mpt_keras.ticket.allowed import check_config
from mpt_keras.ticket.deferred import without_values
from mpt_keras.ticket.errors import TicketError
from mpt_keras.ticket.slots import other_weights, slots_of


def network(config, custom_objects):
    """Makes the model of a configuration.

    Args:
        config: What `keras.saving.serialize_keras_object` returned, by way of
            JSON.
        custom_objects: Dictionary, name -> class that is allowed beside those
            of Keras and mpt_keras.

    Raises:
        TicketError: If the configuration names other objects, or is of no
            model.
    """
    check_config(config, custom_objects)
    model = keras.saving.deserialize_keras_object(
        copy.deepcopy(config),  # which Keras empties
        custom_objects=custom_objects,
        safe_mode=True,
    )
    if not isinstance(model, keras.Model):
        raise TicketError("Its configuration is not of a Keras model.")
    return model


def check_makes_again(config, model) -> None:
    """Raises `ValueError` unless a configuration gives a model's weights."""
    for path, layer in walk(model):
        _check_state(layer, path)
    try:
        with without_values():
            again = network(config, keras.saving.get_custom_objects())
        found = _shapes(again)
    except TicketError as error:
        raise ValueError(
            f"Model '{model.name}' cannot be stored as a ticket. {error}"
        ) from error
    except Exception as error:
        raise ValueError(
            f"Model '{model.name}' cannot be made again from its "
            f"configuration{_culprit(model)}. Expected layers whose "
            "`get_config` says all that they are made of, and that make their "
            f"weights in `build`. Keras says: {error}"
        ) from error
    for expected, received in itertools.zip_longest(_shapes(model), found):
        (name, shape), (_, other) = expected or found[-1], received or ("", ())
        if expected is None or shape != other:
            raise ValueError(
                f"Layer '{name.rpartition('/')[0] or name}' of model "
                f"'{model.name}' cannot be made again from its configuration: "
                f"its weight '{name}' of the shape {shape} is then of the "
                f"shape {other}. Its `get_config` must say all that it is made "
                "of."
            )


def _shapes(model):
    """Pairs of name and shape, of all that a ticket holds."""
    slots = slots_of(model)
    weights = other_weights(model, slots.values())
    kernels = {f"{name}/kernel": slot for name, slot in slots.items()}
    return [
        (name, tuple(weight.shape))
        for name, weight in (kernels | weights).items()
    ]


def _check_state(layer, path):
    """Raises `ValueError` if a layer keeps more than variables."""
    saves = type(layer).save_own_variables
    if saves is keras.layers.Layer.save_own_variables:
        return
    store = {}
    layer.save_own_variables(store)
    own = layer._trainable_variables + layer._non_trainable_variables
    if len(store) > len(own):
        raise ValueError(
            f"Layer '{path or layer.name}' keeps state beside its weights, "
            "which a ticket does not hold."
        )


def _culprit(model):
    """The name of the layer that Keras cannot make again, if it is one."""
    for path, layer in walk(model):
        if layer is model:
            continue
        try:
            with without_values():
                keras.saving.deserialize_keras_object(
                    keras.saving.serialize_keras_object(layer)
                )
        except Exception:
            return f" (layer '{path}')"
    return ""
