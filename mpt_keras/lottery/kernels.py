"""The prunable kernels of an ordinary Keras model, and what each of them is."""

import keras
import numpy as np
from keras import ops

from mpt_keras.layers.ordinary import ordinary_kernels
from mpt_keras.layers.traversal import named_layers


def prunable_kernels(model: keras.Model) -> dict[str, keras.Variable]:
    """Returns what can be pruned of an ordinary Keras model.

    The trainable kernels of its dense and convolution layers, wherever they
    stand in it. No biases, batch norms, embeddings or recurrent layers.

    Args:
        model: A built Keras model.

    Returns:
        Dictionary, name of the layer -> kernel, a Keras variable.

    Raises:
        ValueError: If there is none.

    Example:

    >>> model = mpt_keras.models.lenet_300_100(masked=False)
    >>> list(mpt_keras.lottery.prunable_kernels(model))
    ['dense1', 'dense2', 'logits']
    """
    kernels = ordinary_kernels(model)
    if not kernels:
        raise ValueError(
            f"Model '{model.name}' has no layer to prune. Expected trainable "
            "dense or convolution layers of Keras. (The weights of masked "
            "layers are chosen by their scores and never trained; "
            "masked=False builds the networks of mpt_keras.models of ordinary "
            "layers.)"
        )
    return kernels


def kernel_values(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns the values of a model's prunable kernels.

    Args:
        model: A built Keras model.

    Returns:
        Name of the kernel -> NumPy array.

    Example:

    >>> model = mpt_keras.models.lenet_300_100(masked=False)
    >>> mpt_keras.lottery.kernel_values(model)["logits"].shape
    (100, 10)
    """
    return {
        name: ops.convert_to_numpy(kernel)
        for name, kernel in prunable_kernels(model).items()
    }


def convolution_kernels(model):
    """Names of the prunable kernels of convolution layers, whatever their rank.

    Args:
        model: A built Keras model.

    Example:

    >>> model = keras.Sequential([keras.Input((9, 1))])
    >>> model.add(keras.layers.Conv1D(2, 3))
    >>> model.add(keras.layers.EinsumDense("btc,chd->bthd", (7, 2, 3)))
    >>> len(prunable_kernels(model)), len(convolution_kernels(model))
    (2, 1)
    """
    dense = (keras.layers.Dense, keras.layers.EinsumDense)
    of_dense_layers = {
        id(variable)
        for layer in named_layers(model, dense).values()
        for variable in layer.variables
    }
    return [
        name
        for name, kernel in prunable_kernels(model).items()
        if id(kernel) not in of_dense_layers
    ]


def output_kernels(model):
    """Names of the kernels that give a model its outputs.

    In a functional or Sequential model, the first prunable kernel on every way
    back from an output; several where it has several outputs, or where
    branches meet behind the last kernel. In a subclassed one, whose graph
    nobody knows, that of the layer defined last.

    Args:
        model: A built Keras model.

    Example:

    >>> model = mpt_keras.models.lenet_300_100(masked=False)
    >>> output_kernels(model)
    ['logits']
    """
    names = {id(k): name for name, k in prunable_kernels(model).items()}
    return list(dict.fromkeys(_last_kernels(model, names)))


def _last_kernels(layer, names, output=None):
    """The same of a layer, or of one of its outputs."""
    if isinstance(layer, keras.Function):
        outputs = layer.outputs if output is None else [layer.outputs[output]]
        found = [_kernels_behind(tensor, names) for tensor in outputs]
        return [name for some in found for name in some]
    if not isinstance(layer, keras.layers.Layer):  # ops.add
        return []
    is_model = isinstance(layer, keras.Model)
    for inner in reversed(layer.layers if is_model else layer._layers):
        if last := _last_kernels(inner, names):
            return last
    return [names[id(v)] for v in layer.variables if id(v) in names][-1:]


def _kernels_behind(tensor, names):
    """Walks back from a symbolic tensor, on every way to the first kernel."""
    found, seen, ahead = [], set(), [tensor]
    while ahead:
        operation, node, output = ahead.pop()._keras_history
        if operation is None or (id(operation), node, output) in seen:
            continue
        seen.add((id(operation), node, output))
        last = _last_kernels(operation, names, output)
        found += last
        if not last:
            ahead += operation._inbound_nodes[node].input_tensors[::-1]
    return found
