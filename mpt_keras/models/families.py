"""Families of networks, and the published networks as rows of data about them.

All networks take the same options beside their own shape.
"""

import dataclasses
import functools
import inspect
import numbers
import re
import textwrap

import keras

from mpt_keras import sparsity_rules
from mpt_keras.callbacks.global_sparsity import prune_globally
from mpt_keras.layers.traversal import masked_kernels
from mpt_keras.models.layer_factory import LayerFactory

_OPTIONS = """\
sparsity: Number in [0, 1), the fraction of weights pruned per layer; a
    rule of `mpt_keras.sparsity_rules`, such as `ERK(0.9)`; or a dictionary
    of names or patterns of layers, with a number or rule for each.
binarize: True for binary weights (biprop), False for edge-popup.
binary_activations: False for ReLU; True for `"approx_sign"`; or a
    quantizer.
trained_batch_norm: Whether the batch norms train scale and offset
    ("+BN" in the papers' tables).
width: Positive number; each width is `int(c * width)`.
kernel_initializer: `"kaiming_normal"`, `"signed_constant"`, or a
    Keras initializer. For ordinary layers the two mean `HeNormal`.
    Every layer gives it a seed of its own, if it takes any.
scale_fan: None, `"paper"` or `"authors"`: how the two named
    initializers account for the sparsity, see `KaimingNormal`.
regularizer: Regularizer of what trains: the scores (or the kernels of
    a dense network), and scale and offset of the batch norms.
masked: False builds the same network of ordinary, trained Keras
    layers, to compare with.
first_layer_masked: False leaves the first layer an ordinary, trained
    one.
last_layer_masked: False makes the last layer an ordinary, trained
    one, with a bias.
seed: Integer; all layers' seeds are derived from it. Drawn if None.
kernel_seed: Integer, of the random (or initial) weights alone; `seed`
    is then that of the scores. Networks of one `kernel_seed` are the
    same random network.
frozen_pruned, frozen_kept: Fractions of each layer's weights that are
    pruned, and kept, for ever, see `MPTDense`.
name: Name of the model.
"""


def family(build):
    """Makes a function of a factory and a shape one of options and a shape.

    `{options}` in its docstring becomes the description of the options, which
    `help` and completion show in its signature.
    """
    shape = list(inspect.signature(build).parameters.values())[1:]
    positional = [p for p in shape if p.kind is p.POSITIONAL_OR_KEYWORD]
    keywords = [p for p in shape if p.kind is p.KEYWORD_ONLY]
    options = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default
        )
        for field in dataclasses.fields(LayerFactory)
    ]
    name = keywords.pop()
    signature = inspect.Signature([*positional, *options, *keywords, name])

    @functools.wraps(build)
    def wrapped(*args, **kwargs):
        given = _bound(build.__name__, signature, args, kwargs)
        if keras.config.image_data_format() != "channels_last":
            raise ValueError(
                "The papers' networks have their channels last. Expected "
                "keras.config.set_image_data_format('channels_last'). "
                f"Received: {keras.config.image_data_format()!r}"
            )
        chosen = {
            field.name: given.pop(field.name)
            for field in dataclasses.fields(LayerFactory)
            if field.name in given
        }
        rule = chosen.get("sparsity", 0.5)
        if isinstance(rule, numbers.Real) or not chosen.get("masked", True):
            return build(LayerFactory(**chosen), **given)
        return _pruned_by_rule(build, chosen, given)

    wrapped.__signature__ = signature
    wrapped.__doc__ = re.sub(
        r"(?m)^( *)\{options\}\n",
        lambda found: textwrap.indent(_OPTIONS, found[1]),
        build.__doc__ or "",
    )
    return wrapped


def _pruned_by_rule(build, chosen, given):
    rule = sparsity_rules.as_rule(chosen["sparsity"])
    # A first network tells the names and shapes of the kernels.
    first = build(LayerFactory(**{**chosen, "sparsity": 0.5}), **given)
    shapes = {
        name: tuple(masked.kernel.shape)
        for name, masked in masked_kernels(first).items()
    }
    found = sparsity_rules.sparsity_per_kernel(rule, shapes)
    model = build(LayerFactory(**{**chosen, "sparsity": found}), **given)
    if isinstance(rule, sparsity_rules.Global):
        prune_globally(model, rule.sparsity)
    return model


def _bound(name, signature, args, kwargs):
    try:
        return signature.bind(*args, **kwargs).arguments
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None


def published(family, name, text, *, shape, **defaults):
    """A published network: a row of data about its family's function.

    Args:
        family: Function that `family` decorates.
        name: Name of the network and of the function returned.
        text: What it is, for the docstring.
        shape: Dictionary of those arguments of `family` that make the network
            what it is.
        **defaults: Other defaults than those of `family`.
    """
    defaults = {"name": name, **defaults}

    def build(**options):
        _bound(name, signature, (), options)
        return family(**shape, **{**defaults, **options})

    signature = inspect.Signature(
        [
            parameter.replace(
                default=defaults.get(parameter.name, parameter.default)
            )
            for parameter in inspect.signature(family).parameters.values()
            if parameter.name not in shape
        ]
    )
    build.__signature__ = signature
    build.__name__ = build.__qualname__ = name
    build.__module__ = family.__module__
    made = ", ".join(f"{key}={value!r}" for key, value in shape.items())
    build.__doc__ = (
        f"{text}\n\n`{family.__name__}({made})`; the other arguments are its."
    )
    return build
