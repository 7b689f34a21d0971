"""Random kernels and scores from a seed that means the same everywhere.

All numbers come from the raw 64-bit stream of NumPy's Philox counter-based
generator, which NumPy keeps stable across versions and platforms, and from
arithmetic that IEEE 754 defines to the bit. The same seed therefore gives the
same kernel on every backend, so that a seed and a mask are a whole ticket.
"""

import functools
import math
import random
import statistics

import keras
import numpy as np
from keras import ops

_QUANTILES = 2**15


def check_seed(seed, where="") -> int:
    """Returns `seed` as an integer; draws one for None.

    Raises:
        ValueError: If `seed` is not an integer in [0, 2**64).
    """
    if seed is None:
        return random_seed()
    if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**64:
        raise ValueError(
            "Invalid value for argument `seed`. Expected an integer in "
            f"[0, 2**64) or None. Received: seed={seed!r}{where}"
        )
    return int(seed)


def random_seed() -> int:
    """Draws a seed that `keras.utils.set_random_seed` makes repeatable."""
    return random.randrange(2**31)


def reseeded(initializer, seed, where=""):
    """Returns a copy of an initializer with another seed.

    Args:
        initializer: Keras initializer with a seed.
        seed: Integer.
        where: Text for the error, such as `" of layer 'dense'"`.

    Raises:
        ValueError: If the initializer takes no seed.
    """
    config = getattr(initializer, "get_config", dict)()
    if "seed" not in config:
        raise ValueError(
            f"Cannot draw the kernel{where} anew. Expected a random "
            f"initializer with a seed. Received: {initializer!r}"
        )
    return type(initializer).from_config({**config, "seed": seed})


class PhiloxInitializer(keras.initializers.Initializer):
    """Base of the initializers: a seed, a stream, and a fan-in.

    Args:
        seed: Integer in [0, 2**64), or None to draw one.
        stream: Integer in [0, 2**64). Different streams of one seed are
            independent; a layer uses stream 0 for its kernel and 1 for the
            scores (2 and 3 for the second kernel of a separable layer).
    """

    def __init__(self, seed=None, stream=0):
        self.seed = check_seed(seed)
        self.stream = int(stream)

    def __call__(self, shape, dtype=None, fan_in=None):
        """Returns a tensor of random numbers.

        Args:
            shape: Shape tuple, the inputs of one output first (`HWIO`).
            dtype: Float dtype; Keras' `floatx` by default.
            fan_in: Number of inputs that one output sees. By default the
                product of all but the last dimension, which is right for
                dense and (grouped) convolution kernels; layers with other
                kernels pass their own.
        """
        shape = tuple(shape)
        fan_in = math.prod(shape[:-1]) if fan_in is None else fan_in
        raw = np.random.Philox(key=self.seed | self.stream << 64).random_raw(
            math.prod(shape)
        )
        values = self.transform(raw, max(float(fan_in), 1.0)).reshape(shape)
        return ops.convert_to_tensor(
            values.astype("float32"), dtype=dtype or keras.config.floatx()
        )

    def transform(self, raw, fan_in):
        """Maps raw uint64 numbers to float64 weights."""
        raise NotImplementedError(
            f"{type(self).__name__} must define `transform(raw, fan_in)`."
        )

    def get_config(self):
        return {"seed": self.seed, "stream": self.stream}


class _ScaledFan(PhiloxInitializer):
    """An initializer of standard deviation `gain / sqrt(fan_in * share)`."""

    def __init__(self, scale_fan=None, sparsity=None, seed=None, stream=0):
        super().__init__(seed, stream)
        self.scale_fan = scale_fan
        self.sparsity = sparsity
        self._fan_share = _fan_share(scale_fan, sparsity)

    def standard_deviation(self, fan_in):
        return math.sqrt(2.0 / (fan_in * self._fan_share))

    def get_config(self):
        scaling = {"scale_fan": self.scale_fan, "sparsity": self.sparsity}
        return {**scaling, **super().get_config()}


def _fan_share(scale_fan, sparsity):
    if scale_fan is None:
        return 1.0
    if scale_fan not in ("paper", "authors"):
        raise ValueError(
            "Invalid value for argument `scale_fan`. Expected None, 'paper' "
            "(fan-in times the fraction kept) or 'authors' (fan-in times the "
            f"fraction pruned). Received: scale_fan={scale_fan!r}"
        )
    if sparsity is None or not 0.0 <= sparsity < 1.0:
        raise ValueError(
            "Argument `scale_fan` needs the sparsity that the layer will "
            "have, a number in [0, 1). Received: "
            f"scale_fan={scale_fan!r}, sparsity={sparsity!r}"
        )
    if scale_fan == "authors" and sparsity == 0.0:
        raise ValueError(
            "scale_fan='authors' divides by the fraction pruned, which is 0 "
            "at sparsity=0.0. Use scale_fan='paper' or None."
        )
    return 1.0 - sparsity if scale_fan == "paper" else sparsity


