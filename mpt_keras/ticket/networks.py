"""From the configuration in a ticket to a network, by allowed names only."""

import itertools

import keras

from mpt_keras.layers.traversal import walk
from mpt_keras.ticket.allowed import check_config
from mpt_keras.ticket.deferred import without_values
from mpt_keras.ticket.errors import TicketError
from mpt_keras.ticket.slots import other_weights, slots_of

# Settings of layers since 3.12, the first that is supported, as they are where
# nothing is set.
_ADDED_BY_KERAS = {
    "quantization_config": None,
    "renorm": False,
    "renorm_clipping": None,
    "renorm_momentum": 0.99,
    "sliding_window": None,
    "use_gate": False,
}


def network(config, custom_objects=None):
    """Makes the model of a configuration.

    Args:
        config: What `keras.saving.serialize_keras_object` returned, by way of
            JSON.
        custom_objects: As for `check_config`.

    Raises:
        TicketError: If the configuration names other objects, or is of no
            model.
    """
    check_config(config, custom_objects)
    model = keras.saving.deserialize_keras_object(
        _for_any_keras(config),
        custom_objects=custom_objects,
        safe_mode=True,
    )
    if not isinstance(model, keras.Model):
        raise TicketError("Its configuration is not of a Keras model.")
    return model


def _for_any_keras(config):
    """A copy (Keras empties what it is given) that earlier Keras takes, too.

    Keras refuses settings that it does not know, also where they set nothing.
    """
    if isinstance(config, list):
        return [_for_any_keras(value) for value in config]
    if not isinstance(config, dict):
        return config
    copy = {key: _for_any_keras(value) for key, value in config.items()}
    package = str(config.get("module")).partition(".")[0]
    if package in ("keras", "mpt_keras") and isinstance(
        copy.get("config"), dict
    ):
        for key, value in _ADDED_BY_KERAS.items():
            if key in copy["config"] and copy["config"][key] == value:
                del copy["config"][key]
    return copy


def made_again(config, model):
    """Returns the model that a reader will make, without values.

    Raises:
        ValueError: If it has not the weights of the given one.
    """
    for path, layer in walk(model):
        _check_state(layer, path)
    try:
        with without_values():
            again = network(config)
        found = _shapes(again)
    except TicketError as error:
        raise ValueError(
            f"Model '{model.name}' cannot be stored as a ticket. {error}"
        ) from error
    except Exception as error:
        raise ValueError(
            f"Model '{model.name}' cannot be made again from its "
            f"configuration{_culprit(model)}. Expected layers whose "
            "`get_config` says all that they are made of, that make their "
            "weights in `build`, are registered "
            "(@keras.saving.register_keras_serializable()) and keep no state "
            f"from one batch to the next. Keras says: {error}"
        ) from error
    expected = _shapes(model)
    pairs = itertools.zip_longest(expected, found, fillvalue=("none", None))
    for (name, shape), (other_name, other) in pairs:
        if shape != other:
            raise ValueError(
                f"Model '{model.name}' cannot be made again from its "
                f"configuration: its weight '{name}' of the shape {shape} is "
                f"then '{other_name}' of the shape {other}. The layers' "
                "`get_config` must say all that they are made of."
            )
    if sorted(expected) == sorted(found) and expected != found:
        raise ValueError(
            f"The weights of model '{model.name}' come in another order when "
            "it is made again from its configuration, and would be exchanged. "
            "Expected layers that are made in an order of their own."
        )
    return again


def training_flags(model) -> str:
    """Whether each layer, and then each weight, is trainable: 0s and 1s."""
    flags = [layer.trainable for _, layer in walk(model)]
    flags += [variable.trainable for variable in model.weights]
    return "".join("01"[bool(flag)] for flag in flags)


def set_training_flags(model, flags) -> None:
    """Makes `training_flags` what they were.

    Raises:
        TicketError: If they are not those of such a model.
    """
    layers = [layer for _, layer in walk(model)]
    parts = layers + model.weights
    if not isinstance(flags, str) or len(flags) != len(parts):
        raise TicketError("It says of other layers whether they train.")
    for part, flag in zip(parts, flags, strict=True):
        if part.trainable != (flag == "1"):
            part.trainable = flag == "1"


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
