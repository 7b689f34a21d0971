"""The convolutional networks of the papers: Conv-2, Conv-4, Conv-6, Conv-8.

Stages of two 3x3 convolutions and a pool, then three dense layers. Real
activations come without batch norm, binary ones with it everywhere but at the
output, as in the authors' code. All weights are masked, first and last layer
included.
"""

import inspect
import numbers

import keras
import numpy as np

from mpt_keras import initializers, quantizers, selection
from mpt_keras.layers.convolutional import MPTConv2D
from mpt_keras.layers.dense import MPTDense

_STAGES = (64, 128, 256, 512)
_HIDDEN = 256
_KERNEL_INITIALIZERS = {
    "kaiming_normal": initializers.KaimingNormal,
    "signed_constant": initializers.SignedConstant,
}


def conv_net(
    stages,
    *,
    sparsity=0.5,
    binarize=True,
    binary_activations=False,
    trained_batch_norm=False,
    width=1.0,
    classes=10,
    input_shape=(32, 32, 3),
    kernel_initializer="kaiming_normal",
    scale_fan="paper",
    regularizer=None,
    masked=True,
    seed=None,
    name=None,
):
    """Builds a convolutional network of one to four stages.

    Args:
        stages: Integer in 1..4, the number of stages: stage `i` has two
            convolutions of `64 * 2**i` filters and a pool.
        sparsity: Number in [0, 1), the fraction of weights pruned per layer.
        binarize: True for binary weights (biprop), False for edge-popup.
        binary_activations: False for ReLU without batch norm; True for
            `"approx_sign"` with batch norm; or a quantizer.
        trained_batch_norm: Whether the batch norms of a network with binary
            activations train scale and offset ("+BN" in the papers' tables).
        width: Positive number; each width is `int(c * width)`.
        classes: Number of outputs (logits).
        input_shape: `(height, width, channels)`.
        kernel_initializer: `"kaiming_normal"`, `"signed_constant"`, or a
            Keras initializer.
        scale_fan: None, `"paper"` or `"authors"`: how the two named
            initializers account for the sparsity, see `KaimingNormal`.
        regularizer: Regularizer of what trains: the scores (or the kernels
            of a dense network), and scale and offset of the batch norms.
        masked: False builds the same network of ordinary, trained Keras
            layers, to compare with.
        seed: Integer; all layers' seeds are derived from it. Drawn if None.
        name: Name of the model.

    Returns:
        A built `keras.Sequential` that maps images to logits.

    Raises:
        ValueError: If an argument is invalid.

    Example:

    >>> model = mpt_keras.models.conv_net(2, width=0.25, sparsity=0.8)
    >>> model.output_shape
    (None, 10)

    Reference:
        Frankle and Carbin, ICLR 2019 (the networks); Diffenderfer and
        Kailkhura, ICLR 2021 (their binary form).
    """
    if stages not in range(1, len(_STAGES) + 1):
        raise ValueError(
            f"Invalid value for argument `stages`. Expected 1 to "
            f"{len(_STAGES)}. Received: stages={stages!r}"
        )
    is_number = isinstance(width, numbers.Real)
    if not is_number or not int(_STAGES[0] * width) >= 1:
        raise ValueError(
            "Invalid value for argument `width`. Expected a multiplier that "
            f"leaves at least one of 64 filters. Received: width={width!r}"
        )
    selection.check_sparsity(sparsity)
    states = np.random.SeedSequence(
        initializers.check_seed(seed)
    ).generate_state(2 * stages + 3)
    seeds = iter(int(state) for state in states)

    def weights():
        """The arguments of the next layer with weights."""
        layer_seed = next(seeds)
        if not masked:
            return {
                "use_bias": False,
                "kernel_initializer": keras.initializers.HeNormal(layer_seed),
                "kernel_regularizer": regularizer,
            }
        kernel = kernel_initializer
        if isinstance(kernel, str) and kernel in _KERNEL_INITIALIZERS:
            kernel = _KERNEL_INITIALIZERS[kernel](
                scale_fan=scale_fan, sparsity=sparsity, seed=layer_seed
            )
        return {
            "kernel_initializer": kernel,
            "sparsity": sparsity,
            "binarize": binarize,
            "scores_regularizer": regularizer,
            "seed": layer_seed,
        }

    def activation():
        if not binary_activations:
            return [keras.layers.ReLU()]
        quantizer = (
            "approx_sign" if binary_activations is True else binary_activations
        )
        affine = {"center": trained_batch_norm, "scale": trained_batch_norm}
        if trained_batch_norm:
            affine["beta_regularizer"] = regularizer
            affine["gamma_regularizer"] = regularizer
        return [
            keras.layers.BatchNormalization(
                epsilon=1e-5, momentum=0.9, **affine
            ),
            quantizers.as_layer(quantizer),
        ]

    convolution = MPTConv2D if masked else keras.layers.Conv2D
    dense = MPTDense if masked else keras.layers.Dense
    layers = [keras.Input(input_shape, name="images")]
    for stage, channels in enumerate(_STAGES[:stages], 1):
        filters = int(channels * width)
        for half in (1, 2):
            layers.append(
                convolution(
                    filters,
                    3,
                    padding="same",
                    name=f"conv{stage}_{half}",
                    **weights(),
                )
            )
            # Pool first, so that the sign sees the largest real value.
            pool = [keras.layers.MaxPooling2D(name=f"pool{stage}")]
            if binary_activations:
                layers += pool * (half - 1) + activation()
            else:
                layers += activation() + pool * (half - 1)
    layers.append(keras.layers.Flatten(name="flatten"))
    for hidden in (1, 2):
        units = max(int(_HIDDEN * width), 1)
        layers.append(dense(units, name=f"dense{hidden}", **weights()))
        layers += activation()
    layers.append(dense(classes, name="logits", **weights()))
    return keras.Sequential(layers, name=name)


def _with_options_of_conv_net(function):
    """Lets `help` and completion show the options behind `**kwargs`."""
    _, *options = inspect.signature(conv_net).parameters.values()
    function.__signature__ = inspect.Signature(options)
    return function


@_with_options_of_conv_net
def conv2(**kwargs):
    """Conv-2: 64, 64; 4,300,992 weights at width 1. Arguments of `conv_net`."""
    return conv_net(1, **{"name": "conv2", **kwargs})


@_with_options_of_conv_net
def conv4(**kwargs):
    """Conv-4: 64, 64, 128, 128; 2,425,024 weights. Arguments of `conv_net`.

    Example:

    >>> model = mpt_keras.models.conv4(sparsity=0.5, binary_activations=True)
    >>> model.output_shape
    (None, 10)
    """
    return conv_net(2, **{"name": "conv4", **kwargs})


@_with_options_of_conv_net
def conv6(**kwargs):
    """Conv-6: Conv-4 and 256, 256; 2,261,184 weights. As `conv_net`."""
    return conv_net(3, **{"name": "conv6", **kwargs})


@_with_options_of_conv_net
def conv8(**kwargs):
    """Conv-8: Conv-6 and 512, 512; 5,275,840 weights. As `conv_net`."""
    return conv_net(4, **{"name": "conv8", **kwargs})
