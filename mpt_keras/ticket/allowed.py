"""What the configuration in a ticket may name: parts of networks, no code.

Keras makes whatever object a configuration names, and imports its module for
it. Here nothing is made before all names in a configuration were found among
Keras' and our layers, operations, initializers and the like, and all sizes
of inputs were found to be moderate.
"""

import inspect
import math
import reprlib
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
# They, and what derives from them, hold code of their own, or read files that
# a configuration names.
_REFUSED = tuple(
    getattr(keras.layers, name)
    for name in (
        *("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer"),
        *("FlaxLayer", "StringLookup", "IntegerLookup", "TextVectorization"),
    )
    if hasattr(keras.layers, name)
)
_REFUSED += tuple(
    base
    for base in keras.layers.StringLookup.__mro__
    if base.__name__ == "IndexLookup"
)
_DATA = {"__keras_tensor__", "__slice__", "__ellipsis__", "__tuple__"}
_ARRAYS = {"__tensor__", "__numpy__"}
_DTYPES = {"bool", "bfloat16", "float16", "float32", "float64"}
_DTYPES |= {f"{u}int{bits}" for u in ("", "u") for bits in (8, 16, 32, 64)}
_OF_FUNCTIONS = ("builtins", "keras.activations", "keras.ops")
# Numbers that an example holds. Some layers make constants of that size.
_LARGEST_INPUT = 2**27
_SHAPES = ("shape", "input_shape", "batch_shape", "batch_input_shape")


def check_config(config, custom_objects=None) -> None:
    """Raises `TicketError` unless a configuration names allowed objects only.

    Args:
        config: What `keras.saving.serialize_keras_object` returned, by way of
            JSON.
        custom_objects: Dictionary, name -> class that is allowed as well. None
            allows every class that is registered, which a model that is there
            is made of.
    """
    pending = [(None, config)]
    while pending:
        key, value = pending.pop()
        if isinstance(value, dict):
            if "class_name" in value:
                _check_object(value, custom_objects)
            pending += value.items()
        elif isinstance(value, list):
            if key in _SHAPES:
                _check_shape(value)
            if key == "inbound_nodes":
                _check_nodes(value)
            pending += ((key, item) for item in value)
        elif isinstance(value, str) and key not in ("name", "class_name"):
            _check_text(value, custom_objects)


def _check_object(entry, custom_objects):
    name, module = entry["class_name"], entry.get("module")
    config = entry.get("config")
    if entry.get("compile_config"):
        raise TicketError("It says how to train, which tickets do not.")
    if name in _DATA:
        return
    if name in _ARRAYS:
        allowed = isinstance(config, dict) and config.get("dtype") in _DTYPES
    elif name == "function":
        allowed = _is_function(config, module, custom_objects)
    else:
        allowed = _is_part_of_a_network(
            _class_of(entry, name, module, custom_objects), custom_objects
        )
    if allowed:
        return
    layer = config.get("name") if isinstance(config, dict) else None
    received = entry.get("registered_name") or f"{module}.{name}"
    if name == "function":
        received = f"{module}.{config}"
    raise _refusal(received, layer)


def _refusal(received, layer=None):
    where = f" (layer {reprlib.repr(layer)})" if layer else ""
    return TicketError(
        f"It names {reprlib.repr(received)}{where}. Expected layers, "
        "operations, initializers and the like of Keras or mpt_keras, which "
        "hold no code and read no files. If you know and trust a class of "
        "another kind, register it before you save "
        "(keras.saving.register_keras_serializable), and pass it to "
        "load_ticket by its registered name: "
        "custom_objects={'Package>Name': Name}."
    )


def _check_shape(shape):
    sizes = [size for size in shape if isinstance(size, (int, float))]
    if len(sizes) > 32 or math.prod(map(abs, sizes)) > _LARGEST_INPUT:
        raise TicketError(
            f"It takes inputs of the shape {reprlib.repr(shape)}. Expected at "
            f"most {_LARGEST_INPUT} numbers."
        )


def _check_nodes(nodes):
    """What is called on constants alone is computed when it is loaded."""
    for node in nodes:
        if not _holds_a_tensor(node):
            raise TicketError(
                "It computes with constants alone. Expected operations on "
                "what a layer before them gives."
            )


def _holds_a_tensor(node):
    pending = [node]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            if value.get("class_name") == "__keras_tensor__":
                return True
            pending += value.values()
        elif isinstance(value, list):
            pending += value
    return False


def _check_text(text, custom_objects):
    """Keras takes the name of a registered object for the object."""
    found = keras.saving.get_registered_object(text)
    if found is None or custom_objects is None or text in custom_objects:
        return
    if not _is_ours(found):
        raise _refusal(text)


def _is_function(name, module, custom_objects):
    if not isinstance(name, str):
        return False
    if keras.saving.get_registered_object(name) is not None:
        return custom_objects is None or name in custom_objects
    if custom_objects and name in custom_objects:
        return True
    return module in _OF_FUNCTIONS and (
        hasattr(keras.activations, name)
        or (module == "keras.ops" and hasattr(keras.ops, name))
    )


def _class_of(entry, name, module, custom_objects):
    """The class that Keras would make an object of, if there is one."""
    registered_name = entry.get("registered_name", name)
    if not isinstance(name, str):
        return None
    if isinstance(registered_name, str):
        if registered_name.startswith("Larq>"):
            larq.quantizers  # noqa: B018  registers them
        found = keras.saving.get_registered_object(
            registered_name, custom_objects
        )
        if found is not None:
            return found
    if isinstance(module, str) and module.split(".")[0] == "keras":
        return getattr(sys.modules.get(module), name, None)
    return None


def _is_part_of_a_network(found, custom_objects):
    if custom_objects and any(
        found is allowed for allowed in custom_objects.values()
    ):
        return True
    if not inspect.isclass(found):
        return False
    if issubclass(found, _REFUSED):
        return False
    if found.__module__.split(".")[0] == "keras":
        return issubclass(found, _KINDS)
    return _is_ours(found) or (
        custom_objects is None and hasattr(found, "from_config")
    )


def _is_ours(found):
    module = getattr(found, "__module__", "")
    ours = module.split(".")[0] == "mpt_keras" or module == "larq.quantizers"
    return ours and hasattr(found, "from_config")
