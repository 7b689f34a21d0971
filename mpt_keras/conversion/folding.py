"""Batch norms, folded into the layers that they follow."""

import collections

import keras
import numpy as np
from keras import ops

from mpt_keras.conversion.copying import copied, is_of_keras
from mpt_keras.conversion.rebuilding import GRAPHS
from mpt_keras.layers.traversal import masked_layers, named_layers

_layers = keras.layers
_CONVOLUTIONS = (_layers.Conv1D, _layers.Conv2D, _layers.Conv3D)
_DEPTHWISE = (_layers.DepthwiseConv1D, _layers.DepthwiseConv2D)
_SEPARABLE = (_layers.SeparableConv1D, _layers.SeparableConv2D)
_TRANSPOSED = (
    _layers.Conv1DTranspose,
    _layers.Conv2DTranspose,
    _layers.Conv3DTranspose,
)
_FOLDABLE = (
    *_CONVOLUTIONS,
    *_DEPTHWISE,
    *_SEPARABLE,
    *_TRANSPOSED,
    _layers.Dense,
)


def fold_batch_norms(model: keras.Model) -> keras.Model:
    """Returns a copy of a model whose batch norms are part of other layers.

    A `BatchNormalization` that directly follows a dense or convolution layer
    (depthwise, separable and transposed ones included) goes into its kernel
    and bias, channel by channel of the output::

        scale  = gamma / sqrt(moving_variance + epsilon)
        kernel = kernel * scale
        bias   = (bias - moving_mean) * scale + beta

    computed in double precision and rounded once. What `predict` computes is
    the same up to rounding; what is trained is not, and so no batch norm is
    trained any more. Binary activations behind it may turn a sign whose input
    is that close to 0.

    What it costs: the kernel of a frozen ticket is `{-gain, 0, +gain}` before,
    and after it has a gain for every output channel (the zeros stay). A file
    that stores a ticket as masks and one gain per layer cannot hold it.

    A batch norm stays where that would not be exact: behind an activation;
    where the layer in front of it is called more than once, or its output is
    used elsewhere, or is one of the model's; in front of a layer (the padding
    of a convolution is 0 behind the batch norm); on another axis than that of
    the channels; on TensorFlow behind a `channels_first` layer whose output's
    last size is unknown or the number of channels (Keras adds a bias along the
    last axis then); in half precision; where the layer is quantized or a scale
    is not finite; and in wrappers, custom layers and subclassed models, which
    are copied as they are.

    Args:
        model: A built Sequential or functional model without masked layers,
            such as `mpt_keras.freeze` returns. It is left as it is.

    Returns:
        The copy, not compiled. `foldable_batch_norms` names what is folded.

    Raises:
        ValueError: If the model is of another kind, is not built or holds
            masked layers, or if Keras cannot copy one of its layers.

    Example:

    >>> model = keras.Sequential(
    ...     [
    ...         keras.Input((8,)),
    ...         keras.layers.Dense(4, name="dense"),
    ...         keras.layers.BatchNormalization(name="norm"),
    ...     ]
    ... )
    >>> [layer.name for layer in fold_batch_norms(model).layers]
    ['dense']

    Reference:
        Jacob et al., "Quantization and Training of Neural Networks for
        Efficient Integer-Arithmetic-Only Inference", CVPR 2018.
    """
    _check(model)
    folded = _Folder(_pairs(model)).copy(model)
    if not model.trainable:
        folded.trainable = False
    folded._called = True  # Keras exports to ONNX what has been called
    return folded


def foldable_batch_norms(model: keras.Model) -> dict[str, str]:
    """Returns which batch norms `fold_batch_norms` folds.

    Args:
        model: As for `fold_batch_norms`.

    Returns:
        Dictionary, name of a layer -> name of the batch norm that becomes part
        of it; where several share a name, with those of the models that hold
        them before it.

    Raises:
        ValueError: As for `fold_batch_norms`.

    Example:

    >>> model = keras.Sequential(
    ...     [
    ...         keras.Input((8,)),
    ...         keras.layers.Dense(4, name="dense"),
    ...         keras.layers.BatchNormalization(name="norm"),
    ...     ]
    ... )
    >>> foldable_batch_norms(model)
    {'dense': 'norm'}
    """
    _check(model)
    kinds = (*_FOLDABLE, keras.layers.BatchNormalization)
    named = named_layers(model, kinds)
    names = {id(layer): name for name, layer in named.items()}
    return {names[id(layer)]: names[id(norm)] for layer, norm in _pairs(model)}


def _check(model):
    if not (_is_graph(model) and model.built):
        raise ValueError(
            "Invalid value for argument `model`. Expected a built Sequential "
            f"or functional model of Keras. Received: model={model!r}"
        )
    if masked_layers(model):
        raise ValueError(
            f"Model '{model.name}' holds masked layers, whose kernels are "
            "selected anew in every call. Expected an ordinary model: give "
            "`mpt_keras.freeze(model)`."
        )


def _pairs(model):
    """Layers, and the batch norms that can become part of them."""
    uses = collections.Counter(_uses(model))
    return [
        (layer, norm)
        for graph in _graphs(model)
        for layer, norm in _followed(graph)
        if uses[id(layer)] == uses[id(norm)] == 1
        and _folded_weights(layer, norm) is not None
    ]


