"""What the configuration in a ticket may name: parts of networks, no code.

Keras makes whatever object a configuration names, and imports its module for
it. Here nothing is made before all names in a configuration were found among
Keras' and our layers, operations, initializers and the like.
"""

import inspect
import sys

import keras

from mpt_keras import larq
from mpt_keras.ticket.errors import TicketError

_KINDS = (
    keras.Operation,  # layers and models as well
    keras.Initializer,
    keras.Regularizer,
    keras.constraints.Constraint,
    keras.DTypePolicy,
    keras.random.SeedGenerator,
)
# They hold code of their own, or read files that a configuration names.
_REFUSED = {
    *("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"),
    *("StringLookup", "IntegerLookup", "TextVectorization"),
}
_DATA = {"__keras_tensor__", "__slice__", "__ellipsis__", "__tuple__"}
_ARRAYS = {"__tensor__", "__numpy__"}
_DTYPES = {"bool", "bfloat16", "float16", "float32", "float64"}
_DTYPES |= {f"{u}int{bits}" for u in ("", "u") for bits in (8, 16, 32, 64)}
_OF_FUNCTIONS = ("builtins", "keras.activations", "keras.ops")


def check_config(config, custom_objects) -> None:
    """Raises `TicketError` unless a configuration names allowed objects only.

    Args:
        config: What `keras.saving.serialize_keras_object` returned, by way of
            JSON.
        custom_objects: Dictionary, name -> class that is allowed as well.
    """
    pending = [config]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            if "class_name" in value:
                _check(value, custom_objects)
            pending += value.values()
        elif isinstance(value, list):
            pending += value


def _check(entry, custom_objects):
    name, module = entry["class_name"], entry.get("module")
    config = entry.get("config")
    if name in _DATA:
        return
    if name in _ARRAYS:
        if isinstance(config, dict) and config.get("dtype") in _DTYPES:
            return
    elif name == "function":
        if _is_function(config, module, custom_objects):
            return
    elif _is_part_of_a_network(
        _class_of(entry, name, module, custom_objects), custom_objects
    ):
        return
    where = config.get("name") if isinstance(config, dict) else None
    received = entry.get("registered_name") or f"{module}.{name}"
    if name == "function":
        received = f"{module}.{config}"
    raise TicketError(
        f"It names '{received}'"
        + (f" (layer '{where}')" if isinstance(where, str) else "")
        + ". Expected layers, operations, initializers and the like of Keras "
        "or mpt_keras, which hold no code and read no files. If you know and "
        "trust a class of another kind, pass it by its registered name: "
        "custom_objects={'Package>Name': Name}."
    )


def _is_function(name, module, custom_objects):
    if not isinstance(name, str):
        return False
    registered = keras.saving.get_registered_object(name)
    if name in custom_objects or registered is not None:
        return name in custom_objects
    return module in _OF_FUNCTIONS and (
        hasattr(keras.activations, name)
        or (module == "keras.ops" and hasattr(keras.ops, name))
    )


def _class_of(entry, name, module, custom_objects):
    """The class that Keras would make an object of, if there is one."""
    registered_name = entry.get("registered_name", name)
    if not all(isinstance(text, str) for text in (name, module)):
        return None
    if isinstance(registered_name, str):
        if registered_name.startswith("Larq>"):
            larq.quantizers  # noqa: B018  registers them
        if registered_name in custom_objects:
            return custom_objects[registered_name]
        found = keras.saving.get_registered_object(registered_name)
        if found is not None:
            return found
    if module == "keras" or module.startswith("keras."):
        return getattr(sys.modules.get(module), name, None)
    return None


def _is_part_of_a_network(found, custom_objects):
    if any(found is allowed for allowed in custom_objects.values()):
        return True
    if not inspect.isclass(found) or found.__name__ in _REFUSED:
        return False
    package = found.__module__.split(".")[0]
    if package == "keras":
        return issubclass(found, _KINDS)
    ours = package == "mpt_keras" or found.__module__ == "larq.quantizers"
    return ours and hasattr(found, "from_config")
