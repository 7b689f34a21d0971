"""From one Keras layer to its masked form, and how custom layers say theirs."""

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from mpt_keras import layers
from mpt_keras.conversion.copying import is_of_keras
from mpt_keras.conversion.plain_layers import (
    config_without_activation,
    give_activation,
)
from mpt_keras.layers.constructor import without_effect
from mpt_keras.layers.masked import MaskedLayer
from mpt_keras.layers.ordinary import ordinary_kernels
from mpt_keras.layers.traversal import masked_layers
from mpt_keras.transfer import weight_pairs


@dataclasses.dataclass(frozen=True)
class ConversionSettings:
    """What `convert` asks of one layer's masked form.

    Attributes:
        sparsity: Number in [0, 1); of a layer with several kernels a tuple,
            where they differ.
        binarize: True for biprop, False for edge-popup.
        input_quantizer: As of `MPTDense`.
        scores_regularizer: As of `MPTDense`.
        seed: Integer, of this layer's kernel and scores.
        kernel: `"random"` or `"keep"`. Whichever it is, `convert` copies the
            weights that are to be kept.
    """

    sparsity: float | tuple[float, ...]
    binarize: bool
    input_quantizer: Any
    scores_regularizer: Any
    seed: int
    kernel: str

    def arguments(self) -> dict[str, Any]:
        """Those of a masked layer, for its constructor."""
        arguments = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
        }
        del arguments["kernel"]
        return arguments


Conversion = Callable[[keras.layers.Layer, ConversionSettings], Any]
_CONVERSIONS: dict[type, Conversion] = {}


def register_conversion(
    layer_class: type[keras.layers.Layer],
) -> Callable[[Conversion], Conversion]:
    """Says how layers of a class become masked ones in `mpt_keras.convert`.

    For the layers of this very class, not of those derived from it. The
    function takes the layer, which it leaves as it is, and the
    `ConversionSettings`; it returns a layer that is, or holds, masked layers,
    built or not. `convert` then names it as the layer is named, builds it
    for the same shapes, and copies the weights: all with `kernel="keep"`, all
    but the masked kernels with `kernel="random"`. So its weights are those of
    the layer, by name and shape, beside scores.

    Args:
        layer_class: Class of layers. A Keras class may be registered as well.

    Returns:
        A decorator of that function. The last one registered counts.

    Raises:
        ValueError: If `layer_class` is no class of Keras layers.

    Example:

    >>> class Doubled(keras.layers.Dense):
    ...     def call(self, inputs):
    ...         return 2 * super().call(inputs)
    >>> class MaskedDoubled(mpt_keras.MPTDense):
    ...     def call(self, inputs):
    ...         return 2 * super().call(inputs)
    >>> @mpt_keras.register_conversion(Doubled)
    ... def convert_doubled(layer, settings):
    ...     return MaskedDoubled(
    ...         layer.units, use_bias=layer.use_bias, **settings.arguments()
    ...     )
    >>> model = keras.Sequential([keras.Input((4,)), Doubled(2, name="last")])
    >>> type(mpt_keras.convert(model).get_layer("last")).__name__
    'MaskedDoubled'
    """
    is_layer = isinstance(layer_class, type)
    if not is_layer or not issubclass(layer_class, keras.layers.Layer):
        raise ValueError(
            "Invalid value for argument `layer_class`. Expected a class of "
            f"Keras layers. Received: layer_class={layer_class!r}"
        )

    def register(function):
        _CONVERSIONS[layer_class] = function
        return function

    return register


def has_masked_form(layer) -> bool:
    """Whether its class is registered, or has a counterpart among ours."""
    return type(layer) in _CONVERSIONS or _counterpart(layer) is not None


def _counterpart(layer):
    """`MPTDense` for a `Dense`; None where there is none for the very class."""
    if not is_of_keras(layer):
        return None
    return getattr(layers, f"MPT{type(layer).__name__}", None)


def kernel_shapes(layer, name):
    """Returns the shapes of the kernels that a layer's masked form will mask.

    Args:
        layer: A built layer that has a masked form.
        name: Name of the layer.

    Returns:
        Dictionary, name of the kernel -> shape: `name`, or for several
        `name/depthwise_kernel`, ...
    """
    masked_class = _counterpart(layer)
    if type(layer) in _CONVERSIONS or not issubclass(masked_class, MaskedLayer):
        inner = ordinary_kernels(layer, trainable=False)
        # An attention's own name stands before those of its projections.
        found = {
            kernel.removeprefix(f"{layer.name}/"): tuple(variable.shape)
            for kernel, variable in inner.items()
        }
        if not found:
            found = {
                weight.name: tuple(weight.shape)
                for weight in layer.weights
                if len(weight.shape) > 1
            }
    else:
        found = {
            attribute: tuple(getattr(layer, attribute).shape)
            for attribute in masked_class.kernel_initializers
        }
    if len(found) == 1:
        return {name: next(iter(found.values()))}
    return {f"{name}/{kernel}": shape for kernel, shape in found.items()}


