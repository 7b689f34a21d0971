"""Which network of ours a checkpoint is of, and whose its arrays are."""

import dataclasses
import math
import re

import keras

from mpt_keras import models
from mpt_keras.checkpoints.reading import (
    DENSE,
    GLOBAL,
    LAYER_WISE,
    CheckpointError,
)

_WIDE = ("WideResNet18_2", "WideResNet18_3", "WideResNet34_2", "WideResNet34_3")


@dataclasses.dataclass(frozen=True)
class Site:
    """A layer of ours, and where the authors' code has it.

    Attributes:
        prefix: What their names of its arrays begin with.
        layer: The Keras layer.
        grid: `(height, width, channels)` that a dense layer's inputs were
            before they were flattened, or None. They flatten channels first.
    """

    prefix: str
    layer: keras.layers.Layer
    grid: tuple | None = None


def _rows():
    """Their name of an architecture -> our function, and its arguments."""
    binary = {"binary_activations": True}
    rows = {
        "FC": ("lenet_300_100", {}),
        "VGG_Small": ("vgg_small", {"form": "two_activations"}),
        "VGG_Small_BinAct": ("vgg_small", {"form": "norm_at_pools", **binary}),
        "VGG_Small_bn_BinAct": (
            "vgg_small",
            {"form": "norm_everywhere", **binary},
        ),
        "Wide_VGG_Small": ("vgg_small", {"form": "norm_everywhere", **binary}),
        "Wide_VGG_Small_132": ("vgg_small", {"form": "norm_everywhere"}),
        "cifarResNet18": ("imagenet_resnet18", {"input_shape": (32, 32, 3)}),
    }
    rows["VGG_Small_noReLU_BinAct"] = rows["VGG_Small_BinAct"]
    for depth in (2, 4, 6, 8):
        rows[f"Conv{depth}"] = rows[f"Conv{depth}Wide"] = (f"conv{depth}", {})
    for depth in (18, 34, 50, 101):
        rows[f"cResNet{depth}"] = (f"resnet{depth}", {})
        rows[f"ResNet{depth}"] = (f"imagenet_resnet{depth}", {})
    for depth in (20, 32, 44, 56, 110):
        rows[f"cResNet{depth}"] = (f"resnet{depth}", {"head_pool": 4})
    for size in ("18_2", "18_3"):
        rows[f"cWideResNet{size}"] = (f"wide_resnet{size}", {})
    for size in ("18_2", "18_3", "34_2", "34_3", "50_2", "101_2"):
        rows[f"WideResNet{size}"] = (f"imagenet_wide_resnet{size}", {})
    for arch, (name, options) in list(rows.items()):
        if arch.startswith(("Conv", "c", "R", "WideR")):
            rows[f"{arch}_BinAct"] = (name, {**options, **binary})
    # Theirs with bottlenecks stop with an error when they are called.
    for size in ("ResNet18", "ResNet34", "WideResNet18_2", "WideResNet34_2"):
        name, options = rows[size]
        rows[f"{size}_v2"] = (name, {**options, "late_norm": "both"})
    rows["WideResNet18_v2"] = rows.pop("WideResNet18_2_v2")
    for size in ("ResNet18", "ResNet34", *_WIDE, "cResNet18", "cResNet34"):
        name, options = rows[f"{size}_BinAct"]
        rows[f"{size}_BinAct_v2"] = (name, {**options, "late_norm": True})
    for size in ("cResNet18", "cResNet34"):
        name, options = rows[size]
        rows[f"{size}_v2"] = (name, {**options, "late_norm": True})
    return rows


_ROWS = _rows()


def build(checkpoint, binarize):
    """Returns the network of a checkpoint, and the `Site`s of its layers."""
    if checkpoint.arch not in _ROWS:
        raise CheckpointError(
            f"its architecture is not known. Expected one of {sorted(_ROWS)}. "
            f"Received: arch={checkpoint.arch!r}"
        )
    if checkpoint.conv_type not in (LAYER_WISE, GLOBAL, DENSE):
        raise CheckpointError(
            f"its kind of layer is not known. Expected '{LAYER_WISE}', "
            f"'{GLOBAL}' or '{DENSE}'. Received: "
            f"conv_type={checkpoint.conv_type!r}"
        )
    if not 0.0 < checkpoint.keep <= 1.0:
        raise CheckpointError(
            "its fraction of weights kept is none. Expected a number in "
            f"(0, 1]. Received: prune_rate={checkpoint.keep}"
        )
    name, options = _ROWS[checkpoint.arch]
    is_residual = "ResNet" in checkpoint.arch
    shape = _residual_shape if is_residual else _sequential_shape
    options = {**options, **shape(checkpoint)}
    try:
        model = getattr(models, name)(
            binarize=binarize,
            masked=checkpoint.is_masked,
            sparsity=1.0 - checkpoint.keep,
            trained_batch_norm=_has_trained_batch_norm(checkpoint.arrays),
            **options,
        )
    except ValueError as error:
        raise CheckpointError(
            f"its arrays' shapes make no {checkpoint.arch} ({options}): {error}"
        ) from error
    sites = _residual_sites if is_residual else _sequential_sites
    return model, sites(model)


