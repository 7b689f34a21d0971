"""From a found ticket to an ordinary Keras model."""

import copy
import warnings

import keras
from keras import ops

from mpt_keras import compilation, quantizers
from mpt_keras.layers.masked import MaskedLayer
from mpt_keras.layers.traversal import masked_layers


def freeze(model):
    """Returns the found ticket as an ordinary Keras model.

    Every masked layer becomes the Keras layer it derives from (`Conv2D`,
    `Dense`, ...), its kernel holding exactly `{-gain, 0, +gain}` (or the
    masked random weights with `binarize=False`). An `input_quantizer` becomes
    a layer of its own in front. Predictions are bit-identical, nothing is
    selected any more, and the weights take half the memory. The given model
    is left as it is. (The last bit may differ where a model is called eagerly
    or compiled with XLA, and where there are shortcuts: TensorFlow regroups
    their sums, in each graph in its own way.)

    Args:
        model: A built Sequential or functional model, which may hold further
            such models. Layers other than masked ones are copied with their
            state.

    Returns:
        A Sequential or functional model with the same layer names, compiled
        as the given one.

    Raises:
        ValueError: If the model is not built, holds no masked layer, or
            cannot be rebuilt layer by layer (a subclassed model, a custom
            layer that holds masked ones, a `call` or an `apply_kernel` of
            one's own, a layer that Keras cannot copy); or if a score is NaN.

    Example:

    >>> frozen = mpt_keras.freeze(model)
    >>> frozen.export("saved_model", verbose=False)  # serves without mpt_keras
    """
    if not isinstance(model, keras.Model):
        raise ValueError(f"Expected a Keras model. Received: {model!r}")
    if not masked_layers(model):
        raise ValueError(
            f"Model '{model.name}' holds no masked layer, so there is no "
            "ticket in it to freeze."
        )
    frozen = _Freezer().model(model)
    if model.compiled:
        _compile_alike(frozen, model)
    return frozen


class _Freezer:
    """Rebuilds models; remembers what replaced what, for shared layers."""

    def __init__(self):
        self._replacements = {}
        self._quantizers = {}
        self._roundings = {}

    def model(self, model):
        if not model.built:
            raise ValueError(
                f"Model '{model.name}' is not built, so its weights do not "
                "exist yet. Call it on a batch, or start it with keras.Input, "
                "before freezing it."
            )
        if isinstance(model, (keras.Sequential, keras.Function)):
            _check_not_overridden(model, "call")
        if isinstance(model, keras.Sequential):
            return self._sequential(model)
        if isinstance(model, keras.Function):
            # A view without the compiled state, which is not to be cloned.
            view = keras.Model(model.input, model.output, name=model.name)
            return keras.models.clone_model(
                view, clone_function=self.layer, call_function=self._call
            )
        raise ValueError(
            f"Cannot freeze '{model.name}': a subclassed model "
            f"({type(model).__name__}) can only be rebuilt by its own code. "
            "Expected a Sequential or functional model. Build the network "
            "with keras.Sequential or keras.Model(inputs, outputs), or freeze "
            "the functional models inside it one by one."
        )

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
            inputs = frozen.outputs[0] if frozen.layers else source
            for before in self._before(plain, inputs):
                frozen.add(before)
            frozen.add(plain)
        return frozen

    def layer(self, layer):
        """The layer (or operation) that stands for `layer`."""
        if id(layer) not in self._replacements:
            self._replacements[id(layer)] = self._replacement(layer)
        return self._replacements[id(layer)]

    def _replacement(self, layer):
        if isinstance(layer, MaskedLayer):
            return self._plain(layer)
        if not isinstance(layer, keras.layers.Layer):
            return type(layer).from_config(layer.get_config())
        if not masked_layers(layer):
            return _copy(layer)
        if isinstance(layer, keras.Model):
            return self.model(layer)
        inner = [masked.name for masked in masked_layers(layer)]
        raise ValueError(
            f"Cannot freeze layer '{layer.name}' ({type(layer).__name__}): it "
            f"holds the masked layers {inner}, and only its own code can "
            "rebuild it with others. Use the masked layers directly in a "
            "Sequential or functional model (MPTDense needs no "
            "TimeDistributed, it works on the last axis of any input)."
        )

    def _plain(self, layer):
        _check_not_overridden(layer, "call", "apply_kernel")
        layer.check_scores()
        plain = _plain_layer(layer)
        if layer.input_quantizer is not None:
            self._quantizers[id(plain)] = quantizers.as_layer(
                layer.input_quantizer, f"{layer.name}_input_quantizer"
            )
        return plain

    def _call(self, layer, *args, **kwargs):
        if id(layer) in self._quantizers:
            inputs = args[0] if args else kwargs["inputs"]
            for before in self._before(layer, inputs):
                inputs = before(inputs)
            return layer(inputs)
        return layer(*args, **kwargs)

    def _before(self, plain, inputs):
        """The layers that do what the masked one did before its kernel."""
        if id(plain) not in self._quantizers:
            return []
        quantizer = self._quantizers[id(plain)]
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        if plain.compute_dtype in (dtype, "float32", "float64"):
            return [quantizer]
        # In half precision it rounded its inputs, some of them to 0.
        if id(plain) not in self._roundings:
            self._roundings[id(plain)] = keras.layers.Activation(
                "linear",
                dtype=plain.dtype_policy,
                name=f"{plain.name}_input_rounding",
            )
        return [self._roundings[id(plain)], quantizer]


