"""Larq Compute Engine: layers between binary activations on packed bits.

Its convolution takes filters of `{-c, +c}` behind a sign, nothing else. A
ticket's filter `{-a, 0, +a}` is the mean of two such filters, which agree where
a weight is kept and differ where it is pruned:

    conv(x, w) = conv(x, (w + a p) / 2) + conv(x, (w - a p) / 2),   p = (w == 0)

A dense layer is a 1x1 convolution of one pixel. Zeros on both sides in front of
a convolution of stride 2 become part of it, because Larq's converter (0.16)
would put them on one side.
"""

import contextlib
import dataclasses
import io
from typing import Literal

import keras
import numpy as np

from mpt_keras.engines.engine import Engine
from mpt_keras.engines.inputs import signature
from mpt_keras.engines.kernels import kernels_of
from mpt_keras.engines.litert import in_batches
from mpt_keras.engines.report import LayerReport
from mpt_keras.engines.signs import PlainSign, rewritten

_GRAPHS = (keras.Sequential, keras.Function)
# They give +-1 where they take +-1.
_KEEP_SIGNS = (
    keras.layers.Flatten,
    keras.layers.Reshape,
    keras.layers.MaxPooling2D,
    keras.layers.Dropout,
    keras.layers.Cropping2D,
)


@dataclasses.dataclass(frozen=True)
class Larq(Engine):
    """A `.tflite` file with Larq's operations, for one example at a time.

    Attributes:
        target: What it is converted for, as Larq names it.
    """

    target: Literal["arm", "xcore"] = "arm"

    name = "larq"
    ending = ".tflite"
    fixed = True

    def __post_init__(self):
        if self.target not in ("arm", "xcore"):
            raise ValueError(
                "Invalid value for argument `target`. Expected 'arm' or "
                f"'xcore'. Received: target={self.target!r}"
            )

    def require(self):
        _compute_engine()

    def check(self, model):
        if not isinstance(model, _GRAPHS):
            raise ValueError(
                f"Larq Compute Engine needs to know which layers stand behind "
                f"a sign. Expected a Sequential or functional model. Received: "
                f"'{model.name}' of class {type(model).__name__}"
            )
        if len(model.inputs) != 1:
            raise ValueError(
                "format='larq' takes models of one input. Received: "
                f"{len(model.inputs)} (model '{model.name}')"
            )
        if not packed(model).filters:
            raise ValueError(
                f"No layer of '{model.name}' has binary activations as inputs "
                "and binary or ternary weights, so Larq Compute Engine would "
                "pack nothing. Build it with binary activations, or use "
                "format='litert', weights='int8'."
            )

    def write(self, model, path):
        bits = packed(model).model
        saved = path.with_name("saved_model")
        bits.export(
            str(saved),
            format="tf_saved_model",
            verbose=False,
            input_signature=signature(bits, batch_size=1),
        )
        path.write_bytes(
            _compute_engine().convert_saved_model(saved, target=self.target)
        )

    def load(self, path, sources, threads=None):
        interpreter = _compute_engine().testing.Interpreter(
            path.read_bytes(), num_threads=threads or 1
        )

        def one(arrays):
            outputs = interpreter.predict(arrays[0])
            return outputs if isinstance(outputs, list) else [outputs]

        return in_batches(one, size=1)

    def layers(self, model, path):
        bits = packed(model)
        found = _count(path, "LceBconv2d")
        if found != bits.operations:
            raise ValueError(
                f"Larq's converter packed {found} filters of '{model.name}', "
                f"not the {bits.operations} of the layers "
                f"{list(bits.filters)}. Nothing was written."
            )
        rows = []
        for kernel in kernels_of(model):
            stored, computes = "float32", "TensorFlow Lite in float32"
            if kernel.layer in bits.filters:
                two = bits.filters[kernel.layer] == 2
                stored = "2 bits, two filters of +-a, exact"
                if not two:
                    stored = "1 bit, exact"
                computes = "LceBconv2d on bits" + two * ", twice and added"
            rows.append(
                LayerReport(
                    kernel.name,
                    kernel.kind,
                    kernel.values.shape,
                    stored,
                    computes,
                )
            )
        return tuple(rows)

    def notes(self, model, path):
        return ("Larq's fast kernels are those for 64-bit ARM",)


@dataclasses.dataclass(frozen=True)
class Packed:
    """A model in the form that Larq's converter recognises.

    Attributes:
        model: With `PlainSign` for its signs, and convolutions of `{-c, +c}`
            for what stands behind them.
        filters: How many of these (1, or 2 for a ternary kernel), by the name
            of the layer.
        operations: How often they are called, all together.
    """

    model: keras.Model
    filters: dict[str, int]
    operations: int


def packed(model: keras.Model) -> Packed:
    """Splits the kernels behind signs of a Sequential or functional model."""
    packing = _Packing()
    copy = rewritten(model, PlainSign, packing.call)
    return Packed(copy, packing.filters, packing.operations)