def _has_trained_batch_norm(arrays):
    return any(
        name.removesuffix("running_mean") + "weight" in arrays
        for name in arrays
        if name.endswith(".running_mean")
    )


def _sequential_shape(checkpoint):
    """Width, classes and size of the images, from the arrays' shapes."""
    head = f"linear.{_last_position(checkpoint, 'linear')}"
    classes, *_ = checkpoint.kernel_shape(f"{head}.weight")
    units, inputs, *_ = checkpoint.kernel_shape("linear.0.weight")
    if checkpoint.arch == "FC":
        side = math.isqrt(inputs)
        is_square = side**2 == inputs
        return {
            "input_shape": (side, side, 1) if is_square else (inputs,),
            "classes": classes,
            **_dense_ends(checkpoint, "linear.0", head),
        }
    _, image_channels, *_ = checkpoint.kernel_shape("convs.0.weight")
    last = f"convs.{_last_position(checkpoint, 'convs')}.weight"
    channels, *_ = checkpoint.kernel_shape(last)
    # Widths are rounded down; the widest layers tell the multiplier best.
    pools, width = 3, channels / 512
    if checkpoint.arch.startswith("Conv"):
        pools = int(checkpoint.arch[len("Conv")]) // 2
        width = max(channels / (32 * 2**pools), units / 256)
    side = math.isqrt(inputs // channels) * 2**pools
    return {
        "width": width,
        "input_shape": (side, side, image_channels),
        "classes": classes,
        **_dense_ends(checkpoint, "convs.0", head),
    }


def _last_position(checkpoint, part):
    """Of the last kernel; batch norms have weights of one dimension."""
    positions = [
        int(name.split(".")[1])
        for name, array in checkpoint.arrays.items()
        if re.fullmatch(rf"{part}\.\d+\.weight", name) and array.ndim == 4
    ]
    return max(positions, default=0)


def _residual_shape(checkpoint):
    channels, *_ = checkpoint.kernel_shape("conv1.weight")
    classes, *_ = checkpoint.kernel_shape("fc.weight")
    is_thin = "head_pool" in _ROWS[checkpoint.arch][1]
    return {
        "width": channels / (16 if is_thin else 64),
        "classes": classes,
        **_dense_ends(checkpoint, "conv1", "fc"),
    }


def _dense_ends(checkpoint, first, last):
    """Whether the first and the last layer have scores."""
    if not checkpoint.is_masked:
        return {}
    return {
        "first_layer_masked": f"{first}.scores" in checkpoint.arrays,
        "last_layer_masked": f"{last}.scores" in checkpoint.arrays,
    }


def _sequential_sites(model):
    """Their prefixes are positions, counted anew behind the flattening."""
    sites = []
    part, position, grid = "convs", 0, None
    for layer in model.layers:
        if isinstance(layer, keras.layers.Flatten):
            part, position = "linear", 0
            grid = layer.input.shape[1:]
            continue
        if layer.variables:
            first_dense = part == "linear" and position == 0
            sites.append(
                Site(
                    f"{part}.{position}",
                    layer,
                    grid if first_dense and len(grid) == 3 else None,
                )
            )
        position += 1
    return sites


def _residual_sites(model):
    shortcut = "shortcut"
    if model.name.startswith("imagenet"):
        shortcut = "downsample"
    kinds = {
        "shortcut_conv": f"{shortcut}.0",
        "shortcut_norm": f"{shortcut}.1",
        "norm": "bn",
    }
    ends = {"stem_conv": "conv1", "stem_norm": "bn1", "logits": "fc"}
    sites = []
    for layer in model.layers:
        if not layer.variables:
            continue
        inside = re.fullmatch(r"stage(\d+)_block(\d+)_(.*?)(\d?)", layer.name)
        if inside:
            stage, block, kind, number = inside.groups()
            kind = kinds.get(kind, kind)
            prefix = f"layer{stage}.{int(block) - 1}.{kind}{number}"
        else:
            prefix = ends[layer.name]
        sites.append(Site(prefix, layer))
    return sites
