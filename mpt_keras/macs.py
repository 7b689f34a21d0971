"""How often a model uses each of its weights: multiply-accumulates."""

import dataclasses
import functools
import math

import keras

from mpt_keras import quantizers
from mpt_keras.layers.masked import MaskedLayer

_GRAPHS = (keras.Sequential, keras.Function)
_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
_SEPARABLE = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
_CONVOLUTIONS = (
    *_TRANSPOSED,
    *_SEPARABLE,
    *(keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D),
    *(keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D),
)
_WITH_KERNELS = (*_CONVOLUTIONS, keras.layers.Dense, keras.layers.EinsumDense)
_KNOWN = (*_WITH_KERNELS, keras.layers.Embedding)
# Keras' folders of layers without a matrix product.
_ELEMENTWISE = {
    *("activations", "merging", "normalization", "pooling"),
    *("preprocessing", "regularization", "reshaping"),
}
_ELEMENTWISE_CORE = (
    keras.layers.InputLayer,
    keras.layers.Embedding,  # looks up
    keras.layers.Identity,
    keras.layers.Masking,
)
_PRODUCTS = {
    *("Matmul", "Einsum", "Dot", "Vdot", "Inner", "Outer", "Tensordot"),
    *("Conv", "DepthwiseConv", "SeparableConv", "ConvTranspose"),
    *("DotProductAttention", "RNN", "Correlate", "Cross", "Kron"),
}
# Their outputs are some of their inputs' entries, or the padding's 0.
_KEEP_SIGNS = (
    *(keras.layers.ZeroPadding1D, keras.layers.ZeroPadding2D),
    keras.layers.ZeroPadding3D,
    keras.layers.Flatten,
    keras.layers.Reshape,
    keras.layers.Permute,
    keras.layers.RepeatVector,
    keras.layers.Concatenate,
    *(keras.layers.Cropping1D, keras.layers.Cropping2D),
    *(keras.layers.MaxPooling1D, keras.layers.MaxPooling2D),
    *(keras.layers.MaxPooling3D, keras.layers.GlobalMaxPooling1D),
    *(keras.layers.GlobalMaxPooling2D, keras.layers.GlobalMaxPooling3D),
    *(keras.layers.Identity, keras.layers.Dropout),
    *(keras.layers.SpatialDropout1D, keras.layers.SpatialDropout2D),
)


@dataclasses.dataclass(frozen=True)
class Use:
    """How a model uses a kernel, all of its calls together.

    Attributes:
        calls: How often the kernel's layer is called.
        times: How often each weight is multiplied per example; None where a
            size is open.
        on_signs: Whether all it is multiplied with is -1 or +1 (or the
            padding's 0).
    """

    calls: int
    times: int | None
    on_signs: bool


def kernel_uses(
    model: keras.Model,
) -> tuple[dict[int, Use], dict[str, str]]:
    """Follows one example through a model, by shapes alone.

    A weight of a convolution is used at every position of the output (of the
    input, where the convolution is transposed), also where it meets the
    padding; one of a dense layer once for every vector of the input; one of
    an embedding is looked up, and used in no product. Layers
    that are shared or stand in nested models count at every call, those in a
    `TimeDistributed` at every step.

    Args:
        model: A built Keras model.

    Returns:
        Dictionary, `id` of a kernel (a Keras variable) -> `Use`; and a
        dictionary of the layers whose products are not known (recurrent ones,
        attention, custom layers, subclassed models, and all that is called
        inside them): name -> class.

    Example:

    >>> dense = keras.layers.Dense(4)
    >>> model = keras.Sequential([keras.Input((5, 3)), dense])
    >>> uses, unknown = kernel_uses(model)
    >>> uses[id(dense.kernel)].times, unknown
    (5, {})
    """
    follower = _Follower()
    if _is_graph(model):
        inputs = [
            keras.KerasTensor(tensor.shape, tensor.dtype)
            for tensor in model.inputs
        ]
        follower.graph(model, inputs, 1)
    else:
        follower.unknown[model.name] = type(model).__name__
    return follower.uses, follower.unknown


def kernel_attributes(layer) -> tuple[str, ...]:
    """Names of the attributes of a layer that are its kernels."""
    if isinstance(layer, MaskedLayer):
        return tuple(layer.kernel_initializers)
    if isinstance(layer, _SEPARABLE):
        return ("depthwise_kernel", "pointwise_kernel")
    if type(layer) is keras.layers.Embedding:
        return ("embeddings",)
    return ("kernel",) if isinstance(layer, _WITH_KERNELS) else ()


def kernels_of(layer) -> list:
    """The kernels of a layer, Keras variables."""
    if isinstance(layer, MaskedLayer):
        return [masked.kernel for masked in layer.masked_kernels]
    return [getattr(layer, name) for name in kernel_attributes(layer)]


