"""Masks of an ordinary Keras model, held through training."""

import keras
import numpy as np
from keras import ops

from mpt_keras.layers.traversal import ordinary_kernels
from mpt_keras.lottery.magnitude import check_masks


class Pruned(keras.constraints.Constraint):
    """Constraint `where(mask, constraint(w), 0)` of a kernel.

    Keras applies a weight's constraint after every step of an optimizer, so
    that what is pruned is exactly 0 whatever the optimizer's momentum or
    averages say. Set by `apply_masks`.

    Args:
        mask: Boolean array of the kernel's shape, True at the weights kept.
        constraint: The constraint that the kernel had before, or None.

    Example:

    >>> pruned = mpt_keras.lottery.Pruned(np.array([True, False]))
    >>> keras.ops.convert_to_numpy(pruned(np.array([-3.0, 5.0]))).tolist()
    [-3.0, 0.0]
    """

    def __init__(self, mask, constraint=None):
        self.mask = np.asarray(mask, bool)
        self.constraint = keras.constraints.get(constraint)

    def __call__(self, w):
        if self.constraint is not None:
            w = self.constraint(w)
        w = ops.convert_to_tensor(w)
        return ops.where(self.mask, w, ops.zeros_like(w))

    def get_config(self):
        constraint = self.constraint
        if constraint is not None:
            constraint = keras.constraints.serialize(constraint)
        return {"mask": self.mask.tolist(), "constraint": constraint}


def prunable_kernels(model):
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


def apply_masks(model, masks):
    """Prunes a model: sets weights to 0, and holds them there.

    From now on every step of training ends with the pruned weights exactly
    0. (A compiled model must be compiled again, which a fresh optimizer needs
    anyway: its training step knows the masks of its first step.) The masks
    are not saved with the model; the zeros are.

    Args:
        model: A built Keras model.
        masks: Name of a kernel, as in `prunable_kernels`, -> boolean array of
            its shape, True at the weights kept.

    Raises:
        ValueError: If names or shapes are others than the model's. Nothing
            is changed then.

    Example:

    >>> model = mpt_keras.models.lenet_300_100(masked=False)
    >>> weights = mpt_keras.lottery.kernel_values(model)
    >>> masks = mpt_keras.lottery.magnitude_masks(weights, 0.9)
    >>> mpt_keras.lottery.apply_masks(model, masks)
    """
    kernels = prunable_kernels(model)
    check_masks(masks, {name: k.shape for name, k in kernels.items()})
    for name, kernel in kernels.items():
        before = kernel.constraint
        if isinstance(before, Pruned):
            before = before.constraint
        kernel.constraint = Pruned(masks[name], before)
        kernel.assign(Pruned(masks[name])(kernel))


def remove_masks(model):
    """Lets all weights train again; their values stay as they are.

    Args:
        model: A built Keras model, compiled again before it is trained.

    Example:

    >>> model = mpt_keras.models.lenet_300_100(masked=False)
    >>> mpt_keras.lottery.remove_masks(model)
    """
    for kernel in prunable_kernels(model).values():
        if isinstance(kernel.constraint, Pruned):
            kernel.constraint = kernel.constraint.constraint


def kernel_values(model):
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
