"""The papers' residual networks, for CIFAR and for ImageNet."""

import functools

import keras

from mpt_keras.models.families import family, published

_EXPANSION = 4


@family
def residual_net(
    make,
    blocks,
    *,
    widths=(64, 128, 256, 512),
    bottleneck=False,
    inner_width=1,
    imagenet_stem=False,
    late_norm=False,
    head_pool=None,
    classes=10,
    input_shape=(32, 32, 3),
    name=None,
):
    """Builds a residual network: stem, stages of blocks, pool, dense layer.

    Every convolution is followed by a batch norm. A stage begins, except the
    first, with a convolution of stride 2; where a block changes the shape,
    its shortcut is a 1x1 convolution with batch norm. All padding is
    symmetric, as in the authors' code (Keras' `"same"` is not, at stride 2).

    Args:
        blocks: Sequence of integers, the number of blocks in each stage.
        widths: Sequence of integers, the filters in each stage's blocks. The
            stem has as many as the first.
        bottleneck: False for blocks of two 3x3 convolutions; True for 1x1,
            3x3 and 1x1, the last with four times the filters.
        inner_width: Integer, multiplier of the filters inside bottlenecks.
        imagenet_stem: False for a 3x3 convolution; True for a 7x7 one of
            stride 2 and a max pool. The pool stands before the activation,
            where binary networks have it; with ReLU both orders are the same
            function.
        late_norm: False for a last batch norm inside the block. True for one
            behind the addition instead, and behind the stem's pool, as in the
            authors' `_v2` networks. `"both"` for one that is used in both
            places, as by their real `_v2` networks for ImageNet; it is here
            to read their checkpoints.
        head_pool: None for global average pooling. An integer averages squares
            of that side instead and gives one output per class and square,
            class after class: with 4 the authors' ResNet-20 to 110 come out
            with 40 outputs for 10 classes. That is an error of theirs, here to
            read their checkpoints.
        classes: Number of outputs (logits).
        input_shape: `(height, width, channels)`.
        {options}

    Returns:
        A built `keras.Model` that maps images to logits.

    Raises:
        ValueError: If an argument is invalid.

    Example:

    >>> model = mpt_keras.models.residual_net((1, 1), widths=(8, 16))
    >>> model.output_shape
    (None, 10)

    Reference:
        He et al., CVPR 2016 (the networks); Diffenderfer and Kailkhura, ICLR
        2021 (as multi-prize tickets).
    """
    if len(blocks) != len(widths):
        raise ValueError(
            "Invalid value for argument `blocks`. Expected one number per "
            f"stage, as in widths={widths!r}. Received: blocks={blocks!r}"
        )
    if late_norm and bottleneck:
        raise ValueError(
            "Invalid value for argument `late_norm`. Expected False with "
            "bottleneck=True: the papers' networks have it in basic blocks "
            f"only. Received: late_norm={late_norm!r}"
        )
    images = keras.Input(input_shape, name="images")
    x = _stem(make, images, widths[0], imagenet_stem, late_norm)
    if bottleneck:
        block = functools.partial(_bottleneck, inner_width=inner_width)
    else:
        block = functools.partial(_basic_block, late_norm=late_norm)
    for stage, (count, channels) in enumerate(
        zip(blocks, widths, strict=True), 1
    ):
        for number in range(1, count + 1):
            strides = 2 if stage > 1 and number == 1 else 1
            prefix = f"stage{stage}_block{number}_"
            x = block(make, x, make.channels(channels), strides, prefix)
    if head_pool is None:
        x = keras.layers.GlobalAveragePooling2D(name="mean")(x)
        logits = make.dense(classes, role="last", name="logits")(x)
    else:
        logits = _head_of_squares(make, x, head_pool, classes)
    return keras.Model(images, logits, name=name)


def _through(layers, x):
    for layer in layers:
        x = layer(x)
    return x


def _stem(make, images, channels, imagenet, late_norm):
    norm = [make.norm("stem_norm")]
    convolution = make.convolution(
        make.channels(channels),
        size=7 if imagenet else 3,
        strides=2 if imagenet else 1,
        role="first",
        name="stem_conv",
    )
    pool = []
    if imagenet:
        pool = [_pad_by_nothing, keras.layers.MaxPooling2D(3, strides=2)]
    order = [*pool, *norm] if late_norm else [*norm, *pool]
    return _through([*convolution, *order, make.activation()], images)


def _pad_by_nothing(x):
    """Pads for a max pool of 3x3; Keras' `"same"` is not symmetric here."""
    sides = ((0, 0), (1, 1), (1, 1), (0, 0))
    return keras.ops.pad(x, sides, constant_values=float("-inf"))


def _basic_block(make, x, channels, strides, prefix, late_norm):
    first = make.convolution(channels, strides=strides, name=f"{prefix}conv1")
    norm = make.norm(f"{prefix}norm1")
    second = make.convolution(channels, name=f"{prefix}conv2")
    y = _through([*first, norm, make.activation(), *second], x)
    norm = make.norm(f"{prefix}norm2")
    if late_norm is not True:
        y = norm(y)
    x = _shortcut(make, x, channels, strides, prefix)
    y = keras.layers.Add(name=f"{prefix}add")([y, x])
    if late_norm:
        y = norm(y)
    return make.activation()(y)