class _Follower:
    def __init__(self):
        self.uses = {}
        self.unknown = {}
        self._signs = {}  # by id, tensors of which all entries are -1 or +1

    def graph(self, graph, inputs, times):
        if isinstance(graph, keras.Sequential):
            graph = graph._functional
        return graph._run_through_graph(
            inputs,
            operation_fn=lambda operation: functools.partial(
                self.call, operation, times
            ),
        )

    def call(self, operation, times, *args, **kwargs):
        """What an operation returns, by shape; adds its uses of kernels.

        Args:
            operation: Keras operation or layer.
            times: How often it is called on inputs of this shape.
        """
        inputs = [
            tensor
            for tensor in keras.tree.flatten((args, kwargs))
            if isinstance(tensor, keras.KerasTensor)
        ]
        if _is_graph(operation):
            outputs = self.graph(operation, inputs, times)
            if quantizers.is_sign_model(operation):
                self._signs[id(outputs)] = outputs
            return outputs
        outputs = operation.compute_output_spec(*args, **kwargs)
        shape = inputs[0].shape if inputs else ()
        if _is(operation, keras.layers.TimeDistributed):
            steps = shape[1]
            if times is not None:
                times = None if steps is None else times * steps
            step = keras.KerasTensor((shape[0], *shape[2:]), inputs[0].dtype)
            self._pass_sign(inputs, step)
            self._pass_sign([self.call(operation.layer, times, step)], outputs)
        elif kernel_attributes(operation) and _is_known(operation):
            self._add(operation, times, inputs[0], outputs)
        elif not _is_elementwise(operation):
            self.unknown[operation.name] = type(operation).__name__
        if _makes_signs(operation):
            self._signs[id(outputs)] = outputs
        elif isinstance(operation, _KEEP_SIGNS):
            self._pass_sign(inputs, outputs)
        return outputs

    def _pass_sign(self, inputs, output):
        if all(id(tensor) in self._signs for tensor in inputs):
            self._signs[id(output)] = output

    def _add(self, layer, times, source, output):
        quantizer = getattr(layer, "input_quantizer", None)
        on_signs = quantizers.is_sign(quantizer) or (
            quantizer is None and id(source) in self._signs
        )
        for kernel in kernels_of(layer):
            each = _positions(layer, source.shape, output.shape)
            if each is not None:
                each = None if times is None else each * times
            use = Use(1, each, on_signs)
            before = self.uses.get(id(kernel))
            self.uses[id(kernel)] = use if before is None else _sum(before, use)
            on_signs = False  # of a second kernel, on sums


def _sum(one, other):
    is_open = None in (one.times, other.times)
    return Use(
        one.calls + other.calls,
        None if is_open else one.times + other.times,
        one.on_signs and other.on_signs,
    )


def _positions(layer, source, output):
    """How often one call uses each weight of a kernel."""
    if isinstance(layer, keras.layers.Embedding):
        return 0  # looked up, and multiplied with nothing
    if isinstance(layer, keras.layers.EinsumDense):
        return _einsum_positions(layer.equation, source)
    if isinstance(layer, _CONVOLUTIONS):
        shape = source if isinstance(layer, _TRANSPOSED) else output
        first = layer.data_format == "channels_first"
        sizes = shape[2:] if first else shape[1:-1]
    else:
        sizes = source[1:-1]
    return None if None in sizes else math.prod(sizes)


def _einsum_positions(equation, source):
    """The product of the input's sizes that the kernel does not have."""
    operand, kernel = equation.replace(" ", "").split("->")[0].split(",")
    before, _, after = operand.partition("...")
    others = [None] * (len(source) - len(before) - len(after))
    labels = [*before, *others, *after]
    sizes = [
        size
        for label, size in zip(labels[1:], source[1:], strict=True)
        if label is None or label not in kernel
    ]
    return None if None in sizes else math.prod(sizes)


def _is_graph(layer):
    """Whether what a model computes is its graph."""
    if not isinstance(layer, _GRAPHS) or not layer.built:
        return False
    return _is(layer, *_GRAPHS)


def _is(layer, *classes):
    """Whether a layer is of a class and computes as that does."""
    return isinstance(layer, classes) and _is_of("keras", type(layer).call)


def _is_known(layer):
    if isinstance(layer, MaskedLayer):
        return _is_of("mpt_keras", type(layer).call) and _is_of(
            "mpt_keras", type(layer).apply_kernel
        )
    return _is(layer, *_KNOWN)


def _is_of(package, function):
    return function.__module__.split(".")[0] == package


def _makes_signs(operation):
    """Whether an operation's outputs are -1 and +1."""
    makers = (operation, getattr(operation, "activation", None))
    return any(
        quantizers.is_sign(maker) or quantizers.is_sign_model(maker)
        for maker in makers
    )


def _is_elementwise(operation):
    parts = type(operation).__module__.split(".")
    if parts[0] == "mpt_keras" or quantizers.is_sign(operation):
        return isinstance(operation, keras.layers.Layer) and not list(
            operation._layers
        )
    if parts[0] != "keras":
        return False
    if not isinstance(operation, keras.layers.Layer):
        return type(operation).__name__ not in _PRODUCTS
    if isinstance(operation, keras.layers.Dot):
        return False
    is_activation = type(operation) is keras.layers.Activation
    if list(operation._layers) and not hasattr(operation, "activation"):
        return False
    return (
        is_activation
        or isinstance(operation, _ELEMENTWISE_CORE)
        or not _ELEMENTWISE.isdisjoint(parts[:-1])
    )
