"""A network's configuration as a graph: layers, and how they are called.

Keras serializes a model as nested dictionaries, which a ticket holds. Here
they become layers with names, kinds and paths, and the calls of these layers
in an order in which each finds its inputs; nothing of it needs Keras.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from mpt_keras.ticket.errors import TicketError


@dataclasses.dataclass(frozen=True)
class Source:
    """The result of a call, as an argument of another one.

    Attributes:
        layer: Name of the layer that is called.
        call: Which of its calls, from 0.
        output: Which of the results, from 0.
    """

    layer: str
    call: int = 0
    output: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
    """A layer, an operation of Keras, or a whole model.

    Attributes:
        name: Its name.
        kind: Class: `"Conv2D"` of Keras' layers, `"ops.Relu"` of Keras'
            operations, `"mpt_keras>MPTConv2D"`, `"larq>SteSign"`; the module
            stands before the classes of others.
        config: What its `get_config` says.
        path: Its name, and before it those of the models that hold it but the
            outermost: what the names of its weights begin with.
        graph: `Graph` of a model, or None.
    """

    name: str
    kind: str
    config: dict
    path: str
    graph: "Graph | None" = None


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """One call of a layer.

    Attributes:
        layer: `Layer`.
        result: `Source` by which others know the first result.
        args, kwargs: What it is called with; a `Source` where Keras has a
            tensor.
    """

    layer: Layer
    result: Source
    args: tuple
    kwargs: dict


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """A model.

    Attributes:
        name: Its name.
        layers: All layers, in Keras' order.
        inputs, outputs: `Source`s.
        nodes: Calls, each behind those that it takes results of.
    """

    name: str
    layers: tuple[Layer, ...]
    inputs: tuple[Source, ...]
    outputs: tuple[Source, ...]
    nodes: tuple[Node, ...]

    def walk(self) -> Iterator[Layer]:
        """All layers, those of nested models included, in Keras' order."""
        for layer in self.layers:
            yield layer
            if layer.graph is not None:
                yield from layer.graph.walk()


def read_layer(entry: dict, path: str = "") -> Layer:
    """The layer that a serialized one describes.

    Args:
        entry: What `keras.saving.serialize_keras_object` returned, by way of
            JSON.
        path: Path of the model or layer that holds it; of the outermost
            model, whose name is in no path, None.
    """
    config = entry["config"]
    kind = _kind(entry)
    name = entry.get("name") or config.get("name") or entry["class_name"]
    own_path = "" if path is None else f"{path}/{name}" if path else name
    graph = None
    if kind == "Sequential":
        graph = _sequential(config, own_path)
    elif kind in ("Functional", "Model") and "layers" in config:
        graph = _functional(config, own_path)
    return Layer(name, kind, config, own_path, graph)


def _kind(entry):
    module, name = entry.get("module") or "", entry["class_name"]
    registered = entry.get("registered_name") or name
    package = module.split(".")[0]
    if package == "keras" and registered == name:
        return f"ops.{name}" if "ops" in module.split(".") else name
    if package == "mpt_keras" and registered == f"mpt_keras>{name}":
        return registered
    if package == "larq" and registered.rpartition(">")[2] == name:
        return f"larq>{name}"
    return f"{module}.{name}"


def _sequential(config, path):
    layers = [read_layer(entry, path) for entry in config["layers"]]
    if not layers or layers[0].kind != "InputLayer":
        shape = {"batch_shape": config["build_input_shape"], "name": "input"}
        layers.insert(0, Layer("input", "InputLayer", shape, path))
    sources = [Source(layer.name) for layer in layers]
    nodes = [
        Node(layer, result, (before,), {})
        for before, layer, result in zip(
            sources[:-1], layers[1:], sources[1:], strict=True
        )
    ]
    nodes.insert(0, Node(layers[0], sources[0], (), {}))
    return Graph(
        config["name"],
        tuple(layers),
        (sources[0],),
        (sources[-1],),
        tuple(nodes),
    )


def _functional(config, path):
    layers, nodes = [], []
    for entry in config["layers"]:
        layer = read_layer(entry, path)
        layers.append(layer)
        calls = entry["inbound_nodes"]
        if layer.kind == "InputLayer":
            calls = [{"args": [], "kwargs": {}}]
        for number, call in enumerate(calls):
            args, kwargs = _revived(call["args"]), _revived(call["kwargs"])
            result = Source(layer.name, number)
            nodes.append(Node(layer, result, tuple(args), kwargs))
    graphs = {layer.name for layer in layers if layer.kind == "Functional"}
    return Graph(
        config["name"],
        tuple(layers),
        _ends(config["input_layers"], graphs),
        _ends(config["output_layers"], graphs),
        tuple(_in_order(nodes, config["name"])),
    )


def _ends(entry, graphs):
    """The `Source`s among which a model's inputs or outputs are."""
    is_one = isinstance(entry, list) and len(entry) == 3
    if is_one and isinstance(entry[0], str):
        name, call, output = entry
        # Here Keras counts the call by which a functional model was made.
        return (Source(name, call - (name in graphs), output),)
    parts = in_order(entry) if isinstance(entry, dict) else entry
    return tuple(source for part in parts for source in _ends(part, graphs))


def _revived(value):
    if isinstance(value, list):
        return [_revived(item) for item in value]
    if not isinstance(value, dict):
        return value
    config = value.get("config")
    match value.get("class_name"):
        case "__keras_tensor__":
            return Source(*config["keras_history"])
        case "__slice__":
            return slice(config["start"], config["stop"], config["step"])
        case "__ellipsis__":
            return Ellipsis
        case "__tuple__":
            return tuple(_revived(item) for item in value["value"])
        case "__tensor__" | "__numpy__":
            return np.array(config["value"], config["dtype"])
        case None:
            return {key: _revived(item) for key, item in value.items()}
    return value


def in_order(dictionary: dict) -> list:
    """The values of a dictionary in the order in which Keras takes them."""
    return [dictionary[key] for key in sorted(dictionary)]


def sources(value: Any) -> list[Source]:
    """The `Source`s in an argument, in order."""
    if isinstance(value, Source):
        return [value]
    if isinstance(value, dict):
        value = in_order(value)
    if isinstance(value, (list, tuple)):
        return [source for item in value for source in sources(item)]
    return []


def _in_order(nodes, name):
    """Calls, each behind those that it takes results of."""
    waiting, known = list(nodes), set()
    while waiting:
        later = []
        for node in waiting:
            needed = sources((node.args, node.kwargs))
            if all((one.layer, one.call) in known for one in needed):
                known.add((node.result.layer, node.result.call))
                yield node
            else:
                later.append(node)
        if len(later) == len(waiting):
            raise TicketError(
                f"The layers of '{name}' wait for each other's results."
            )
        waiting = later
