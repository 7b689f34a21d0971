"""The networks of the benchmarks, plain and masked, layer for layer alike."""

import keras

import mpt_keras as mpt
from mpt_keras.layers.traversal import masked_layers


def build(name, masked, binary_activations=False):
    """A network and the shape of its images.

    Args:
        name: "conv4", "resnet18", "vgg_small" or "dense" (4096 x 4096).
        masked: Whether the layers are masked or Keras' own.
        binary_activations: Sign instead of ReLU.
    """
    if name == "conv4":
        model = mpt.models.conv4(
            masked=masked, binary_activations=binary_activations
        )
    elif name == "dense":
        dense = mpt.MPTDense if masked else keras.layers.Dense
        model = keras.Sequential(
            [
                keras.Input((4096,)),
                dense(4096, use_bias=False, activation="relu"),
                dense(10, use_bias=False),
            ]
        )
    else:
        graph = {"resnet18": _resnet18, "vgg_small": _vgg_small}[name]
        model = graph(_Layers(masked, binary_activations))
    return model


def weights(model):
    """How many weights the masked layers of a model choose from."""
    return sum(
        masked.size
        for layer in masked_layers(model)
        for masked in layer.masked_kernels
    )


class _Layers:
    """Convolution, norm and activation in the chosen form."""

    def __init__(self, masked, binary_activations):
        self._convolution = mpt.MPTConv2D if masked else keras.layers.Conv2D
        self._dense = mpt.MPTDense if masked else keras.layers.Dense
        self._binary = binary_activations

    def convolution(self, x, filters, size=3, strides=1):
        if strides == 2 and size == 3:
            x = keras.layers.ZeroPadding2D(1)(x)
            padding = "valid"
        else:
            padding = "same"
        return self._convolution(
            filters, size, strides=strides, padding=padding, use_bias=False
        )(x)

    def norm(self, x):
        return keras.layers.BatchNormalization(
            epsilon=1e-5, momentum=0.9, center=False, scale=False
        )(x)

    def activation(self, x):
        if self._binary:
            return mpt.quantizers.ApproxSign()(x)
        return keras.layers.ReLU()(x)

    def logits(self, x):
        return self._dense(10, use_bias=False)(x)


def _resnet18(layers):
    inputs = keras.Input((32, 32, 3))
    x = layers.activation(layers.norm(layers.convolution(inputs, 64)))
    for filters, first_strides in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for strides in (first_strides, 1):
            y = layers.norm(layers.convolution(x, filters, strides=strides))
            y = layers.convolution(layers.activation(y), filters)
            if strides != 1 or x.shape[-1] != filters:
                x = layers.norm(layers.convolution(x, filters, 1, strides))
            x = layers.activation(keras.layers.Add()([layers.norm(y), x]))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.logits(x))


def _vgg_small(layers):
    inputs = x = keras.Input((32, 32, 3))
    for filters in (128, 256, 512):
        x = layers.activation(layers.norm(layers.convolution(x, filters)))
        x = layers.convolution(x, filters)
        x = keras.layers.MaxPooling2D()(x)
        x = layers.activation(layers.norm(x))
    return keras.Model(inputs, layers.logits(keras.layers.Flatten()(x)))