@functools.cache
def _half_normal_quantiles():
    """The middles of 2**15 equally probable parts of |N(0, 1)|, variance 1.

    A table instead of a formula, because logarithms and cosines differ in
    their last bit from one processor to the next.
    """
    normal = statistics.NormalDist()
    table = np.array(
        [
            normal.inv_cdf(0.5 + (i + 0.5) / (2 * _QUANTILES))
            for i in range(_QUANTILES)
        ]
    )
    table /= math.sqrt(math.fsum(table**2) / _QUANTILES)
    return table.astype("float32").astype("float64")


def _signs(raw):
    return np.where(raw >> np.uint64(63), 1.0, -1.0)


@keras.saving.register_keras_serializable(package="mpt_keras")
class KaimingNormal(_ScaledFan):
    """Normal weights of standard deviation `sqrt(2 / fan_in)`.

    The default of masked layers' kernels. Each weight is one of 2**16
    equally probable quantiles of the normal distribution.

    Args:
        scale_fan: None, `"paper"` or `"authors"`. With `"paper"`, `fan_in`
            is multiplied by `1 - sparsity`, the fraction kept, so that the
            outputs keep their variance after pruning. The authors' code
            multiplies by the fraction pruned instead, because its
            `prune_rate` means the fraction kept; `"authors"` does as the
            code does. Both are the same at sparsity 0.5.
        sparsity: Number in [0, 1), the fraction of weights pruned; needed
            with `scale_fan`.
        seed: Integer, or None to draw one.
        stream: Integer, see `PhiloxInitializer`.

    Raises:
        ValueError: If `scale_fan` is unknown or lacks a usable sparsity.

    Example:

    >>> init = mpt_keras.initializers.KaimingNormal(seed=0)
    >>> keras.ops.shape(init((3, 3, 16, 32)))
    (3, 3, 16, 32)

    Reference:
        He et al., "Delving Deep into Rectifiers", ICCV 2015; the scaling:
        Ramanujan et al., CVPR 2020.
    """

    def transform(self, raw, fan_in):
        magnitudes = _half_normal_quantiles()[raw & np.uint64(_QUANTILES - 1)]
        return _signs(raw) * magnitudes * self.standard_deviation(fan_in)


@keras.saving.register_keras_serializable(package="mpt_keras")
class SignedConstant(_ScaledFan):
    """Weights of one magnitude, `+-sqrt(2 / fan_in)`, with random signs.

    Args:
        scale_fan: As for `KaimingNormal`.
        sparsity: As for `KaimingNormal`.
        seed: Integer, or None to draw one.
        stream: Integer, see `PhiloxInitializer`.

    Raises:
        ValueError: If `scale_fan` is unknown or lacks a usable sparsity.

    Example:

    >>> init = mpt_keras.initializers.SignedConstant(seed=0)
    >>> np.unique(init((8, 4))).tolist()
    [-0.5, 0.5]

    Reference:
        Ramanujan et al., "What's Hidden in a Randomly Weighted Neural
        Network?", CVPR 2020.
    """

    def transform(self, raw, fan_in):
        return _signs(raw) * self.standard_deviation(fan_in)


@keras.saving.register_keras_serializable(package="mpt_keras")
class KaimingUniform(PhiloxInitializer):
    """Uniform numbers in `+-sqrt(6 / ((1 + a**2) * fan_in))`.

    With the default `a = sqrt(5)` the bound is `1 / sqrt(fan_in)`: the
    authors' initial scores, and the default of masked layers' scores.

    Args:
        a: Number, the negative slope of the rectifier that follows.
        seed: Integer, or None to draw one.
        stream: Integer, see `PhiloxInitializer`.

    Example:

    >>> scores = mpt_keras.initializers.KaimingUniform(seed=0)((100, 10))
    >>> bool(keras.ops.max(keras.ops.abs(scores)) <= 0.1)
    True

    Reference:
        He et al., "Delving Deep into Rectifiers", ICCV 2015.
    """

    def __init__(self, a=5.0**0.5, seed=None, stream=0):
        super().__init__(seed, stream)
        self.a = float(a)

    def transform(self, raw, fan_in):
        bound = math.sqrt(6.0 / ((1.0 + self.a**2) * fan_in))
        # 53 random bits in the middle of their cells: never 0, never +-1.
        unit = ((raw >> np.uint64(11)).astype("float64") + 0.5) * 2.0**-53
        return (2.0 * unit - 1.0) * bound

    def get_config(self):
        return {"a": self.a, **super().get_config()}
