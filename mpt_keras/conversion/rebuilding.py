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
        self._sequences = {}

    def layer(self, layer):
        """The layer, model or operation that stands for `layer`."""
        if id(layer) not in self._replacements:
            self._replacements[id(layer)] = layer, self._replacement(layer)
        return self._replacements[id(layer)][1]

    def inside(self, holder):
        """Replaces the masked layers that a layer's own code computes with."""

        def swap(inner):
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
                self.inside(inner)
                return inner
            # What Keras' wrappers save of it is what it says itself.
            original = keras.saving.serialize_keras_object(inner)
            self.inside(inner)
            return _frozen(inner, original)

        swap_layers(holder, swap)

    def _replacement(self, layer):
        if not isinstance(layer, keras.layers.Layer):
            return type(layer).from_config(layer.get_config())
        if not masked_layers(layer):
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
        self.inside(held)
        return held if is_of_keras(layer) else _frozen(held, original)

    def _plain(self, layer):
        masked_class, _ = masked_and_keras_class(layer)
        if masked_class.__module__.split(".")[0] != "mpt_keras":
            self.holders.append(layer.name)  # for its own `apply_kernel`
        plain = plain_layer(layer)
        quantizer = layer.input_quantizer
        if quantizer is not None:
            # One object may serve several layers, and still does.
            key = id(quantizer), plain.compute_dtype
            if isinstance(quantizer, keras.layers.Layer):
                key = id(quantizer)  # it has a precision of its own
            if key not in self._quantizers:
                self._quantizers[key] = quantizers.as_layer(
                    quantizer,
                    f"{layer.name}_input_quantizer",
                    dtype=plain.dtype_policy,
                )
            rounding = None
            if plain.compute_dtype not in ("float32", "float64"):
                # In half precision it rounded its inputs, some of them to 0.
                rounding = keras.layers.Activation(
                    "linear",
                    dtype=plain.dtype_policy,
                    name=f"{layer.name}_input_rounding",
                )
            before = rounding, self._quantizers[key]
            self._in_front[id(plain)] = before
        return plain

    def _before(self, plain, dtype=None):
        """What the masked layer did to inputs of a dtype before its kernel."""
        rounding, quantizer = self._in_front.get(id(plain), (None, None))
        if dtype == plain.compute_dtype:
            rounding = None
        return [layer for layer in (rounding, quantizer) if layer is not None]

    def _in_one(self, layer):
        """One layer for a masked one, which any code can call."""
        plain = self.layer(layer)
        before = self._before(plain)
        if not before:
            return plain
        key = id(plain)
        if key not in self._sequences:
            sequence = keras.Sequential([*before, plain], name=plain.name)
            if layer.built:
                sequence.build(layer.get_build_config()["input_shape"])
            self._sequences[key] = sequence
        return self._sequences[key]

    def _call(self, layer, *args, **kwargs):
        if id(layer) in self._in_front:
            inputs = args[0] if args else kwargs["inputs"]
            dtype = keras.backend.standardize_dtype(inputs.dtype)
            for before in self._before(layer, dtype):
                inputs = before(inputs)
            return layer(inputs)
        return layer(*args, **kwargs)

    def _sequential(self, model):
        frozen = keras.Sequential(name=model.name)
        dtype = None
        if model.built:
            (source,) = model.inputs
            shape, dtype = source.shape, source.dtype
            frozen.add(
                keras.Input(batch_shape=shape, dtype=dtype, name=source.name)
            )
        for layer in model.layers:
            plain = self.layer(layer)
            if model.built and frozen.layers:
                dtype = frozen.outputs[0].dtype
            for before in self._before(plain, dtype):
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
        Rebuilder().inside(layer)
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