def _bottleneck(make, x, channels, strides, prefix, inner_width):
    inner = channels * inner_width
    outer = channels * _EXPANSION
    y = x
    for number, (filters, size) in enumerate(
        ((inner, 1), (inner, 3), (outer, 1)), 1
    ):
        if number > 1:
            y = make.activation()(y)
        convolution = make.convolution(
            filters,
            size,
            strides if number == 2 else 1,
            name=f"{prefix}conv{number}",
        )
        y = _through([*convolution, make.norm(f"{prefix}norm{number}")], y)
    x = _shortcut(make, x, outer, strides, prefix)
    y = keras.layers.Add(name=f"{prefix}add")([y, x])
    return make.activation()(y)


def _shortcut(make, x, channels, strides, prefix):
    if strides == 1 and x.shape[-1] == channels:
        return x
    convolution = make.convolution(
        channels, 1, strides, name=f"{prefix}shortcut_conv"
    )
    norm = make.norm(f"{prefix}shortcut_norm")
    return _through([*convolution, norm], x)


def _head_of_squares(make, x, side, classes):
    layers = [
        keras.layers.AveragePooling2D(side, name="means"),
        *make.convolution(classes, 1, role="last", name="logits"),
        keras.layers.Permute((3, 1, 2), name="class_by_class"),
        keras.layers.Flatten(name="flatten"),
    ]
    return _through(layers, x)


def _cifar(name, weights, blocks, **shape):
    return published(
        residual_net,
        name,
        f"{_title(name)} for CIFAR: {weights:,} weights.",
        shape={"blocks": blocks, **shape},
    )


def _imagenet(name, weights, blocks, **shape):
    return published(
        residual_net,
        name,
        f"{_title(name)} for ImageNet: {weights:,} weights.",
        shape={"blocks": blocks, "imagenet_stem": True, **shape},
        classes=1000,
        input_shape=(224, 224, 3),
    )


def _title(name):
    name = name.removeprefix("imagenet_")
    return name.replace("wide_resnet", "Wide ResNet-").replace(
        "resnet", "ResNet-"
    )


_THIN = {"widths": (16, 32, 64)}
_WIDE_2 = {"widths": (64, 192, 384, 768)}
_WIDE_2_5 = {"widths": (64, 224, 448, 896)}
_WIDE_3 = {"widths": (64, 256, 512, 1024)}
_BOTTLENECK = {"bottleneck": True}
_WIDE_BOTTLENECK = {"bottleneck": True, "inner_width": 2}

# Name, weights, blocks in each stage, what else makes it.
resnet18 = _cifar("resnet18", 11_164_352, (2, 2, 2, 2))
resnet34 = _cifar("resnet34", 21_265_088, (3, 4, 6, 3))
resnet50 = _cifar("resnet50", 23_467_712, (3, 4, 6, 3), **_BOTTLENECK)
resnet101 = _cifar("resnet101", 42_407_616, (3, 4, 23, 3), **_BOTTLENECK)
resnet20 = _cifar("resnet20", 270_896, (3, 3, 3), **_THIN)
resnet32 = _cifar("resnet32", 464_432, (5, 5, 5), **_THIN)
resnet44 = _cifar("resnet44", 657_968, (7, 7, 7), **_THIN)
resnet56 = _cifar("resnet56", 851_504, (9, 9, 9), **_THIN)
resnet110 = _cifar("resnet110", 1_722_416, (18, 18, 18), **_THIN)
wide_resnet18_2 = _cifar("wide_resnet18_2", 24_868_032, (2, 2, 2, 2), **_WIDE_2)
wide_resnet18_3 = _cifar("wide_resnet18_3", 44_035_776, (2, 2, 2, 2), **_WIDE_3)

imagenet_resnet18 = _imagenet("imagenet_resnet18", 11_678_912, (2, 2, 2, 2))
imagenet_resnet34 = _imagenet("imagenet_resnet34", 21_779_648, (3, 4, 6, 3))
imagenet_resnet50 = _imagenet(
    "imagenet_resnet50", 25_502_912, (3, 4, 6, 3), **_BOTTLENECK
)
imagenet_resnet101 = _imagenet(
    "imagenet_resnet101", 44_442_816, (3, 4, 23, 3), **_BOTTLENECK
)
imagenet_wide_resnet50_2 = _imagenet(
    "imagenet_wide_resnet50_2", 68_814_016, (3, 4, 6, 3), **_WIDE_BOTTLENECK
)
imagenet_wide_resnet101_2 = _imagenet(
    "imagenet_wide_resnet101_2", 126_747_840, (3, 4, 23, 3), **_WIDE_BOTTLENECK
)
imagenet_wide_resnet18_2 = _imagenet(
    "imagenet_wide_resnet18_2", 25_636_032, (2, 2, 2, 2), **_WIDE_2
)
imagenet_wide_resnet34_2 = _imagenet(
    "imagenet_wide_resnet34_2", 48_270_528, (3, 4, 6, 3), **_WIDE_2
)
# The authors call it 3, and widen by 2.5.
imagenet_wide_resnet18_3 = _imagenet(
    "imagenet_wide_resnet18_3", 34_663_616, (2, 2, 2, 2), **_WIDE_2_5
)
imagenet_wide_resnet34_3 = _imagenet(
    "imagenet_wide_resnet34_3", 85_238_976, (3, 4, 6, 3), **_WIDE_3
)
