"""From one masked layer to the Keras layer that it derives from."""

import keras
from keras import ops

from mpt_keras import _fusion
from mpt_keras.conversion.copying import copied
from mpt_keras.layers.masked import MaskedLayer


def plain_layer(layer):
    """Returns the Keras layer with a masked one's effective kernel.

    Args:
        layer: A masked layer. Its `input_quantizer` is left out. Where it is
            not built, no more is the layer returned.

    Raises:
        ValueError: If a score is NaN.
    """
    keras_class = next(
        base
        for base in type(layer).__mro__
        if issubclass(base, keras.layers.Layer)
        and not issubclass(base, MaskedLayer)
    )
    config = keras_class.get_config(layer)
    # The kernel is assigned, and our initializers are custom objects.
    config |= dict.fromkeys(layer.kernel_initializers.values(), "zeros")
    # The function itself, because not every function can be looked up.
    config["activation"] = None
    plain = keras_class.from_config(config)
    has_state = isinstance(layer.activation, keras.layers.Layer)
    plain.activation = (
        copied(layer.activation) if has_state else layer.activation
    )
    if not layer.built:
        return plain
    layer.check_scores()
    plain.build(layer.get_build_config()["input_shape"])
    names = layer.kernel_initializers
    for name, masked in zip(names, layer.masked_kernels, strict=True):
        kernel = getattr(plain, name)
        # In a graph, as `predict` computes it: the same gain to the last bit.
        effective = _fusion.call_in_graph(masked.effective)
        kernel.assign(ops.cast(effective, kernel.dtype))
    if layer.use_bias:
        # A copy: JAX would have one array for both, and may donate it.
        plain.bias.assign(ops.copy(layer.bias))
    return plain
