"""Custom layers with masked layers in the place of ordinary ones they make."""

import copy

import keras

from mpt_keras.conversion.copying import is_of_keras
from mpt_keras.conversion.rebuilding import GRAPHS
from mpt_keras.conversion.swapping import swap_layers


@keras.saving.register_keras_serializable(package="mpt_keras")
class Converted:
    """What a custom layer becomes in which masked layers took their places.

    Its class makes ordinary layers. A saved one says what it was and which
    layers are masked, and becomes itself again once it is loaded.

    Attributes:
        original: What the layer was, as Keras serializes it.
        masked: Dictionary, place (`places`) -> the layer that is there now.
    """

    original = None
    masked = None

    def get_config(self):
        return {
            "layer": copy.deepcopy(self.original),
            "masked": [
                [place, keras.saving.serialize_keras_object(layer)]
                for place, layer in self.masked.items()
            ],
            "trainable": self.trainable,
        }

    @classmethod
    def from_config(cls, config):
        config = copy.deepcopy(config)
        layer = keras.saving.deserialize_keras_object(config["layer"])
        masked = {
            place: keras.saving.deserialize_keras_object(inner)
            for place, inner in config["masked"]
        }
        put_inside(layer, masked)
        layer.trainable = config["trainable"]
        return as_converted(layer, config["layer"], masked)


def places(holder):
    """Returns the layers that a layer holds by their places.

    A place does not depend on what is built: Keras' examples have blocks
    without a `build`, whose attention makes its projections when it is called.

    Args:
        holder: A layer, built or not.

    Returns:
        Dictionary, place such as `"2/0"` (the first layer in the third) ->
        layer; not what layers of Keras, models excepted, hold themselves.
    """
    found = {}

    def visit(layer, place):
        for number, inner in enumerate(_held(layer)):
            inner_place = f"{place}/{number}" if place else str(number)
            found[inner_place] = inner
            visit(inner, inner_place)

    visit(holder, "")
    return found


def _held(layer):
    if isinstance(layer, GRAPHS):
        return layer.layers
    if isinstance(layer, keras.layers.TimeDistributed):
        return [layer.layer]
    return [] if is_of_keras(layer) else layer._layers


def put_inside(holder, replacements):
    """Puts other layers where a layer's own code calls those that it holds.

    Args:
        holder: A built layer; changed in place.
        replacements: Dictionary, place (`places`) -> layer.
    """
    held = places(holder)
    others = {id(held[place]): layer for place, layer in replacements.items()}
    graphs = {}

    def swap(layer):
        if id(layer) in others:
            return others[id(layer)]
        inner = layer._flatten_layers(include_self=False)
        if not any(id(one) in others for one in inner):
            return layer
        if not isinstance(layer, GRAPHS):
            swap_layers(layer, swap)
            return layer
        if id(layer) not in graphs:
            graphs[id(layer)] = keras.models.clone_model(
                layer, clone_function=swap
            )
        return graphs[id(layer)]

    swap_layers(holder, swap)
    for place in replacements:
        held[place].call = _refuse_call  # whoever still calls it is to fail


def _refuse_call(*args, **kwargs):
    raise TypeError("it calls an ordinary layer that a masked one replaced")


def as_converted(layer, original, masked):
    """Turns a layer into a `Converted` one; `original` is what it was."""
    original = {**original, "compile_config": None}
    # Keras looks a class up by this name, which is that of `Converted`.
    name = keras.saving.get_registered_name(Converted)
    bases = (Converted, type(layer))
    state = {"original": original, "masked": masked}
    layer.__class__ = type(layer.__class__)(name, bases, state)
    return layer
