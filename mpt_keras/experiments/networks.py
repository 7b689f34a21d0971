"""The networks that experiments know by their names."""

import importlib
import pathlib
import sys

_SMALL = {
    **dict.fromkeys(("conv2", "conv4", "conv6", "conv8"), "conv"),
    "lenet_300_100": "fc",
    **dict.fromkeys(("vgg_small", "vgg_small_norm_at_pools"), "vgg"),
    **{f"resnet{depth}": "resnet18" for depth in (18, 34, 50, 101)},
    **{f"wide_resnet18_{width}": "resnet18" for width in (2, 3)},
    **{f"resnet{depth}": "resnet20" for depth in (20, 32, 44, 56, 110)},
}
_IMAGENET = {
    **{f"imagenet_resnet{depth}": "resnet" for depth in (18, 34, 50, 101)},
    **{f"imagenet_wide_resnet18_{width}": "resnet" for width in (2, 3)},
    "imagenet_wide_resnet34_2": "wide_resnet34",
    "imagenet_wide_resnet34_3": "resnet",
    "imagenet_wide_resnet50_2": "wide_resnet",
    "imagenet_wide_resnet101_2": "wide_resnet",
}
# Name -> family, the middle of its recipes' names.
FAMILIES = _SMALL | _IMAGENET
# Their forms of real activations have no batch norms.
WITHOUT_BATCH_NORMS = ("conv", "fc")


def is_for_imagenet(name):
    """Whether the recipes of a network are those for ImageNet."""
    return name in _IMAGENET


def family(name):
    """The family of a network; that of the ResNets for one that is unknown."""
    return FAMILIES.get(name, "resnet18")


def is_known(name):
    """Whether it is the name of a network, or `module:function`."""
    return name in FAMILIES or is_own(name)


def is_own(name):
    """Whether it is `module:function`, of the user's."""
    module, colon, function = name.partition(":")
    return bool(colon and module and function.isidentifier())


EXPECTED = (
    f"one of {', '.join(FAMILIES)}, or module:function of your own, which "
    "takes the arguments of mpt_keras.models.conv4"
)


def builder(name):
    """The function that builds a network.

    Raises:
        ValueError: If a function of one's own cannot be imported.
    """
    if name in FAMILIES:
        from mpt_keras import models

        if name == "vgg_small_norm_at_pools":
            return lambda **given: models.vgg_small(
                form="norm_at_pools", **given
            )
        return getattr(models, name)
    module, _, function = name.partition(":")
    # As `python -m` finds it; an installed command does not look there.
    here = str(pathlib.Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        found = getattr(importlib.import_module(module), function)
        if not callable(found):
            raise AttributeError("it is no function")
        return found
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"No network '{name}': {error}. Expected {EXPECTED}."
        ) from error
