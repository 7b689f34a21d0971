"""From a found ticket to an ordinary Keras model."""

import keras
from keras import ops

from mpt_keras.layers.masked import MaskedLayer, masked_layers


def freeze(model):
    """Returns the found ticket as an ordinary Keras model.

    Every masked layer becomes the Keras layer it derives from (`Conv2D`,
    `Dense`, ...), its kernel holding exactly `{-gain, 0, +gain}` (or the
    masked random weights with `binarize=False`). An `input_quantizer` becomes
    a layer of its own in front. Predictions are bit-identical, nothing is
    selected any more, and the weights take half the memory. The given model is
    left as it is.

    Args:
        model: A built Sequential or functional model, which may hold further
            such models. Layers other than masked ones are copied with their
            weights.

    Returns:
        A model of the same class and layer names; compiled as the given one.

    Raises:
        ValueError: If the model is not built, holds no masked layer, or
            cannot be rebuilt layer by layer (a subclassed model, or a custom
            layer that holds masked ones); or if a score is NaN.

    Example:

    >>> frozen = mpt_keras.freeze(model)
    >>> frozen.export("saved_model", verbose=False)  # serves without mpt_keras
    """
    if not masked_layers(model):
        raise ValueError(
            f"Model '{model.name}' holds no masked layer, so there is no "
            "ticket in it to freeze."
        )
    return _Freezer().model(model)


class _Freezer:
    """Rebuilds models; remembers what replaced what, for shared layers."""

    def __init__(self):
        self._replacements = {}
        self._quantizers = {}

    def model(self, model):
        if not model.built:
            raise ValueError(
                f"Model '{model.name}' is not built, so its weights do not "
                "exist yet. Call it on a batch, or start it with keras.Input, "
                "before freezing it."
            )
        if isinstance(model, keras.Sequential):
            frozen = self._sequential(model)
        elif isinstance(model, keras.Function):
            frozen = keras.models.clone_model(
                model, clone_function=self.layer, call_function=self._call
            )
        else:
            raise ValueError(
                f"Cannot freeze '{model.name}': a subclassed model "
                f"({type(model).__name__}) can only be rebuilt by its own "
                "code. Expected a Sequential or functional model. Build the "
                "network with keras.Sequential or keras.Model(inputs, "
                "outputs), or freeze the functional models inside it one by "
                "one."
            )
        for layer in model.layers:
            # Keras makes the inputs of a functional model itself.
            if not isinstance(layer, keras.layers.InputLayer):
                self._copy_weights(layer)
        return frozen

    def _sequential(self, model):
        source = model.inputs[0]
        frozen = keras.Sequential(
            [
                keras.Input(
                    batch_shape=source.shape,
                    dtype=source.dtype,
                    name=source.name,
                )
            ],
            name=model.name,
            trainable=model.trainable,
        )
        for layer in model.layers:
            plain = self.layer(layer)
            if id(plain) in self._quantizers:
                frozen.add(self._quantizers[id(plain)])
            frozen.add(plain)
        if model.compiled:
            frozen.compile_from_config(model.get_compile_config())
        return frozen

    def layer(self, layer):
        """The layer (or operation) that stands for `layer`; weights later."""
        if id(layer) not in self._replacements:
            self._replacements[id(layer)] = self._replacement(layer)
        return self._replacements[id(layer)]

    def _replacement(self, layer):
        if isinstance(layer, MaskedLayer):
            return self._plain(layer)
        if isinstance(layer, keras.Model):
            return self.model(layer) if masked_layers(layer) else _copy(layer)
        if isinstance(layer, keras.layers.Layer) and masked_layers(layer):
            inner = [masked.name for masked in masked_layers(layer)]
            raise ValueError(
                f"Cannot freeze layer '{layer.name}' ({type(layer).__name__}): "
                f"it holds the masked layers {inner}, and only its own code "
                "can rebuild it with others. Use the masked layers directly "
                "in a Sequential or functional model."
            )
        return _copy(layer)

    def _plain(self, layer):
        plain = _plain_layer(layer)
        if layer.input_quantizer is not None:
            self._quantizers[id(plain)] = _as_layer(
                layer.input_quantizer, f"{layer.name}_input_quantizer"
            )
        return plain

    def _call(self, layer, *args, **kwargs):
        if id(layer) in self._quantizers:
            inputs = args[0] if args else kwargs["inputs"]
            return layer(self._quantizers[id(layer)](inputs))
        return layer(*args, **kwargs)

    def _copy_weights(self, layer):
        plain = self._replacements[id(layer)]
        if isinstance(layer, MaskedLayer):
            layer.check_scores()
            names = layer.kernel_initializers
            for name, masked in zip(names, layer.masked_kernels, strict=True):
                kernel = getattr(plain, name)
                kernel.assign(ops.cast(masked.effective(), kernel.dtype))
            if layer.use_bias:
                plain.bias.assign(layer.bias)
            if isinstance(layer.input_quantizer, keras.layers.Layer):
                weights = layer.input_quantizer.get_weights()
                self._quantizers[id(plain)].set_weights(weights)
        elif not (isinstance(layer, keras.Model) and masked_layers(layer)):
            plain.set_weights(layer.get_weights())


def _plain_layer(layer):
    keras_class = next(
        base
        for base in type(layer).__mro__
        if issubclass(base, keras.layers.Layer)
        and not issubclass(base, MaskedLayer)
    )
    ours = {"sparsity", "binarize", "input_quantizer", "seed"}
    ours |= {"scores_initializer", "scores_regularizer"}
    config = {k: v for k, v in layer.get_config().items() if k not in ours}
    # The kernel is assigned, and our initializers are custom objects.
    config |= dict.fromkeys(layer.kernel_initializers.values(), "zeros")
    return keras_class.from_config(config)


def _copy(layer):
    return type(layer).from_config(layer.get_config())


def _as_layer(quantizer, name):
    if isinstance(quantizer, keras.layers.Layer):
        config = {**quantizer.get_config(), "name": name}
        return type(quantizer).from_config(config)
    return keras.layers.Activation(quantizer, name=name)
