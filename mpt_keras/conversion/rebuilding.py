"""Models and layers, made anew with ordinary layers instead of masked ones.

Sequential and functional models are rebuilt layer by layer. What holds masked
layers in code of its own (a wrapper, a custom layer, a subclassed model) is
copied, and ordinary layers take their places in the copy.
"""

import copy

import keras

from mpt_keras import quantizers
from mpt_keras.conversion.copying import (
    copied,
    copied_with_config,
    is_of_keras,
)
from mpt_keras.conversion.plain_layers import (
    masked_and_keras_class,
    plain_layer,
)
from mpt_keras.conversion.swapping import swap_layers
from mpt_keras.layers.masked import MaskedLayer
from mpt_keras.layers.traversal import masked_layers

GRAPHS = (keras.Sequential, keras.Function)


class Rebuilder:
    """Makes ordinary layers; remembers which, for what is shared.

    Attributes:
        holders: Names of the layers and models whose own code now computes
            with other layers.
    """

    def __init__(self):
        self.holders = []
        # By id, beside the object itself, whose id no other may take.
        self._replacements = {}
        self._quantizers = {}
        self._in_front = {}
        self._signs = {}
        self._sequences = {}

    def layer(self, layer):
        """The layer, model or operation that stands for `layer`."""
        if id(layer) not in self._replacements:
            self._replacements[id(layer)] = layer, self._replacement(layer)
        return self._replacements[id(layer)][1]

    def inside(self, holder, source):
        """Replaces the masked layers that a layer's own code computes with.

        Args:
            holder: The layer; changed in place.
            source: The layer that it is a copy of, or itself.
        """

        def swap(inner):
            if quantizers.is_sign(inner) and is_of_keras(holder):
                is_last = getattr(holder, "activation", None) is inner
                return _sign(inner, source if is_last else inner)
            if not masked_layers(inner):
                return inner
            if isinstance(inner, MaskedLayer):
                plain = self._in_one(inner)
                # Whoever still calls it is to fail.
                inner._masked_kernels = ()
                return plain
            if isinstance(inner, keras.layers.SpectralNormalization):
                return swap(inner.layer)
            if isinstance(inner, GRAPHS):
                return self.layer(inner)
            if is_of_keras(inner) or not is_of_keras(holder):
                self.inside(inner, inner)
                return inner
            # What Keras' wrappers save of it is what it says itself.
            original = keras.saving.serialize_keras_object(inner)
            self.inside(inner, inner)
            return _frozen(inner, original)

        swap_layers(holder, swap)

    def _replacement(self, layer):
        if not isinstance(layer, keras.layers.Layer):
            return type(layer).from_config(layer.get_config())
        if quantizers.is_sign(layer):
            sign = _sign(layer, layer)
            return copied(layer) if sign is layer else sign
        if not masked_layers(layer) and not _holds_signs(layer):
            return copied(layer)
        if isinstance(layer, MaskedLayer):
            return self._plain(layer)
        if isinstance(layer, keras.layers.SpectralNormalization):
            # It scales the random weights while they are trained, and then
            # computes what the layer inside it computes.
            return self.layer(layer.layer)
        if isinstance(layer, keras.Sequential):
            return self._sequential(layer)
        if isinstance(layer, keras.Function):
            # A view without the compiled state, which is not to be cloned.
            view = keras.Model(layer.input, layer.output, name=layer.name)
            return keras.models.clone_model(
                view, clone_function=self.layer, call_function=self._call
            )
        self.holders.append(layer.name)
        held, original = copied_with_config(layer)
        self.inside(held, layer)
        return held if is_of_keras(layer) else _frozen(held, original)

    def _plain(self, layer):
        masked_class, _ = masked_and_keras_class(layer)
        if masked_class.__module__.split(".")[0] != "mpt_keras":
            self.holders.append(layer.name)  # for its own `apply_kernel`
        plain = plain_layer(layer)
        self.inside(plain, layer)  # where its activation is a layer
        quantizer = layer.input_quantizer
        if quantizer is not None:
            rounding = None
            if plain.compute_dtype not in ("float32", "float64"):
                # In half precision it rounded its inputs, some of them to 0.
                rounding = keras.layers.Activation(
                    "linear",
                    dtype=plain.dtype_policy,
                    name=f"{layer.name}_input_rounding",
                )
            self._in_front[id(plain)] = rounding, quantizer
        return plain

    def _before(self, plain, shape=None, dtype=None):
        """What the masked layer did to its inputs before its kernel.

        Args:
            plain: The ordinary layer in its place.
            shape: Of the inputs; None where it is unknown.
            dtype: Of the inputs.
        """
        rounding, quantizer = self._in_front.get(id(plain), (None, None))
        if quantizer is None:
            return []
        if dtype == plain.compute_dtype:
            rounding = None
        layer = self._quantizer(quantizer, plain, shape)
        return [layer] if rounding is None else [rounding, layer]

    def _quantizer(self, quantizer, plain, shape):
        name = f"{plain.name}_input_quantizer"
        if shape is not None and quantizers.is_sign(quantizer):
            models = self._signs.setdefault(id(plain), {})
            rank = len(shape)
            if rank not in models:
                if models:  # for a layer that is called on several ranks
                    name += f"_{rank}d"
                models[rank] = quantizers.sign_model(
                    rank, name, quantizer.compute_dtype
                )
            return models[rank]
        # One object may serve several layers, and still does.
        key = id(quantizer), plain.compute_dtype
        if isinstance(quantizer, keras.layers.Layer):
            key = id(quantizer)  # it has a precision of its own
        if key not in self._quantizers:
            self._quantizers[key] = quantizers.as_layer(
                quantizer, name, plain.dtype_policy
            )
        return self._quantizers[key]

    def _in_one(self, layer):
        """One layer for a masked one, which any code can call."""
        plain = self.layer(layer)
        shape = None
        if layer.built:
            shape = layer.get_build_config().get("input_shape")
        before = self._before(plain, shape)
        if not before:
            return plain
        key = id(plain)
        if key not in self._sequences:
            inputs = [] if shape is None else [keras.Input(batch_shape=shape)]
            self._sequences[key] = keras.Sequential(
                [*inputs, *before, plain], name=plain.name
            )
        return self._sequences[key]

    def _call(self, layer, *args, **kwargs):
        if id(layer) in self._in_front:
            inputs = args[0] if args else kwargs["inputs"]
            dtype = keras.backend.standardize_dtype(inputs.dtype)
            for before in self._before(layer, inputs.shape, dtype):
                inputs = before(inputs)
            return layer(inputs)
        return layer(*args, **kwargs)

    def _sequential(self, model):
        frozen = keras.Sequential(name=model.name)
        shape = dtype = None
        if model.built:
            (source,) = model.inputs
            shape, dtype = source.shape, source.dtype
            frozen.add(
                keras.Input(batch_shape=shape, dtype=dtype, name=source.name)
            )
        for layer in model.layers:
            plain = self.layer(layer)
            if model.built and frozen.layers:
                (output,) = frozen.outputs
                shape, dtype = output.shape, output.dtype
            for before in self._before(plain, shape, dtype):
                if before in frozen.layers:
                    # It holds a layer once.
                    name = f"{layer.name}_input_quantizer"
                    function = getattr(before, "activation", before)
                    before = quantizers.as_layer(
                        function, name, before.dtype_policy
                    )
                frozen.add(before)
            frozen.add(plain)
        return frozen


