"""From masked layers to the Keras layers that they derive from."""

import keras
from keras import ops

from mpt_keras.conversion.copying import copied
from mpt_keras.layers.attention import MaskedAttention
from mpt_keras.layers.masked import MaskedLayer


def masked_and_keras_class(layer):
    """Returns the class that made a Keras class a masked one, and that class.

    For an `MPTDense`, or a subclass of it, `MPTDense` and `keras.layers.Dense`;
    attention likewise.
    """
    classes = [
        base
        for base in type(layer).__mro__
        if issubclass(base, keras.layers.Layer)
    ]
    masked = [
        base
        for base in classes
        if issubclass(base, (MaskedLayer, MaskedAttention))
    ]
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
    plain.build_from_config(layer.get_build_config())
    _assign(plain, layer)
    return plain


def plain_attention(layer):
    """Returns Keras' attention with a masked one's effective kernels.

    Args:
        layer: A built masked attention without an `input_quantizer`.

    Raises:
        ValueError: If a score is NaN.
    """
    _, keras_class = masked_and_keras_class(layer)
    config = keras_class.get_config(layer)
    config |= {"kernel_initializer": "zeros", "seed": layer.dropout_seed}
    # Which Keras leaves out, for who loads it on another machine.
    config["flash_attention"] = getattr(layer, "_flash_attention", None)
    plain = keras_class.from_config(config)
    plain.build_from_config(layer.get_build_config())
    inner = {one.name: one for one in plain._layers}
    for name, projection in layer.projections.items():
        projection.check_scores()
        _assign(inner[name], projection)
    return plain


def _assign(plain, layer):
    """Gives a layer the effective kernels of a masked one, and its bias."""
    names = layer.kernel_initializers
    for name, masked in zip(names, layer.masked_kernels, strict=True):
        kernel = getattr(plain, name)
        kernel.assign(ops.cast(masked.effective_array(), kernel.dtype))
    if getattr(layer, "bias", None) is not None:
        # A copy: JAX would have one array for both, and may donate it.
        plain.bias.assign(ops.copy(layer.bias))


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
