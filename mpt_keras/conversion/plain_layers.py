"""From one masked layer to the Keras layer that it derives from."""

import keras
from keras import ops

from mpt_keras.conversion.copying import copied
from mpt_keras.layers.masked import MaskedLayer


def masked_and_keras_class(layer):
    """Returns the class that made a Keras class a masked one, and that class.

    For an `MPTDense`, or a subclass of it, `MPTDense` and `keras.layers.Dense`.
    """
    classes = [
        base
        for base in type(layer).__mro__
        if issubclass(base, keras.layers.Layer)
    ]
    masked = [base for base in classes if issubclass(base, MaskedLayer)]
    return masked[-1], classes[len(masked)]


def plain_layer(layer):
    """Returns the Keras layer with a masked one's effective kernel.

    Args:
        layer: A masked layer. Its `input_quantizer` is left out. Where it is
            not built, no more is the layer returned.

    Raises:
        ValueError: If a score is NaN.
    """
    _, keras_class = masked_and_keras_class(layer)
    config = config_without_activation(layer, keras_class)
    # The kernel is assigned, and our initializers are custom objects.
    config |= dict.fromkeys(layer.kernel_initializers.values(), "zeros")
    plain = keras_class.from_config(config)
    give_activation(plain, layer)
    if not layer.built:
        return plain
    layer.check_scores()
    plain.build(layer.get_build_config()["input_shape"])
    names = layer.kernel_initializers
    for name, masked in zip(names, layer.masked_kernels, strict=True):
        kernel = getattr(plain, name)
        kernel.assign(ops.cast(masked.effective_array(), kernel.dtype))
    if getattr(layer, "bias", None) is not None:
        # A copy: JAX would have one array for both, and may donate it.
        plain.bias.assign(ops.copy(layer.bias))
    return plain


def config_without_activation(layer, keras_class):
    """What a Keras class needs to make the layer, all but its activation."""
    activation = getattr(layer, "activation", None)
    if activation is None:
        return keras_class.get_config(layer)
    if isinstance(activation, keras.layers.Layer):
        return {**keras_class.get_config(layer), "activation": None}
    layer.activation = keras.activations.linear
    try:
        return {**keras_class.get_config(layer), "activation": None}
    finally:
        layer.activation = activation


def give_activation(layer, source):
    """Gives a layer the activation of another; a copy where it is a layer."""
    activation = getattr(source, "activation", None)
    if activation is None:
        return
    # The function itself, because not every function can be looked up.
    has_state = isinstance(activation, keras.layers.Layer)
    layer.activation = copied(activation) if has_state else activation
