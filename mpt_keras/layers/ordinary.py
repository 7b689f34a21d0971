"""The kernels of ordinary layers, by name."""

import keras

from mpt_keras.layers.masked import MaskedLayer
from mpt_keras.layers.traversal import check_built, named_layers

_WITH_TWO_KERNELS = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
DENSE_AND_CONVOLUTIONS = (
    *_WITH_TWO_KERNELS,
    *_DEPTHWISE,
    *(keras.layers.Dense, keras.layers.EinsumDense),
    *(keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D),
    *(keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose),
    keras.layers.Conv3DTranspose,
)
EMBEDDINGS = (keras.layers.Embedding,)


def ordinary_kernels(model, trainable=True, kinds=DENSE_AND_CONVOLUTIONS):
    """Returns the trainable kernels of a model's ordinary layers by name.

    Those of dense and convolution layers, nested models included; no biases,
    batch norms, embeddings or recurrent layers, and no masked layers.

    Args:
        model: A built Keras model or layer.
        trainable: False for the kernels that are not trainable as well.
        kinds: Tuple of classes, of `DENSE_AND_CONVOLUTIONS` and `EMBEDDINGS`,
            whose kernels are their tables (without LoRA).

    Returns:
        Dictionary, name of the layer (`named_layers`) -> Keras variable; a
        layer with two kernels has `name/depthwise_kernel` and
        `name/pointwise_kernel`.

    Raises:
        ValueError: As for `named_layers`, and if such a layer is not built.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> [tuple(kernel.shape) for kernel in ordinary_kernels(model).values()]
    [(4, 2)]
    """
    found = kernels_and_initializers(model, trainable, kinds)
    return {name: kernel for name, (kernel, _) in found.items()}


def kernels_and_initializers(
    model, trainable=True, kinds=DENSE_AND_CONVOLUTIONS
):
    """`ordinary_kernels`, each in a pair with its layer's initializer of it."""
    found = {}
    for name, layer in named_layers(model, kinds).items():
        left_out = trainable and not layer.trainable
        if isinstance(layer, MaskedLayer) or left_out:
            continue
        check_built(layer, name, model)
        if isinstance(layer, _WITH_TWO_KERNELS):
            for part in ("depthwise", "pointwise"):
                kernel = getattr(layer, f"{part}_kernel")
                initializer = getattr(layer, f"{part}_initializer")
                found[f"{name}/{part}_kernel"] = kernel, initializer
        elif isinstance(layer, EMBEDDINGS):
            if isinstance(layer.embeddings, keras.Variable):
                found[name] = layer.embeddings, layer.embeddings_initializer
        else:
            part = "depthwise" if isinstance(layer, _DEPTHWISE) else "kernel"
            found[name] = layer.kernel, getattr(layer, f"{part}_initializer")
    return found


def largest_by_channel(kernel, kind, name):
    """Returns the largest magnitude of each output channel of a kernel.

    Args:
        kernel: NumPy array, in Keras' order of dimensions.
        kind: Name of the layer's class.
        name: Of the kernel, as `ordinary_kernels` names it.

    Returns:
        NumPy array with the kernel's number of dimensions, those that are not
        the channels' of size 1.

    Example:

    >>> import numpy as np
    >>> kernel = np.array([[1.0, -3.0], [-2.0, 0.0]])
    >>> largest_by_channel(kernel, "Dense", "dense").tolist()
    [[2.0, 3.0]]
    """
    dimensions = range(kernel.ndim)
    if "Depthwise" in kind or name.endswith("/depthwise_kernel"):
        channels = dimensions[-2:]
    elif "Transpose" in kind:
        channels = dimensions[-2:-1]
    else:
        channels = dimensions[-1:]
    others = tuple(axis for axis in dimensions if axis not in channels)
    return abs(kernel).max(axis=others, keepdims=True, initial=0.0)
