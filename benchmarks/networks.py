"""The networks of the benchmarks, plain and masked, layer for layer alike."""

import keras
import numpy as np

import mpt_keras as mpt
from mpt_keras.layers.traversal import masked_kernels, masked_layers

NAMES = (
    *("conv4", "resnet18", "vgg_small", "dense", "mobilenet_v2"),
    "transformer_block",
)
_MASKED = {
    keras.layers.Conv2D: mpt.MPTConv2D,
    keras.layers.DepthwiseConv2D: mpt.MPTDepthwiseConv2D,
    keras.layers.Dense: mpt.MPTDense,
}


def build(name, masked, binary_activations=False):
    """Returns a network, built.

    Args:
        name: "conv4", "resnet18", "vgg_small" (a ReLU or a sign behind every
            convolution), "dense" (4096 x 4096), "mobilenet_v2" (Keras' own,
            on images of 96 x 96, its layers converted) or
            "transformer_block" (width 256, 4 heads, on sequences of 128).
        masked: Whether the layers are masked or Keras' own.
        binary_activations: Sign instead of ReLU; not in the last three.
    """
    others = {
        "dense": _dense,
        "mobilenet_v2": _mobilenet_v2,
        "transformer_block": _transformer_block,
    }
    if name in others:
        if binary_activations:
            raise ValueError(f"{name} has no binary activations.")
        return others[name](masked)
    form = {"form": "norm_everywhere"} if name == "vgg_small" else {}
    return getattr(mpt.models, name)(
        masked=masked, binary_activations=binary_activations, **form
    )


def _dense(masked):
    layer = mpt.MPTDense if masked else keras.layers.Dense
    return keras.Sequential(
        [
            keras.Input((4096,)),
            layer(4096, use_bias=False, activation="relu"),
            layer(10, use_bias=False),
        ]
    )


def _transformer_block(masked, length=128, width=256, heads=4):
    dense = mpt.MPTDense if masked else keras.layers.Dense
    attention = (
        mpt.MPTMultiHeadAttention if masked else keras.layers.MultiHeadAttention
    )
    inputs = keras.Input((length, width))
    x = keras.layers.LayerNormalization()(inputs)
    y = attention(heads, width // heads, use_bias=False)(x, x)
    x = keras.layers.Add()([inputs, y])
    y = keras.layers.LayerNormalization()(x)
    y = dense(4 * width, use_bias=False, activation="gelu")(y)
    x = keras.layers.Add()([x, dense(width, use_bias=False)(y)])
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, dense(10, use_bias=False)(x))


def _mobilenet_v2(masked):
    model = keras.applications.MobileNetV2(
        (96, 96, 3), weights=None, classes=10, classifier_activation=None
    )
    if not masked:
        return model
    return keras.models.clone_model(model, clone_function=_converted)


def _converted(layer):
    """A masked layer of the same settings, with its own initializers."""
    config = layer.get_config()
    masked = _MASKED.get(type(layer))
    if masked is None:
        return type(layer).from_config(config)
    for name in masked.kernel_initializers.values():
        del config[name]
    return masked.from_config(config)


def ticket(what, width=1.0):
    """Returns a ticket that nobody searched, which runs as fast as another.

    Its scores are moved as by a search, and its batch norms are such as data
    leave behind.

    Args:
        what: `NETWORK:BITS:PERCENT`: name of a network of `mpt_keras.models`;
            bits of its weights and activations, `1/1` or `1/32`, or
            `magnitude` for an ordinary network that keeps the values of its
            largest weights; how many percent are pruned.
        width: Multiplier of every layer's width.
    """
    name, bits, percent = what.split(":")
    sparsity = float(percent) / 100
    make = getattr(mpt.models, name)
    if bits == "magnitude":
        model = make(masked=False, width=width, seed=0)
        values = mpt.lottery.kernel_values(model)
        masks = mpt.lottery.magnitude_masks(values, sparsity)
        mpt.lottery.apply_masks(model, masks)
    else:
        binary = {"1/1": True, "1/32": False}[bits]
        model = searched(
            make(
                sparsity=sparsity,
                binary_activations=binary,
                width=width,
                seed=0,
            )
        )
    draw = np.random.default_rng(0)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            size = layer.moving_mean.shape
            layer.moving_mean.assign(draw.normal(0, 0.5, size))
            layer.moving_variance.assign(draw.uniform(0.5, 2, size))
            if layer.scale:
                layer.gamma.assign(draw.uniform(0.5, 1.5, size))
            if layer.center:
                layer.beta.assign(draw.normal(0, 0.3, size))
    return model


def searched(model):
    """Moves scores in proportion to their weights, as training does."""
    draw = np.random.default_rng(0)
    for masked in masked_kernels(model).values():
        kernel, scores, _ = map(
            np.asarray, (masked.kernel, masked.scores, masked.pruned)
        )
        unit = np.abs(scores).mean() / np.abs(kernel).mean()
        moved = 0.1 * unit * kernel * draw.standard_normal(kernel.shape)
        masked.scores.assign(scores + moved)
    return model


def weights(model):
    """How many weights the masked layers of a model choose from."""
    return sum(
        masked.size
        for layer in masked_layers(model)
        for masked in layer.masked_kernels
    )
