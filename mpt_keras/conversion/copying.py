"""Copies of layers by way of Keras' own saving."""

import contextlib
import json
import warnings
import zipfile

import keras
from keras import ops


def copied(layer):
    """Returns a copy of a layer, with weights, tables and random states.

    Raises:
        ValueError: If Keras cannot save and load the layer.
    """
    return copied_with_config(layer)[0]


def copied_with_config(layer):
    """Returns a copy of a layer, and the serialized form that it came from."""
    try:
        with warnings.catch_warnings():
            # Keras warns of what it may not build, which is checked here.
            warnings.simplefilter("ignore")
            copy, config = _saved_and_loaded(layer)
        _check_same_weights(copy, layer)
        pairs = zip(
            copy._flatten_layers(), layer._flatten_layers(), strict=True
        )
        for new, old in pairs:  # what a constructor named anew
            new.name = old.name
        # What a file leaves out.
        states = zip(_random_states(copy), _random_states(layer), strict=True)
        for new, old in states:
            new.assign(ops.copy(old))
    except Exception as error:
        raise ValueError(
            f"Cannot copy layer '{layer.name}' ({type(layer).__name__}) of "
            "the model. Expected a layer that Keras can save and "
            "load: its class, and the functions that it uses, registered with "
            "@keras.saving.register_keras_serializable(), a `get_config` that "
            "returns the arguments of its constructor, and a `build` where "
            f"Keras cannot build it alone. Keras says: {error}"
        ) from error
    if isinstance(copy, keras.layers.BatchNormalization):
        # It says how to train, and only TensorFlow can load it.
        copy.synchronized = False
    return copy, config


def is_of_keras(layer):
    """Whether a layer's class is one of Keras' own."""
    return type(layer).__module__.split(".")[0] == "keras"


def _saved_and_loaded(layer):
    if isinstance(layer, keras.Model):
        compiled, layer.compiled = layer.compiled, False
        try:  # without the loss, which a copy does not need
            return _through_a_file(layer)
        finally:
            layer.compiled = compiled
    if not layer._inbound_nodes or all(
        map(is_of_keras, layer._flatten_layers())
    ):
        return _through_a_file(layer)
    # What a custom layer makes in its call, Keras makes again in a graph.
    node = layer._inbound_nodes[0]
    # Attention to itself takes one tensor twice.
    inputs = list(
        {id(tensor): tensor for tensor in node.input_tensors}.values()
    )
    with _graph_as_it_was([*inputs, *node.outputs]):
        graph, config = _through_a_file(keras.Model(inputs, node.outputs))
    (copy,) = (
        layer
        for layer in graph.layers
        if not isinstance(layer, keras.layers.InputLayer)
    )
    copy._inbound_nodes.clear()
    (config,) = (
        entry
        for entry in config["config"]["layers"]
        if entry["class_name"] != "InputLayer"
    )
    return copy, config


@contextlib.contextmanager
def _graph_as_it_was(tensors):
    """A graph of some of a model's tensors leaves no trace in the model."""
    layers = [tensor._keras_history.operation for tensor in tensors]
    nodes = [
        (kept, list(kept))
        for layer in layers
        for kept in (layer._inbound_nodes, layer._outbound_nodes)
    ]
    histories = [tensor._keras_history for tensor in tensors]
    try:
        yield
    finally:
        for kept, before in nodes:
            kept[:] = before
        for tensor, history in zip(tensors, histories, strict=True):
            tensor._keras_history = history


def _through_a_file(layer):
    # How `copy.deepcopy` saves and loads it.
    load, (archive,) = layer.__reduce__()
    config = json.loads(zipfile.ZipFile(archive).read("config.json"))
    return load(archive), config


def _check_same_weights(copy, layer):
    """Raises `ValueError` where Keras lost some, which it may do in silence."""
    numbers = [
        [ops.convert_to_numpy(weight).tobytes() for weight in one.weights]
        for one in (layer, copy)
    ]
    if numbers[0] != numbers[1]:
        raise ValueError(
            f"Of {len(layer.weights)} weights saved, {len(copy.weights)} were "
            "loaded, or not all as they were."
        )


def _random_states(layer):
    weights = {id(variable) for variable in layer.weights}
    return [v for v in layer.variables if id(v) not in weights]