class _Packing:
    """Follows +-1 through a graph and splits the kernels that meet it."""

    def __init__(self):
        self.filters = {}
        self.operations = 0
        self._split = {}
        self._same = {}
        self._padded = {}
        # By id, beside the tensor itself, whose id no other may take.
        self._signs = {}

    def call(self, layer, *args, **kwargs):
        inputs = args[0] if args else None
        if id(inputs) in self._padded and _takes_padding(layer, inputs):
            layer = self._same.setdefault(layer.name, _with_padding(layer))
            inputs = self._padded[id(inputs)][1]
            args = (inputs, *args[1:])
        is_sign = id(inputs) in self._signs
        if is_sign and _can_pack(layer):
            key = layer.name, inputs.shape
            if key not in self._split:
                self._split[key] = _split(layer, inputs.shape)
            model, count = self._split[key]
            self.filters[layer.name] = count
            self.operations += count
            return model(inputs)
        outputs = layer(*args, **kwargs)
        stays = is_sign and isinstance(layer, _KEEP_SIGNS)
        if stays or isinstance(layer, PlainSign):
            self._signs[id(outputs)] = outputs
        if type(layer) is keras.layers.ZeroPadding2D:
            self._padded[id(outputs)] = outputs, inputs
        return outputs


def _split(layer, shape):
    """A model that computes what a layer does, and how many filters it has."""
    inputs = keras.Input(batch_shape=shape)
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    signs = inputs
    config = {"filters": kernel.shape[-1], "kernel_size": 1}
    is_dense = isinstance(layer, keras.layers.Dense)
    if is_dense:
        signs = keras.layers.Reshape((1, 1, kernel.shape[0]))(signs)
        kernel = kernel[None, None]
    else:
        for name in ("kernel_size", "strides", "padding", "dilation_rate"):
            config[name] = getattr(layer, name)
    signs = PlainSign()(signs)  # the converter wants it right in front
    gain = np.abs(kernel).max(axis=(0, 1, 2))
    pruned = kernel == 0
    parts = [kernel]
    if pruned.any():
        parts = [(kernel + pruned * gain) / 2, (kernel - pruned * gain) / 2]
    outputs = [_convolution(signs, part, config) for part in parts]
    output = outputs[0] if len(parts) == 1 else keras.layers.Add()(outputs)
    if layer.use_bias:
        output = _bias(output, layer.bias)
    if is_dense:
        output = keras.layers.Reshape((layer.units,))(output)
    output = keras.layers.Activation(layer.activation)(output)
    return keras.Model(inputs, output, name=layer.name), len(parts)


def _takes_padding(layer, inputs):
    """Whether a layer is a convolution of stride 2 over symmetric zeros."""
    if type(layer) is not keras.layers.Conv2D or layer.strides != (2, 2):
        return False
    padding = inputs._keras_history.operation
    size = layer.kernel_size[0]
    return (
        layer.padding == "valid"
        and layer.data_format == "channels_last"
        and layer.dilation_rate == (1, 1)
        and layer.kernel_size == (size, size)
        and padding.padding == ((size // 2, size // 2),) * 2
        and size % 2 == 1
        and inputs.shape[1] % 2 == inputs.shape[2] % 2 == 0
    )


def _with_padding(layer):
    """The same convolution with the zeros inside.

    "same" puts a row of zeros less in front of an image of even size than
    behind it, and as many for a kernel that is one row larger.
    """
    config = {
        **layer.get_config(),
        "padding": "same",
        "kernel_size": tuple(size + 1 for size in layer.kernel_size),
    }
    same = keras.layers.Conv2D.from_config(config)
    same.build((None, None, None, layer.kernel.shape[2] * layer.groups))
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    same.kernel.assign(np.pad(kernel, [(0, 1), (0, 1), (0, 0), (0, 0)]))
    if layer.use_bias:
        same.bias.assign(layer.bias)
    return same


def _can_pack(layer):
    if type(layer) is keras.layers.Conv2D:
        is_plain = layer.groups == 1 and layer.data_format == "channels_last"
    else:
        is_plain = (
            type(layer) is keras.layers.Dense
            and len(layer._inbound_nodes[0].input_tensors[0].shape) == 2
        )
    if not is_plain:
        return False
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    kernel = np.abs(kernel.reshape(-1, kernel.shape[-1]))
    gain = kernel.max(axis=0)
    return bool(np.all((kernel == 0) | (kernel == gain)) and np.all(gain > 0))


def _convolution(inputs, kernel, config):
    layer = keras.layers.Conv2D(**config, use_bias=False)
    outputs = layer(inputs)
    layer.kernel.assign(kernel)
    return outputs


def _bias(inputs, bias):
    layer = keras.layers.BatchNormalization(
        scale=False, center=True, epsilon=0.0
    )
    outputs = layer(inputs)
    layer.beta.assign(bias)
    return outputs


def _count(path, operation):
    """How many operations of a name a file has."""
    import tensorflow as tf

    with contextlib.redirect_stdout(io.StringIO()) as text:
        tf.lite.experimental.Analyzer.analyze(model_path=str(path))
    return text.getvalue().count(f" {operation}(")


def _compute_engine():
    try:
        import larq_compute_engine
    except ImportError as error:
        raise ImportError(
            "Larq Compute Engine is not installed, or does not work with the "
            f"TensorFlow that is ({error}). It needs an environment of its "
            "own, with Python 3.12 or earlier and an older TensorFlow: pip "
            'install mpt_keras "larq-compute-engine==0.16.0" '
            '"tensorflow==2.17.1" "numpy<2". Save the ticket, mpt_keras.freeze('
            "model).save('ticket.keras'), and export it there."
        ) from None
    return larq_compute_engine