def masked_layer(layer, settings):
    """Returns the masked form of a layer, built, with the weights it keeps.

    Args:
        layer: A built layer that has a masked form. It is left as it is.
        settings: `ConversionSettings`.

    Raises:
        ValueError: If a registered function returns something else, or a layer
            whose weights are others.
    """
    convert = _CONVERSIONS.get(type(layer), _by_counterpart)
    masked = convert(layer, _with_one_sparsity(layer, settings))
    inside = []
    if masked is not layer and isinstance(masked, keras.layers.Layer):
        masked.name = layer.name
        if not masked.built:
            masked.build_from_config(layer.get_build_config())
        inside = masked_layers(masked)
    if not inside:
        raise ValueError(
            f"Cannot convert layer '{layer.name}'. Expected the function that "
            f"is registered for {type(layer).__name__} to return a layer that "
            f"is masked, or holds masked layers. Received: {masked!r}"
        )
    if isinstance(settings.sparsity, tuple):
        numbers = iter(settings.sparsity)
        for inner in inside:
            several = len(inner.masked_kernels)
            own = tuple(itertools.islice(numbers, several))
            inner.sparsity = own if several > 1 else own[0]
    kernels = [m for inner in inside for m in inner.masked_kernels]
    drawn = set()
    if settings.kernel == "random":
        drawn = {id(masked_kernel.kernel) for masked_kernel in kernels}
    for ours, theirs in _weight_pairs(layer, masked):
        if id(theirs) not in drawn:
            theirs.assign(ops.convert_to_numpy(ours))
    if settings.kernel == "keep":
        for masked_kernel in kernels:
            _start_from_magnitudes(masked_kernel)
    masked.trainable = layer.trainable
    return masked


def _weight_pairs(layer, masked):
    try:
        return weight_pairs(layer, masked)
    except ValueError as error:
        raise ValueError(
            f"Cannot convert layer '{layer.name}'. Expected a masked form with "
            "the weights of the layer, by name and shape, beside scores; see "
            f"`register_conversion`. {error}"
        ) from error


def _with_one_sparsity(layer, settings):
    """Settings with the sparsity of all kernels, where each layer has one."""
    masked_class = _counterpart(layer)
    is_one_layer = masked_class and issubclass(masked_class, MaskedLayer)
    if not isinstance(settings.sparsity, tuple) or is_one_layer:
        return settings
    sizes = [math.prod(x) for x in kernel_shapes(layer, "").values()]
    pruned = np.dot(settings.sparsity, sizes) / sum(sizes)
    return dataclasses.replace(settings, sparsity=float(pruned))


def _by_counterpart(layer, settings):
    masked_class = _counterpart(layer)
    config = config_without_activation(layer, type(layer))
    for name in options_without_effect(layer):
        config[name] = None
    for name in masked_class.kernel_initializers.values():
        config.pop(name, None)
    arguments = settings.arguments()
    for name in getattr(masked_class, "_refused_arguments", ()):
        arguments.pop(name, None)  # indices are not quantized
    masked = masked_class.from_config({**config, **arguments})
    give_activation(masked, layer)
    return masked


def options_without_effect(layer):
    """Names of the layer's arguments that act on trained kernels alone."""
    if type(layer) in _CONVERSIONS:
        return []
    config = config_without_activation(layer, type(layer))
    initializers = _counterpart(layer).kernel_initializers.values()
    unused = without_effect(initializers)
    return [
        name for name in config if name in unused and config[name] is not None
    ]


def _start_from_magnitudes(masked_kernel):
    """Scores in proportion to `abs(kernel)`, about as large as those drawn.

    By a power of two, which rounds nothing: ties and order are the kernel's.
    """
    # In double precision, in which no scale of single precision overflows.
    kernel, drawn = (
        np.abs(np.asarray(ops.convert_to_numpy(variable), "float64"))
        for variable in (masked_kernel.kernel, masked_kernel.scores)
    )
    if not kernel.any() or not np.isfinite(kernel).all():
        return  # it has no order, and scores of 0 would never change
    scale = 2.0 ** np.round(np.log2(drawn.mean() / kernel.mean()))
    masked_kernel.scores.assign((kernel * scale).astype("float32"))
