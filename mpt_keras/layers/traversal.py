"""Finding the masked layers of a model."""

import keras

from mpt_keras.layers.masked import MaskedLayer


def masked_layers(model):
    """Returns every masked layer of a model, those of nested models included.

    Args:
        model: A Keras model or layer.

    Returns:
        List of masked layers, each once, in the model's order.

    Raises:
        ValueError: If `model` is no Keras model or layer.

    Example:

    >>> model = keras.Sequential([mpt_keras.MPTDense(8), mpt_keras.MPTDense(2)])
    >>> len(mpt_keras.masked_layers(model))
    2
    """
    if not isinstance(model, keras.layers.Layer):
        raise ValueError(
            f"Expected a Keras model or layer. Received: {model!r}"
        )
    found = {}

    def visit(layer):
        if isinstance(layer, MaskedLayer):
            found.setdefault(id(layer), layer)
        is_model = isinstance(layer, keras.Model)
        for inner in layer.layers if is_model else layer._layers:
            visit(inner)

    visit(model)
    return list(found.values())
