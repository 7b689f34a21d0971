"""The kernels that a network computes with, by name."""

import keras
import numpy as np
from keras import ops

from mpt_keras.layers.ordinary import ordinary_kernels
from mpt_keras.layers.traversal import masked_kernels


def kernels_of(model: keras.layers.Layer) -> dict[str, np.ndarray]:
    """Returns the kernels of a model by layer, 0 at the weights pruned.

    Of a model with masked layers, those layers' effective kernels,
    `gain * mask * sign(kernel)` or `mask * kernel`; of one with none, such as
    a frozen ticket or a pruned network, the kernels of its dense and
    convolution layers.

    Args:
        model: A built Keras model.

    Returns:
        Dictionary, name of the layer -> array of the kernel's shape; names are
        those of `masks_of`. `draw_kernels` draws it.

    Raises:
        ValueError: If the model is not built, holds no such layer, or a score
            is NaN.

    Example:

    >>> kernels = mpt_keras.analysis.kernels_of(model)
    >>> ticket = mpt_keras.freeze(model)
    >>> frozen = mpt_keras.analysis.kernels_of(ticket)
    >>> all(np.array_equal(kernels[name], frozen[name]) for name in kernels)
    True
    """
    masked = masked_kernels(model)
    for one in masked.values():
        one.check_scores()
    found = {name: one.effective() for name, one in masked.items()}
    found = found or ordinary_kernels(model, trainable=False)
    if not found:
        raise ValueError(
            f"Model '{model.name}' has no kernels. Expected masked layers "
            "(MPTConv2D, MPTDense, ...), or Conv2D, Dense, ... layers."
        )
    return {
        name: np.asarray(ops.convert_to_numpy(kernel))
        for name, kernel in found.items()
    }
