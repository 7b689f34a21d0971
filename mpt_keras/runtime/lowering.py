"""From a ticket to a plan: which operations a network consists of."""

import re

from mpt_keras.runtime.calls import (
    Call,
    Operations,
    Unfinished,
    check_arguments,
    refusal,
    tensors,
)
from mpt_keras.runtime.errors import UnsupportedLayerError
from mpt_keras.runtime.graph import Source, read_layer
from mpt_keras.runtime.operations import SIGN, Elementwise, Plan, Steps, Value
from mpt_keras.runtime.rules import RULES
from mpt_keras.runtime.tensors import Tensor, planes_shape
from mpt_keras.runtime.weights import Weights
from mpt_keras.ticket.errors import TicketError
from mpt_keras.ticket.reading import Ticket

# They say nothing of what is predicted.
_OF_TRAINING = re.compile(
    "name|trainable|dtype|seed|.*_(initializer|regularizer|constraint)"
)
# Keras computes with integers until one of these makes floats of them.
_TO_FLOATS = {"Normalization", "Rescaling"}


def lower(ticket: Ticket) -> Plan:
    """Returns the operations of a ticket's network, one after another.

    They are those of its layers in Keras' order: nothing is fused.

    Args:
        ticket: `mpt_keras.ticket.Ticket`.

    Returns:
        `Plan`.

    Raises:
        UnsupportedLayerError: If a layer, or the way in which it is called,
            is none that the runtime computes; named.
        TicketError: If the description of the network is none of Keras'.
    """
    try:
        return _lowered(ticket)
    except (TicketError, UnsupportedLayerError):
        raise
    except Exception as error:
        raise TicketError(
            "Its description of the network is not as Keras writes them. "
            f"{type(error).__name__}: {error}"
        ) from error


def _lowered(ticket):
    model = read_layer(ticket.config, None)
    if model.graph is None:
        raise UnsupportedLayerError(
            f"Model '{model.name}' ({model.kind}) cannot run here: only "
            "Sequential and functional models say how their layers are "
            "called. Expected one of these, made of the same layers; or "
            "export the model: mpt_keras.export(model, path, format='onnx')."
        )
    for what in ("inputs", "outputs"):
        count = len(getattr(model.graph, what))
        if count != 1:
            raise UnsupportedLayerError(
                f"Model '{model.name}' has {count} {what}. Expected one: a "
                "model of the part that is to run, "
                "keras.Model(model.inputs[0], model.outputs[0])."
            )
    given = _input(model.graph)
    dtype = _input_dtype(model.graph)
    integers = given if dtype == "uint8" else None
    lowering = _Lowering(Weights(ticket, model.graph), integers)
    result = lowering.graph(model, [given])[0]
    operations = lowering.operations
    if isinstance(result, Unfinished):
        raise refusal(model, f"a result that is {result.what} of x")
    first = result.channels_first
    if not 1 <= len(result.shape) <= 3:
        raise refusal(model, f"a result of the shape {(None, *result.shape)}")
    output = operations.planes(model.name, result, first)
    if output.kind == SIGN or output is given.value:
        output = operations.add(
            Elementwise, model.name, [output], output.shape, steps=Steps()
        )
    return Plan(
        model.name,
        given.value,
        output,
        given.shape,
        result.shape,
        given.channels_first,
        first,
        tuple(operations.done),
        dtype,
    )


def _input(graph):
    """The tensor that the network is given."""
    layer = _input_layer(graph)
    shape = tuple(layer.config["batch_shape"][1:])
    if not 1 <= len(shape) <= 3:
        raise refusal(layer, f"an input of the shape {(None, *shape)}")
    if None in shape:
        raise refusal(
            layer,
            f"an input of open size, {(None, *shape)} (make the model "
            "with keras.Input of a fixed size),",
        )
    if _input_dtype(graph) not in ("float32", "uint8"):
        raise refusal(layer, f"an input of dtype={_input_dtype(graph)!r}")
    formats = [
        other.config["data_format"]
        for other in graph.walk()
        if isinstance(other.config, dict)
        and other.config.get("data_format") is not None
    ]
    first = len(shape) > 1 and formats[:1] == ["channels_first"]
    return Tensor(Value(planes_shape(shape, first)), shape, first)


def _input_dtype(graph):
    return _input_layer(graph).config.get("dtype") or "float32"


def _input_layer(graph):
    name = graph.inputs[0].layer
    layer = next(layer for layer in graph.layers if layer.name == name)
    if layer.graph is not None:
        return _input_layer(layer.graph)
    return layer


class _Lowering:
    def __init__(self, weights, integers):
        self.operations = Operations()
        self._weights = weights
        self._integers = integers  # the input, where it holds these

    def graph(self, model, inputs):
        """The results of a model called with tensors."""
        graph = model.graph
        if len(inputs) != len(graph.inputs):
            raise refusal(model, f"a call with {len(inputs)} inputs")
        known = dict(zip(graph.inputs, inputs, strict=True))
        for node in graph.nodes:
            if node.result in known:
                continue
            results = self.call(
                node.layer,
                _filled(node.args, known),
                _filled(node.kwargs, known),
            )
            for number, result in enumerate(results):
                where = Source(node.result.layer, node.result.call, number)
                known[where] = result
        return [known[source] for source in graph.outputs]

    def call(self, layer, args, kwargs):
        """The results of one call of a layer."""
        if layer.graph is None:
            return [self.apply(layer, args, kwargs)]
        others = check_arguments(layer, kwargs, is_random=False)
        return self.graph(layer, tensors((args, others)))

    def apply(self, layer, args, kwargs):
        """The first result of one call of a layer."""
        if layer.graph is not None:
            return self.call(layer, args, kwargs)[0]
        rule = RULES.get(layer.kind)
        if rule is None:
            raise refusal(layer, "this class of layers")
        _check_dtype(layer)
        _check_settings(layer, rule)
        call = Call(
            layer,
            args,
            check_arguments(layer, kwargs, rule.is_random),
            self.operations,
            self._weights,
            self.apply,
        )
        if layer.kind not in _TO_FLOATS and any(
            one is self._integers for one in call.inputs
        ):
            call.refuse("an input of dtype='uint8', unscaled,")
        partly = [one for one in call.inputs if isinstance(one, Unfinished)]
        if partly and not rule.takes_unfinished:
            call.refuse(f"what it is called with, {partly[0].what} of x,")
        return rule.lower(call)


def _filled(value, known):
    """An argument with tensors in the place of sources."""
    if isinstance(value, Source):
        return known[value]
    if isinstance(value, dict):
        return {key: _filled(item, known) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_filled(item, known) for item in value)
    return value


def _check_dtype(layer):
    dtype = layer.config.get("dtype")
    if isinstance(dtype, dict):
        config = dtype.get("config") or {}
        dtype = config.get("name", dtype.get("class_name"))
    if dtype not in (None, "float32"):
        raise refusal(
            layer,
            f"dtype={dtype!r}, for which Keras rounds otherwise than the "
            "float32 that is computed here,",
        )


def _check_settings(layer, rule):
    for name, value in layer.config.items():
        is_known = name in rule.settings or _OF_TRAINING.fullmatch(name)
        if value is not None and not is_known:
            raise refusal(layer, f"{name}={value!r}")
