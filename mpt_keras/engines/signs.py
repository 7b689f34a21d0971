"""The binary activations of a frozen model: found, and written otherwise."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from mpt_keras.conversion.copying import copied, is_of_keras
from mpt_keras.engines.inputs import (
    input_structure,
    output_structure,
    predict,
)
from mpt_keras.layers.ordinary import ordinary_kernels
from mpt_keras.layers.traversal import walk

_REALS = np.array([-2.0, -0.5, -1e-30, 0.0, 1e-30, 0.5], "float32")
_SIGNS = np.array([-1, -1, -1, 1, 1, 1], "float32")
_GRAPHS = (keras.Sequential, keras.Function)


def is_sign(layer: keras.layers.Layer) -> bool:
    """Whether a layer of a graph computes `+1 if x >= 0 else -1`.

    It is found by what it computes, because a frozen model may hold one of our
    quantizers, one of Larq's, or Keras' own operations.

    Example:

    >>> is_sign(keras.layers.Activation("relu"))
    False
    """
    may_be = (
        isinstance(layer, (*_GRAPHS, keras.layers.Activation))
        or not is_of_keras(layer)
    ) and not isinstance(layer, keras.layers.InputLayer)
    if not may_be or layer.weights or not layer._inbound_nodes:
        return False
    node = layer._inbound_nodes[0]
    if len(node.input_tensors) != 1 or len(node.outputs) != 1:
        return False
    before, after = node.input_tensors[0].shape, node.outputs[0].shape
    if before != after or not before:
        return False
    dtype = keras.backend.standardize_dtype(node.input_tensors[0].dtype)
    if not keras.backend.is_float_dtype(dtype):
        return False
    probe = _REALS.reshape((1,) * (len(before) - 1) + (-1,)).astype(dtype)
    try:
        signs = keras.ops.convert_to_numpy(layer(probe))
    except Exception:  # it takes other shapes alone, as no sign does
        return False
    return bool(np.array_equal(signs.ravel(), _SIGNS.astype(dtype)))


def sign_names(model: keras.Model) -> list[str]:
    """Names of the layers of a model that are signs, nested ones included."""
    found = []

    def visit(layer):
        if is_sign(layer):
            found.append(layer.name)
        elif isinstance(layer, _GRAPHS):
            for inner in layer.layers:
                visit(inner)

    visit(model)
    return found


def layers_around_signs(model: keras.Model) -> set[str]:
    """Names of the layers with weights whose roundings signs do not forgive.

    All that stand before the last sign, whose inputs they make, and the first
    behind it, whose sums of `{-a, +a}` tie.
    """
    layers = [layer for _, layer in walk(model)]
    signs = set(sign_names(model))
    places = [n for n, layer in enumerate(layers) if layer.name in signs]
    if not places:
        return set()
    last = places[-1]
    kernels = ordinary_kernels(model, trainable=False)
    with_kernel = {name.partition("/")[0] for name in kernels}
    behind = [
        layer.name for layer in layers[last:] if layer.name in with_kernel
    ]
    return {layer.name for layer in layers[:last]} | set(behind[:1])


class PlainSign(keras.layers.Layer):
    """`where(x < 0, -1, 1)`: the form that converters know, without gradient.

    Input shape: any. Output shape: the same.
    """

    def call(self, inputs):
        return keras.ops.where(
            inputs < 0,
            keras.ops.cast(-1, inputs.dtype),
            keras.ops.cast(1, inputs.dtype),
        )

    def compute_output_shape(self, input_shape):
        return input_shape


def rewritten(
    model: keras.Model,
    sign: Callable[..., keras.layers.Layer],
    call: Callable[..., Any] | None = None,
) -> keras.Model:
    """Returns a copy of a model in which signs are other layers.

    Args:
        model: A frozen model; left as it is. What is subclassed in it is
            copied as it stands.
        sign: Makes the layer for a sign, `sign(name=name, dtype=dtype)`.
        call: Calls each layer of the copy, `call(layer, *args, **kwargs)`.

    Returns:
        A functional model; of a subclassed one a copy.
    """
    copy = copied(model)
    return _rewritten(copy, sign, call) if isinstance(copy, _GRAPHS) else copy


def _rewritten(model, sign, call):
    signs = []

    def new(layer):
        if is_sign(layer):
            dtype = layer._inbound_nodes[0].outputs[0].dtype
            signs.append(sign(name=layer.name, dtype=dtype))
            return signs[-1]
        if isinstance(layer, _GRAPHS):
            return _rewritten(layer, sign, call)
        return layer

    def called(layer, *args, **kwargs):
        if layer in signs:  # it may take no mask, as what it stands for did
            kwargs = {}
        return call(layer, *args, **kwargs) if call else layer(*args, **kwargs)

    view = keras.Model(
        input_structure(model), output_structure(model), name=model.name
    )
    return keras.models.clone_model(
        view, clone_function=new, call_function=called
    )


def undecided(model: keras.Model, arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Which examples have an activation so near zero that rounding signs it.

    `|x| <= 1e-5 max |x|` before a sign, where sums of other order may come out
    on the other side of zero.

    Args:
        model: A frozen model.
        arrays: A batch, one array per input.

    Returns:
        Booleans, one per example.
    """
    none = np.zeros(len(arrays[0]), bool)
    if not isinstance(model, _GRAPHS):
        return none
    tensors = [
        node.input_tensors[0]
        for layer in model.layers
        if is_sign(layer)
        for node in layer._inbound_nodes
        if node in _nodes(model)
    ]
    if not tensors:
        return none
    found = predict(keras.Model(input_structure(model), tensors), arrays)
    return np.any([_near_zero(values) for values in found], axis=0)


def _nodes(model):
    function = keras.Model(model.inputs, model.outputs)
    return [
        node for nodes in function._nodes_by_depth.values() for node in nodes
    ]


def _near_zero(values):
    rows = np.abs(values.reshape(len(values), -1))
    return rows.min(axis=1) <= 1e-5 * rows.max()