def _check_not_overridden(layer, *methods):
    """Raises `ValueError` if a class of the user's computes otherwise."""
    for cls in type(layer).__mro__:
        own = set(methods) & vars(cls).keys()
        if own and cls.__module__.split(".")[0] not in ("keras", "mpt_keras"):
            raise ValueError(
                f"Cannot freeze '{layer.name}': its class {cls.__name__} has "
                f"a `{own.pop()}` of its own, and a layer or model of Keras "
                "would predict something else. Expected the methods of Keras "
                "and mpt_keras. Do that computation in a layer beside it."
            )


def _plain_layer(layer):
    """The built Keras layer with the effective kernel of a masked one."""
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
        _copy(layer.activation) if has_state else layer.activation
    )
    plain.build(layer.get_build_config()["input_shape"])
    names = layer.kernel_initializers
    for name, masked in zip(names, layer.masked_kernels, strict=True):
        kernel = getattr(plain, name)
        # In a graph, as `predict` computes it: the same gain to the last bit.
        effective = compilation.call_in_graph(masked.effective)
        kernel.assign(ops.cast(effective, kernel.dtype))
    if layer.use_bias:
        # A copy: JAX would have one array for both, and may donate it.
        plain.bias.assign(ops.copy(layer.bias))
    return plain


def _copy(layer):
    try:
        # Through Keras' own saving: weights, tables and adapted state.
        copied = copy.deepcopy(layer)
    except Exception as error:
        raise ValueError(
            f"Cannot copy layer '{layer.name}' ({type(layer).__name__}) of "
            "the model to freeze. Expected a layer that Keras can save and "
            "load; register its functions and classes with "
            "@keras.saving.register_keras_serializable(). Keras says: "
            f"{error}"
        ) from error
    if isinstance(copied, keras.layers.BatchNormalization):
        # It says how to train, and only TensorFlow can load it.
        copied.synchronized = False
    return copied


def _compile_alike(frozen, model):
    try:
        frozen.compile_from_config(model.get_compile_config())
    except Exception as error:
        warnings.warn(
            f"The frozen model is not compiled, because the loss, metrics or "
            f"optimizer of '{model.name}' cannot be looked up by name; compile "
            f"it before `evaluate`. Keras says: {error}",
            stacklevel=3,
        )