class _Folder:
    """Copies layers; remembers which, for what is shared."""

    def __init__(self, pairs):
        self._norms = {id(layer): norm for layer, norm in pairs}
        self._copies = {}
        self._folded = set()  # ids of copies that are not called

    def copy(self, layer):
        if id(layer) not in self._copies:
            self._copies[id(layer)] = layer, self._copy(layer)
        return self._copies[id(layer)][1]

    def _copy(self, layer):
        if not isinstance(layer, keras.layers.Layer):
            return type(layer).from_config(layer.get_config())
        if not _is_graph(layer):
            if id(layer) not in self._norms:
                return copied(layer)
            norm = self._norms[id(layer)]
            self._folded.add(id(self.copy(norm)))
            return _folded(layer, norm)
        if isinstance(layer, keras.Sequential):
            copies = [self.copy(inner) for inner in layer.layers]
            return keras.Sequential(
                [
                    keras.Input(
                        batch_shape=layer.inputs[0].shape,
                        dtype=layer.inputs[0].dtype,
                        name=layer.inputs[0].name,
                    ),
                    *(copy for copy in copies if id(copy) not in self._folded),
                ],
                name=layer.name,
            )
        # A view without the compiled state, which is not to be cloned.
        view = keras.Model(layer.input, layer.output, name=layer.name)
        return keras.models.clone_model(
            view, clone_function=self.copy, call_function=self._call
        )

    def _call(self, layer, *args, **kwargs):
        if id(layer) in self._folded:
            return args[0] if args else kwargs["inputs"]
        return layer(*args, **kwargs)


def _is_graph(layer):
    return isinstance(layer, GRAPHS) and is_of_keras(layer)


def _graphs(model):
    """The graph of a model and those nested in it, each once."""
    found, waiting = {}, [model]
    while waiting:
        graph = waiting.pop()
        if id(graph) not in found:
            found[id(graph)] = graph
            waiting += [layer for layer in graph.layers if _is_graph(layer)]
    return list(found.values())


def _uses(model):
    """The id of a layer, once for every time that it is called."""
    for graph in _graphs(model):
        for node in _nodes(graph):
            yield id(node.operation)
        for holder in graph.layers:
            if not _is_graph(holder):
                for layer in holder._flatten_layers(include_self=False):
                    # By code that may call it any number of times.
                    yield from (id(layer), id(layer))


def _nodes(graph):
    if isinstance(graph, keras.Sequential):
        graph = graph._functional
    return [node for nodes in graph._nodes_by_depth.values() for node in nodes]


def _followed(graph):
    """Pairs of a layer and the batch norm that alone uses its output."""
    nodes = _nodes(graph)
    used = collections.Counter(
        id(tensor)
        for tensors in (
            graph.outputs,
            *(node.input_tensors for node in nodes),
        )
        for tensor in tensors
    )
    made = {
        id(output): node.operation for node in nodes for output in node.outputs
    }
    for node in nodes:
        norm = node.operation
        if type(norm) is not keras.layers.BatchNormalization:
            continue
        tensor = node.input_tensors[0]
        layer = made.get(id(tensor))
        is_trained = node.arguments.kwargs.get("training")
        if (
            not is_trained
            and used[id(tensor)] == 1
            and type(layer) in _FOLDABLE
            and _is_linear(layer)
            and _is_alike(layer, norm, tensor.shape)
        ):
            yield layer, norm


def _is_linear(layer):
    return (
        layer.activation in (None, keras.activations.linear)
        and layer.activity_regularizer is None
        and getattr(layer, "quantization_mode", None) is None
        and not getattr(layer, "lora_enabled", False)
    )


def _is_alike(layer, norm, shape):
    """Whether both use the same axis, in the same, whole precision."""
    first = getattr(layer, "data_format", None) == "channels_first"
    # On TensorFlow Keras adds a bias along the last axis if its size fits.
    is_ambiguous = first and shape[-1] in (None, shape[1])
    return (
        not (is_ambiguous and keras.backend.backend() == "tensorflow")
        and norm.axis % len(shape) == (1 if first else len(shape) - 1)
        and layer.dtype_policy == norm.dtype_policy
        and layer.dtype_policy.name in ("float32", "float64")
    )


def _folded(layer, norm):
    """A new layer that computes what both compute."""
    folded = type(layer).from_config({**layer.get_config(), "use_bias": True})
    folded.build(layer.get_build_config()["input_shape"])
    if isinstance(layer, _SEPARABLE):
        folded.depthwise_kernel.assign(ops.copy(layer.depthwise_kernel))
    kernel, bias = _folded_weights(layer, norm)
    getattr(folded, _kernel_name(layer)).assign(kernel)
    folded.bias.assign(bias)
    return folded


def _folded_weights(layer, norm):
    """Kernel and bias of both, or None where they are not finite."""
    with np.errstate(all="ignore"):
        scale = 1 / np.sqrt(_double(norm.moving_variance) + norm.epsilon)
        if norm.scale:
            scale = scale * _double(norm.gamma)
        bias = _double(layer.bias) if layer.use_bias else 0.0
        bias = (bias - _double(norm.moving_mean)) * scale
        if norm.center:
            bias = bias + _double(norm.beta)
        per_weight = scale
        if isinstance(layer, _DEPTHWISE):
            per_weight = scale.reshape(layer.kernel.shape[-2:])
        elif isinstance(layer, _TRANSPOSED):
            per_weight = scale[:, np.newaxis]
        kernel = _double(getattr(layer, _kernel_name(layer))) * per_weight
        weights = [values.astype(layer.dtype) for values in (kernel, bias)]
    are_finite = all(np.isfinite(values).all() for values in weights)
    return weights if are_finite else None


def _kernel_name(layer):
    return "pointwise_kernel" if isinstance(layer, _SEPARABLE) else "kernel"


def _double(variable):
    return np.asarray(ops.convert_to_numpy(variable), "float64")
