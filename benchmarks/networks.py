"""The networks of the benchmarks, plain and masked, layer for layer alike."""

import keras

import mpt_keras as mpt
from mpt_keras.layers.traversal import masked_layers


def build(name, masked, binary_activations=False):
    """Returns a network, built.

    Args:
        name: "conv4", "resnet18", "vgg_small" (a ReLU or a sign behind every
            convolution) or "dense" (4096 x 4096).
        masked: Whether the layers are masked or Keras' own.
        binary_activations: Sign instead of ReLU.
    """
    if name == "dense":
        return _dense(mpt.MPTDense if masked else keras.layers.Dense)
    form = {"form": "norm_everywhere"} if name == "vgg_small" else {}
    return getattr(mpt.models, name)(
        masked=masked, binary_activations=binary_activations, **form
    )


def _dense(layer):
    return keras.Sequential(
        [
            keras.Input((4096,)),
            layer(4096, use_bias=False, activation="relu"),
            layer(10, use_bias=False),
        ]
    )


def weights(model):
    """How many weights the masked layers of a model choose from."""
    return sum(
        masked.size
        for layer in masked_layers(model)
        for masked in layer.masked_kernels
    )
