"""What the callbacks share that only make sense with masked layers."""

import fnmatch
from collections.abc import Sequence

import keras

from mpt_keras.layers.masked import MaskedLayer
from mpt_keras.layers.traversal import masked_layers, named_layers

_Layer = str | keras.layers.Layer
Layers = _Layer | Sequence[_Layer] | None


class MaskedModelCallback(keras.callbacks.Callback):
    """Knows the masked layers that it is for; refuses a model with none.

    Args:
        layers: None for all masked layers that train, which leaves out those
            of a distiller's teacher and whatever else is not trainable; or
            some of these by a name, a pattern of names such as `"stage4_*"`,
            or a sequence of both. Or masked layers themselves, whichever.
    """

    def __init__(self, layers: Layers = None) -> None:
        super().__init__()
        if isinstance(layers, (str, keras.layers.Layer)):
            layers = [layers]
        self.layers = None if layers is None else list(layers)
        if self.layers == []:
            raise ValueError(
                "Invalid value for argument `layers`. Expected layers, names "
                "or patterns, or None for all that train. Received: none"
            )

    def set_model(self, model):
        super().set_model(model)
        self._chosen = self._choose(model)

    @property
    def chosen_layers(self):
        """The masked layers, their variables up to date."""
        _ = self.model  # on JAX, this brings them back from the running `fit`
        return self._chosen

    @property
    def masked_kernels(self):
        layers = self.chosen_layers
        unbuilt = [layer.name for layer in layers if not layer.built]
        if unbuilt:
            raise ValueError(
                f"{type(self).__name__} needs a model whose weights exist "
                "before training. Start the model with keras.Input(...), or "
                f"call it once. Not built: {unbuilt}"
            )
        return [m for layer in layers for m in layer.masked_kernels]

    def _choose(self, model):
        found = named_layers(model, MaskedLayer)
        if not found:
            raise ValueError(
                f"{type(self).__name__} needs a model with masked layers "
                "(MPTConv2D, MPTDense, ...). Received a model with none: "
                f"'{model.name}'"
            )
        if self.layers is not None:
            return self._named(found, model)
        training = [layer for layer in found.values() if layer.trainable]
        if not training:
            raise ValueError(
                f"{type(self).__name__} acts on the layers that train, and no "
                f"masked layer of '{model.name}' does. Set `trainable`, or "
                f"name the layers (`layers=`). Received: {list(found)}"
            )
        return training

    def _named(self, found, model):
        chosen = set()
        for one in self.layers:
            matching = {
                name
                for name, layer in found.items()
                if layer is one
                or (
                    isinstance(one, str)
                    and layer.trainable
                    and fnmatch.fnmatchcase(name, one)
                )
            }
            if not matching:
                raise ValueError(
                    "Invalid value for argument `layers`. Expected masked "
                    f"layers of '{model.name}', or names or patterns of those "
                    f"that train, out of {list(found)}. Received: {one!r}"
                )
            chosen |= matching
        return [layer for name, layer in found.items() if name in chosen]


def overall_sparsity(model) -> float:
    """Returns the fraction pruned now of all masked weights that train.

    Args:
        model: A built Keras model with masked layers.
    """
    layers = masked_layers(model)
    kernels = [
        masked
        for layer in [x for x in layers if x.trainable] or layers
        for masked in layer.masked_kernels
    ]
    kept = sum(int(masked.kept()) for masked in kernels)
    return 1.0 - kept / sum(masked.size for masked in kernels)
