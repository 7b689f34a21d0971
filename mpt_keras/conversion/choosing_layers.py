"""Which layers of a model are masked, and why the others are left alone."""

import collections
import dataclasses
import difflib
import fnmatch
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras

from mpt_keras.conversion.copying import is_of_keras
from mpt_keras.conversion.masked_layers import has_masked_form
from mpt_keras.conversion.rebuilding import GRAPHS
from mpt_keras.layers.masked import MaskedLayer
from mpt_keras.layers.traversal import masked_layers

Layers = str | Sequence[str] | Callable[[str, keras.layers.Layer], Any] | None

EXCLUDED = "excluded by `layers`"
_WRAPPERS = (keras.layers.Wrapper, keras.layers.Bidirectional)


@dataclasses.dataclass
class Choice:
    """What becomes of one layer.

    Attributes:
        layer: The layer.
        name: Its name; where several share it, its path.
        paths: All paths that lead to it.
        holders: Those that hold it and are copied as a whole, each once: the
            outermost custom layer or wrapper; None stands for the graph.
        reason: Why it is left alone, or None.
        has_masked_form: Whether it could be masked, whatever `layers` says.
    """

    layer: Any
    name: str
    paths: list[str]
    holders: list[Any]
    reason: str | None
    has_masked_form: bool


def choose(model, layers: Layers) -> list[Choice]:
    """Returns a `Choice` for every layer that is masked or left alone.

    Args:
        model: A built model.
        layers: As for `convert`.

    Raises:
        ValueError: If there is nothing to mask, or what is to be masked cannot
            be.
    """
    choices = _leaves(model)
    able = [choice for choice in choices if choice.reason is None]
    if not able:
        reasons = collections.Counter(choice.reason for choice in choices)
        raise ValueError(
            f"There is nothing to mask in model '{model.name}'. Expected "
            "dense, convolution or other layers with a masked form. Left "
            f"alone: {dict(reasons)}"
        )
    if layers is not None:
        _exclude(able, choices, layers, model)
    for choice in choices:
        _check_without_lora(choice)
        if choice.reason is None:
            _check_can_be_masked(choice)
    for choice in choices:
        if len(choice.holders) > 1 and choice.layer.weights:
            raise ValueError(
                f"Layer '{choice.name}' is shared between parts that are "
                f"copied each by itself: {choice.paths}. Expected a layer that "
                "only graphs share, or one custom layer holds."
            )
    return choices


def _leaves(model):
    found = {}

    def visit(layer, path, holder, inside):
        parts = _parts(layer)
        if not parts:
            if id(layer) not in found:
                reason = _reason(layer)
                found[id(layer)] = Choice(
                    layer, layer.name, [], [], reason, reason is None
                )
            choice = found[id(layer)]
            choice.paths.append(path)
            if all(holder is not other for other in choice.holders):
                choice.holders.append(holder)
            return
        if holder is None and not isinstance(layer, GRAPHS):
            holder = layer
        for inner in parts:
            if id(inner) not in inside:
                inner_path = f"{path}/{inner.name}" if path else inner.name
                visit(inner, inner_path, holder, inside | {id(inner)})

    visit(model, "", None, {id(model)})
    choices = list(found.values())
    for able in (True, False):
        some = [choice for choice in choices if choice.has_masked_form is able]
        often = collections.Counter(choice.layer.name for choice in some)
        for choice in some:
            if often[choice.layer.name] > 1:
                choice.name = choice.paths[0]
    return choices


def _parts(layer):
    """The layers in it that are looked at one by one; none in a leaf."""
    if isinstance(layer, GRAPHS):
        return [
            inner
            for inner in layer.layers
            if not isinstance(inner, keras.layers.InputLayer)
        ]
    if isinstance(layer, MaskedLayer) or has_masked_form(layer):
        return []
    if type(layer) is keras.layers.TimeDistributed:
        return [layer.layer]
    if is_of_keras(layer):
        return []
    return layer._layers


