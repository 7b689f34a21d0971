"""Initializers in the hands of a layer: seeded, scaled, checked."""

import functools
import math

import keras

from mpt_keras import value_checks
from mpt_keras.initializers import PhiloxInitializer
from mpt_keras.seeds import derived_seed

_TAKES_NONE = object()


def bound(initializer, where="", *, seed, stream, fan_in, sparsity):
    """Returns an initializer that knows what its layer knows.

    Args:
        initializer: Initializer of ours or of Keras, or what Keras takes for
            one. If it takes a seed and has none, it gets one of the layer's.
        where: Text for errors, such as `" (layer 'dense')"`.
        seed: Integer, the layer's seed.
        stream: Integer, which of the layer's weights it is for.
        fan_in: Number of inputs that one output sees.
        sparsity: Number in [0, 1), the fraction of weights pruned.

    Returns:
        Function of a shape and a dtype. It raises `ValueError` for values of
        another shape, NaN, or nothing but 0.
    """
    if isinstance(initializer, PhiloxInitializer):
        initializer.fan_share(sparsity, where)  # or an error
        return functools.partial(
            initializer,
            fan_in=fan_in,
            sparsity=sparsity,
            seed=seed,
            stream=stream,
        )
    initializer = keras.initializers.get(initializer)
    if _seed_of(initializer, default=0) is None:
        initializer = reseeded(initializer, derived_seed(seed, stream))
    return functools.partial(_checked_values, initializer, where)


def draw_of(initializer, *, seed, stream, fan_in, sparsity):
    """Returns the `Draw` that `bound` gives the values of.

    None for an initializer of others, whose numbers are not the same
    everywhere. Arguments as for `bound`.
    """
    if not isinstance(initializer, PhiloxInitializer):
        return None
    return initializer.draw(fan_in, sparsity, seed, stream)


def reseeded(initializer, seed, where=""):
    """Returns a copy of an initializer with another seed.

    Args:
        initializer: Initializer of ours or of Keras.
        seed: Integer, or None.
        where: Text for the error, such as `" (layer 'dense')"`.

    Raises:
        ValueError: If the initializer takes no seed.
    """
    if _seed_of(initializer, default=_TAKES_NONE) is _TAKES_NONE:
        raise ValueError(
            "Cannot draw a kernel anew. Expected a random initializer with a "
            f"seed. Received: {initializer!r}{where}"
        )
    config = {**initializer.get_config(), "seed": seed}
    return type(initializer).from_config(config)


def _seed_of(initializer, default):
    return getattr(initializer, "get_config", dict)().get("seed", default)


def _checked_values(initializer, where, shape, dtype=None):
    values = initializer(shape, dtype=dtype)
    name = getattr(initializer, "__name__", type(initializer).__name__)
    if tuple(values.shape) != tuple(shape):
        raise ValueError(
            f"The initializer {name}{where} must give one number per "
            f"weight. Expected shape: {tuple(shape)}. Received shape: "
            f"{tuple(values.shape)}"
        )
    value_checks.check_no_nan(values, where, what="initial values")
    if value_checks.are_all_zero(values):
        raise ValueError(
            f"The initializer {name}{where} gives nothing but 0, "
            "whose sign is 0: such weights compute nothing, and such scores "
            "never change. Expected other numbers, as by default. Received: "
            f"{math.prod(shape)} zeros."
        )
    return values
