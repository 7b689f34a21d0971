"""The convolutional networks of the papers: Conv-2, Conv-4, Conv-6, Conv-8."""

import keras

from mpt_keras.models.families import family, published

_STAGES = (64, 128, 256, 512)
_HIDDEN = 256


@family
def conv_net(make, stages, *, classes=10, input_shape=(32, 32, 3), name=None):
    """Builds a convolutional network of one to four stages.

    Stages of two 3x3 convolutions and a pool, then three dense layers. Real
    activations come without batch norm, binary ones with it everywhere but at
    the output, as in the authors' code.

    Args:
        stages: Integer in 1..4, the number of stages: stage `i` has two
            convolutions of `64 * 2**i` filters and a pool.
        classes: Number of outputs (logits).
        input_shape: `(height, width, channels)`.
        {options}

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

    def activation():
        norm = [make.norm()] if make.binary_activations else []
        return [*norm, make.activation()]

    layers = [keras.Input(input_shape, name="images")]
    for stage, channels in enumerate(_STAGES[:stages], 1):
        filters = make.channels(channels)
        for half in (1, 2):
            layers += make.convolution(
                filters,
                role="first" if stage == half == 1 else None,
                name=f"conv{stage}_{half}",
            )
            # Pool first, so that the sign sees the largest real value.
            pool = [keras.layers.MaxPooling2D(name=f"pool{stage}")]
            if make.binary_activations:
                layers += pool * (half - 1) + activation()
            else:
                layers += activation() + pool * (half - 1)
    layers.append(keras.layers.Flatten(name="flatten"))
    for hidden in (1, 2):
        units = make.channels(_HIDDEN)
        layers.append(make.dense(units, name=f"dense{hidden}"))
        layers += activation()
    layers.append(make.dense(classes, role="last", name="logits"))
    return keras.Sequential(layers, name=name)


conv2 = published(
    conv_net,
    "conv2",
    "Conv-2: 64, 64; 4,300,992 weights.",
    shape={"stages": 1},
)
conv4 = published(
    conv_net,
    "conv4",
    "Conv-4: Conv-2 and 128, 128; 2,425,024 weights.",
    shape={"stages": 2},
)
conv6 = published(
    conv_net,
    "conv6",
    "Conv-6: Conv-4 and 256, 256; 2,261,184 weights.",
    shape={"stages": 3},
)
conv8 = published(
    conv_net,
    "conv8",
    "Conv-8: Conv-6 and 512, 512; 5,275,840 weights.",
    shape={"stages": 4},
)