def _reason(layer):
    if isinstance(layer, MaskedLayer) or masked_layers(layer):
        return "masked already"
    if has_masked_form(layer):
        return None
    if not layer.weights:
        return "no weights"
    if is_of_keras(layer):
        if isinstance(layer, _WRAPPERS):
            return "a wrapper that computes with its layer's weights itself"
        if all(len(weight.shape) < 2 for weight in layer.weights):
            return "no kernel"
        return "no masked form of this class"
    return "custom class, without `register_conversion`"


def _exclude(able, choices, layers, model):
    """Marks those of `able` that `layers` does not name."""
    if callable(layers) and not isinstance(layers, keras.layers.Layer):
        for choice in able:
            if not layers(choice.name, choice.layer):
                choice.reason = EXCLUDED
        if all(choice.reason == EXCLUDED for choice in able):
            raise ValueError(
                "Invalid value for argument `layers`. Expected a function of "
                "a layer's name and the layer that is true of some of "
                f"{_names(able)}. Received: {layers!r}, which is true of none."
            )
        return
    is_several = isinstance(layers, Iterable) and not isinstance(layers, str)
    patterns = list(layers) if is_several else [layers]
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise ValueError(
                "Invalid value for argument `layers`. Expected names or "
                "patterns of layers, such as 'stage4_*', or a function of a "
                f"layer's name and the layer. Received: {pattern!r}"
            )
        if not any(_matches(pattern, choice) for choice in able):
            raise _no_match(pattern, able, choices, model)
    for choice in able:
        by_path = [
            any(_match_path(pattern, choice, path) for pattern in patterns)
            for path in choice.paths
        ]
        if any(by_path) and not all(by_path):
            raise ValueError(
                f"Layer '{choice.name}' is shared: {choice.paths}. Expected "
                "`layers` to choose it wherever it is used, or nowhere. "
                f"Received: layers={layers!r}"
            )
        if not any(by_path):
            choice.reason = EXCLUDED
    if not patterns:
        raise ValueError(
            "Invalid value for argument `layers`. Expected names or patterns, "
            "or None for all layers. Received: none"
        )


def _matches(pattern, choice):
    return any(_match_path(pattern, choice, path) for path in choice.paths)


def _match_path(pattern, choice, path):
    names = {choice.name, choice.layer.name, path}
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


def _names(choices):
    return [choice.name for choice in choices]


def _no_match(pattern, able, choices, model):
    others = {c.name: c.reason for c in choices if _matches(pattern, c)}
    if others:
        return ValueError(
            f"Invalid value for argument `layers`. {pattern!r} names layers "
            f"of '{model.name}' that cannot be masked: {others}. Expected "
            f"names or patterns out of {_names(able)}."
        )
    close = difflib.get_close_matches(pattern, _names(able), 3, 0.4)
    return ValueError(
        "Invalid value for argument `layers`. Expected names or patterns of "
        f"layers of '{model.name}'"
        f"{f' (close: {close})' if close else ''}, out of {_names(able)}. "
        f"Received: {pattern!r}, which matches none."
    )


def _check_without_lora(choice):
    # Keras saves such a layer merged, so that not even a copy can be made.
    for layer in choice.layer._flatten_layers():
        if getattr(layer, "lora_enabled", False):
            raise ValueError(
                f"Layer '{choice.name}' is fine-tuned with LoRA, whose weights "
                "a converted model has no place for. Give a model without: "
                "save the weights of this one, which merges them, and load "
                "them into a model that was built anew."
            )


def _check_can_be_masked(choice):
    for layer in choice.layer._flatten_layers():
        if not layer.built and layer is choice.layer:
            raise ValueError(
                f"Layer '{choice.name}' has no weights yet, because it was "
                "never called. Call the model on a batch, or leave the layer "
                "out by `layers`."
            )
        if getattr(layer.dtype_policy, "quantization_mode", None):
            raise ValueError(
                f"Layer '{choice.name}' is quantized, and a masked layer "
                "selects among float weights. Give the model as it was before "
                "`quantize`, or leave the layer out by `layers`. Received: "
                f"dtype={layer.dtype_policy.name!r}"
            )
