"""What the papers' networks are made of, in the form that their user asks for.

All networks take the same options beside their own shape; `Parts` holds the
options and makes the layers.
"""

import dataclasses
import functools
import inspect
import itertools
import numbers
import re
import textwrap
from typing import Any

import keras
import numpy as np

from mpt_keras import initializers, quantizers, selection
from mpt_keras.layers.convolutional import MPTConv2D
from mpt_keras.layers.dense import MPTDense

_KERNEL_INITIALIZERS = {
    "kaiming_normal": initializers.KaimingNormal,
    "signed_constant": initializers.SignedConstant,
}
_OPTIONS = """\
sparsity: Number in [0, 1), the fraction of weights pruned per layer.
binarize: True for binary weights (biprop), False for edge-popup.
binary_activations: False for ReLU; True for `"approx_sign"`; or a
    quantizer.
trained_batch_norm: Whether the batch norms train scale and offset
    ("+BN" in the papers' tables).
width: Positive number; each width is `int(c * width)`.
kernel_initializer: `"kaiming_normal"`, `"signed_constant"`, or a
    Keras initializer. For ordinary layers the two mean `HeNormal`,
    and any other is given a seed of its own in every layer.
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
name: Name of the model.
"""


@dataclasses.dataclass
class Parts:
    """The layers of one network, and its options.

    Whatever has no parameters comes without a name of its own, so that the
    same network can be built twice.
    """

    sparsity: float = 0.5
    binarize: bool = True
    binary_activations: Any = False
    trained_batch_norm: bool = False
    width: float = 1.0
    kernel_initializer: Any = "kaiming_normal"
    scale_fan: str | None = "paper"
    regularizer: Any = None
    masked: bool = True
    first_layer_masked: bool = True
    last_layer_masked: bool = True
    seed: int | None = None
    kernel_seed: int | None = None

    def __post_init__(self):
        selection.check_sparsity(self.sparsity)
        is_number = isinstance(self.width, numbers.Real)
        if not is_number or not 0 < self.width < float("inf"):
            self._refuse_width("a positive number")
        self._seeds = _seeds(initializers.check_seed(self.seed))
        self._kernel_seeds = None
        if self.kernel_seed is not None:
            self._kernel_seeds = _seeds(
                initializers.check_seed(self.kernel_seed)
            )

    def channels(self, channels):
        """A layer's width, from its width in the paper."""
        scaled = int(channels * self.width)
        if scaled < 1:
            self._refuse_width(
                f"a multiplier that leaves at least one of {channels} filters"
            )
        return scaled

    def _refuse_width(self, expected):
        raise ValueError(
            f"Invalid value for argument `width`. Expected {expected}. "
            f"Received: width={self.width!r}"
        )

    def convolution(self, filters, size=3, strides=1, role=None, name=None):
        """Layers of a convolution with zeros on both sides of the images.

        Keras' `"same"` puts the zeros of a strided convolution on one side.
        `role` is `"first"` or `"last"` for the layers that options concern.
        """
        padding = size // 2
        zeros = []
        if strides > 1 and padding:
            zeros = [keras.layers.ZeroPadding2D(padding)]
        layer = MPTConv2D if self._is_masked(role) else keras.layers.Conv2D
        convolution = layer(
            filters,
            size,
            strides=strides,
            padding="valid" if zeros else "same",
            name=name,
            **self._weights(role),
        )
        return [*zeros, convolution]

    def dense(self, units, role=None, name=None):
        layer = MPTDense if self._is_masked(role) else keras.layers.Dense
        return layer(units, name=name, **self._weights(role))

    def norm(self, name=None):
        options = dict.fromkeys(("center", "scale"), self.trained_batch_norm)
        if self.trained_batch_norm:
            options["beta_regularizer"] = self.regularizer
            options["gamma_regularizer"] = self.regularizer
        return keras.layers.BatchNormalization(
            epsilon=1e-5, momentum=0.9, name=name, **options
        )

    def activation(self):
        if not self.binary_activations:
            return keras.layers.ReLU()
        quantizer = self.binary_activations
        return quantizers.as_layer(
            "approx_sign" if quantizer is True else quantizer
        )

    def _is_masked(self, role):
        exempt = (role == "first" and not self.first_layer_masked) or (
            role == "last" and not self.last_layer_masked
        )
        return self.masked and not exempt

    def _weights(self, role):
        """The arguments of the next layer that has weights."""
        seed = kernel_seed = next(self._seeds)
        if self._kernel_seeds:
            kernel_seed = next(self._kernel_seeds)
        if not self._is_masked(role):
            return {
                "use_bias": self.masked and role == "last",
                "kernel_initializer": self._trained_initializer(kernel_seed),
                "kernel_regularizer": self.regularizer,
            }
        kernel = self.kernel_initializer
        if isinstance(kernel, str) and kernel in _KERNEL_INITIALIZERS:
            kernel = _KERNEL_INITIALIZERS[kernel](
                scale_fan=self.scale_fan,
                sparsity=self.sparsity,
                seed=kernel_seed,
            )
        return {
            "kernel_initializer": kernel,
            "sparsity": self.sparsity,
            "binarize": self.binarize,
            "scores_regularizer": self.regularizer,
            "seed": seed,
        }

    def _trained_initializer(self, seed):
        """Of an ordinary layer, whose seed is the network's in any case."""
        kernel = self.kernel_initializer
        if isinstance(kernel, str) and kernel in _KERNEL_INITIALIZERS:
            return keras.initializers.HeNormal(seed)
        initializer = keras.initializers.get(kernel)
        try:
            return initializers.reseeded(initializer, seed)
        except ValueError:
            return initializer


def _seeds(seed):
    """Endless; the first ones do not depend on how many are taken."""
    taken = 0
    for many in (2**power for power in itertools.count(6)):
        states = np.random.SeedSequence(seed).generate_state(many)
        yield from map(int, states[taken:])
        taken = many


def network(build):
    """Makes a function of `Parts` and a shape one of options and a shape.

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
        for field in dataclasses.fields(Parts)
    ]
    name = keywords.pop()
    signature = inspect.Signature([*positional, *options, *keywords, name])

    @functools.wraps(build)
    def wrapped(*args, **kwargs):
        given = _bound(build.__name__, signature, args, kwargs)
        chosen = {
            field.name: given.pop(field.name)
            for field in dataclasses.fields(Parts)
            if field.name in given
        }
        return build(Parts(**chosen), **given)

    wrapped.__signature__ = signature
    wrapped.__doc__ = re.sub(
        r"(?m)^( *)\{options\}\n",
        lambda found: textwrap.indent(_OPTIONS, found[1]),
        build.__doc__ or "",
    )
    return wrapped


def _bound(name, signature, args, kwargs):
    try:
        return signature.bind(*args, **kwargs).arguments
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None


def variant(family, name, text, *, shape, **defaults):
    """A published network: a row of data about its family's function.

    Args:
        family: Function that `network` made.
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