def _holds_signs(layer):
    """Whether there are signs in a layer of Keras, which it may be without."""
    if not is_of_keras(layer):
        return quantizers.is_sign(layer)
    is_graph = isinstance(layer, GRAPHS)
    return any(map(_holds_signs, layer.layers if is_graph else layer._layers))


def _sign(quantizer, layer):
    """The sign of Keras' own operations, for a quantizer that has its place.

    Args:
        quantizer: A layer.
        layer: One whose outputs have as many dimensions as the quantizer's.

    Returns:
        A model; where that number is not known, the quantizer.
    """
    shapes = [
        tensor.shape for node in layer._inbound_nodes for tensor in node.outputs
    ]
    if not shapes and layer.built and (config := layer.get_build_config()):
        shapes = [layer.compute_output_shape(config["input_shape"])]
    ranks = {len(shape) for shape in shapes}
    if len(ranks) != 1:
        return quantizer
    return quantizers.sign_model(
        ranks.pop(), quantizer.name, quantizer.compute_dtype
    )


@keras.saving.register_keras_serializable(package="mpt_keras")
class Frozen:
    """What a layer of the user's becomes that held masked layers.

    Its class makes masked layers. A saved one says what it was, and becomes
    itself again once it is loaded.
    """

    original = None

    def get_config(self):
        return {
            "layer": copy.deepcopy(self.original),
            "trainable": self.trainable,
        }

    @classmethod
    def from_config(cls, config):
        layer = keras.saving.deserialize_keras_object(
            copy.deepcopy(config["layer"])
        )
        Rebuilder().inside(layer, layer)
        layer.trainable = config["trainable"]
        return _frozen(layer, config["layer"])


def _frozen(layer, original):
    """Turns a layer into a `Frozen` one; `original` is what it was."""
    original = {**original, "compile_config": None}
    # Keras looks a class up by this name, which is that of `Frozen`.
    name = keras.saving.get_registered_name(Frozen)
    bases = (Frozen, type(layer))
    layer.__class__ = type(layer.__class__)(name, bases, {"original": original})
    return layer
