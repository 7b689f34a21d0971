"""The layers of the papers' networks, in the form that their user asks for."""

import dataclasses
import numbers
from typing import Any

import keras

from mpt_keras import initial_values, initializers, quantizers
from mpt_keras.frozen_part import check_fractions
from mpt_keras.layers.convolutional import MPTConv2D
from mpt_keras.layers.dense import MPTDense
from mpt_keras.seeds import check_seed, seeds_from
from mpt_keras.sparsity import check_sparsity

_KERNEL_INITIALIZERS = {
    "kaiming_normal": initializers.KaimingNormal,
    "signed_constant": initializers.SignedConstant,
}


@dataclasses.dataclass
class LayerFactory:
    """Makes the layers of one network; its fields are the network's options.

    Its sparsity may be a dictionary, name of the layer -> number.

    Whatever has no parameters comes without a name of its own, so that the
    same network can be built twice.
    """

    sparsity: float | dict[str, float] = 0.5
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
    frozen_pruned: float = 0.0
    frozen_kept: float = 0.0

    def __post_init__(self):
        if not isinstance(self.sparsity, dict):
            check_sparsity(self.sparsity)
        check_fractions(self.frozen_pruned, self.frozen_kept)
        is_number = isinstance(self.width, numbers.Real)
        if not is_number or not 0 < self.width < float("inf"):
            self._refuse_width("a positive number")
        self._seeds = seeds_from(check_seed(self.seed))
        self._kernel_seeds = None
        if self.kernel_seed is not None:
            self._kernel_seeds = seeds_from(check_seed(self.kernel_seed))

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
            **self._weights(role, name),
        )
        return [*zeros, convolution]

    def dense(self, units, role=None, name=None):
        layer = MPTDense if self._is_masked(role) else keras.layers.Dense
        return layer(units, name=name, **self._weights(role, name))

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

    def _weights(self, role, name):
        """The arguments of the next layer that has weights."""
        seed = next(self._seeds)
        # A masked layer seeds its kernel itself, where it has no seed.
        kernel_seed = next(self._kernel_seeds) if self._kernel_seeds else None
        if not self._is_masked(role):
            return {
                "use_bias": self.masked and role == "last",
                "kernel_initializer": self._initializer(
                    seed if kernel_seed is None else kernel_seed
                ),
                "kernel_regularizer": self.regularizer,
            }
        sparsity = self.sparsity
        if isinstance(sparsity, dict):
            sparsity = sparsity[name]
        return {
            "kernel_initializer": self._initializer(kernel_seed, masked=True),
            "sparsity": sparsity,
            "frozen_pruned": self.frozen_pruned,
            "frozen_kept": self.frozen_kept,
            "binarize": self.binarize,
            "scores_regularizer": self.regularizer,
            "seed": seed,
        }

    def _initializer(self, seed, masked=False):
        """Of one layer, whose seed is the network's in any case."""
        kernel = self.kernel_initializer
        if isinstance(kernel, str) and kernel in _KERNEL_INITIALIZERS:
            if masked:
                scaled = _KERNEL_INITIALIZERS[kernel]
                return scaled(scale_fan=self.scale_fan, seed=seed)
            return keras.initializers.HeNormal(seed)
        initializer = keras.initializers.get(kernel)
        try:
            return initial_values.reseeded(initializer, seed)
        except ValueError:
            return initializer
