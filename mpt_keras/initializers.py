"""Random kernels and scores from a seed that means the same everywhere.

The numbers are those of `mpt_keras.drawing`. The same seed therefore gives
the same kernel on every backend, so that a seed and a mask are a whole ticket.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from mpt_keras import compilation
from mpt_keras.drawing import Draw
from mpt_keras.seeds import check_seed
from mpt_keras.sparsity import check_sparsity

__all__ = ["KaimingNormal", "KaimingUniform", "SignedConstant"]


class PhiloxInitializer(keras.initializers.Initializer):
    """Base of the initializers: a seed, a fan-in, and a stream of numbers.

    A subclass names its `distribution`, one of `mpt_keras.drawing`.

    Args:
        seed: Integer in [0, 2**64); or None to take the seed of the masked
            layer, elsewhere to draw one at every call.
    """

    distribution: ClassVar[str]

    def __init__(self, seed: int | None = None) -> None:
        self.seed = None if seed is None else check_seed(seed)

    def __call__(
        self,
        shape: Sequence[int],
        dtype: Any = None,
        fan_in: float | None = None,
        sparsity: float | None = None,
        seed: int | None = None,
        stream: int = 0,
    ) -> Any:
        """Returns a tensor of random numbers.

        Args:
            shape: Shape tuple, the inputs of one output first (`HWIO`).
            dtype: Float dtype; Keras' `floatx` by default.
            fan_in: Number of inputs that one output sees. By default the
                product of all but the last dimension, which is right for
                dense and (grouped) convolution kernels; layers with other
                kernels pass their own.
            sparsity: Number in [0, 1), the fraction of weights pruned, which
                `scale_fan` asks for; a layer passes its own.
            seed: Integer, for an initializer without one.
            stream: Integer in [0, 2**64). Different streams of one seed are
                independent: a layer uses 0 for its kernel and 1 for the
                scores, 2 and 3 for a second kernel.
        """
        shape = tuple(shape)
        fan_in = math.prod(shape[:-1]) if fan_in is None else fan_in
        draw = self.draw(fan_in, sparsity, seed, stream)
        dtype = dtype or keras.config.floatx()
        return ops.cast(compilation.as_tensor(draw.values(shape)), dtype)

    def draw(self, fan_in, sparsity=None, seed=None, stream=0) -> Draw:
        """What the numbers are a function of; arguments as for a call."""
        return Draw(
            self.distribution,
            check_seed(seed) if self.seed is None else self.seed,
            stream,
            max(float(fan_in), 1.0) * self.fan_share(sparsity),
        )

    def fan_share(self, sparsity, where=""):
        """The fraction of the inputs that counts; errors say `where`."""
        return 1.0

    def get_config(self):
        return {"seed": self.seed}


class _ScaledFan(PhiloxInitializer):
    """An initializer of standard deviation `sqrt(2 / (fan_in * share))`."""

    def __init__(
        self, scale_fan: str | None = None, seed: int | None = None
    ) -> None:
        super().__init__(seed)
        if scale_fan not in (None, "paper", "authors"):
            raise ValueError(
                "Invalid value for argument `scale_fan`. Expected None, "
                "'paper' (fan-in times the fraction kept) or 'authors' (fan-in "
                "times the fraction pruned). Received: "
                f"scale_fan={scale_fan!r}"
            )
        self.scale_fan = scale_fan

    def fan_share(self, sparsity, where=""):
        if self.scale_fan is None:
            return 1.0
        if sparsity is None:
            raise ValueError(
                f"scale_fan={self.scale_fan!r} needs the sparsity, which only "
                "masked layers pass to their initializers. Expected "
                "scale_fan=None elsewhere, or a call with sparsity=... "
                f"Received: sparsity=None{where}"
            )
        sparsity = check_sparsity(sparsity, where)
        if self.scale_fan == "authors" and sparsity == 0.0:
            raise ValueError(
                "scale_fan='authors' divides by the fraction pruned, which is "
                "0. Expected scale_fan='paper' or None, or a sparsity above 0. "
                f"Received: sparsity=0.0{where}"
            )
        return 1.0 - sparsity if self.scale_fan == "paper" else sparsity

    def get_config(self):
        return {"scale_fan": self.scale_fan, **super().get_config()}


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
            The sparsity is that of the layer when its kernel is drawn.
        seed: Integer, or None for that of the masked layer.

    Raises:
        ValueError: If `scale_fan` is unknown; where the kernel is drawn, if
            the sparsity is 0 with `"authors"` or nobody passes one.

    Example:

    >>> init = mpt_keras.initializers.KaimingNormal(seed=0)
    >>> keras.ops.shape(init((3, 3, 16, 32)))
    (3, 3, 16, 32)

    Reference:
        He et al., "Delving Deep into Rectifiers", ICCV 2015; the scaling:
        Ramanujan et al., CVPR 2020.
    """

    distribution = "kaiming_normal"


@keras.saving.register_keras_serializable(package="mpt_keras")
class SignedConstant(_ScaledFan):
    """Weights of one magnitude, `+-sqrt(2 / fan_in)`, with random signs.

    Args:
        scale_fan: As for `KaimingNormal`.
        seed: As for `KaimingNormal`.

    Raises:
        ValueError: As for `KaimingNormal`.

    Example:

    >>> init = mpt_keras.initializers.SignedConstant(seed=0)
    >>> np.unique(init((8, 4))).tolist()
    [-0.5, 0.5]

    Reference:
        Ramanujan et al., "What's Hidden in a Randomly Weighted Neural
        Network?", CVPR 2020.
    """

    distribution = "signed_constant"


@keras.saving.register_keras_serializable(package="mpt_keras")
class KaimingUniform(PhiloxInitializer):
    """Uniform numbers in `+-sqrt(6 / ((1 + a**2) * fan_in))`.

    With the default `a = sqrt(5)` the bound is `1 / sqrt(fan_in)`: the
    authors' initial scores, and the default of masked layers' scores.

    Args:
        a: Number, the negative slope of the rectifier that follows.
        seed: Integer, or None for that of the masked layer.

    Example:

    >>> scores = mpt_keras.initializers.KaimingUniform(seed=0)((100, 10))
    >>> bool(keras.ops.max(keras.ops.abs(scores)) <= 0.1)
    True

    Reference:
        He et al., "Delving Deep into Rectifiers", ICCV 2015.
    """

    distribution = "kaiming_uniform"

    def __init__(self, a: float = 5.0**0.5, seed: int | None = None) -> None:
        super().__init__(seed)
        self.a = float(a)

    def draw(self, *args, **kwargs):
        draw = super().draw(*args, **kwargs)
        return dataclasses.replace(draw, slope=self.a)

    def get_config(self):
        return {"a": self.a, **super().get_config()}
