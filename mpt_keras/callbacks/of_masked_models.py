"""What the callbacks share that only make sense with masked layers."""

import keras

from mpt_keras.layers.traversal import masked_layers


class OfMaskedModels(keras.callbacks.Callback):
    """Refuses a model without masked layers; knows the masked kernels."""

    def set_model(self, model):
        super().set_model(model)
        layers = masked_layers(model)
        if not layers:
            raise ValueError(
                f"{type(self).__name__} needs a model with masked layers "
                "(MPTConv2D, MPTDense, ...). Received a model with none: "
                f"'{model.name}'"
            )
        self._layers = layers

    @property
    def masked_kernels(self):
        unbuilt = [layer.name for layer in self._layers if not layer.built]
        if unbuilt:
            raise ValueError(
                f"{type(self).__name__} needs a model whose weights exist "
                "before training. Start the model with keras.Input(...), or "
                f"call it once. Not built: {unbuilt}"
            )
        return [m for layer in self._layers for m in layer.masked_kernels]
