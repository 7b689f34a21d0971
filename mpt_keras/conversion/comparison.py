"""Whether two models predict the same."""

import warnings

import keras
import numpy as np
from keras import ops

from mpt_keras import compilation

_BATCH = 2
# For dimensions that a model leaves open: networks halve them several times,
# or have positions for so many steps only.
_SIZES = (32, 8)
_TOLERANCE = 1e-3


def check_predicts_the_same(frozen, model, holders):
    """Compares the predictions of a frozen model with those of its model.

    On random input of the shapes that the model was built for. Warns where it
    cannot be called on such.

    Raises:
        ValueError: If they differ.
    """
    try:
        inputs, expected = _first_answer(_random_inputs, model)
    except Exception as error:
        warnings.warn(
            f"The frozen '{model.name}' is not compared with its model, which "
            "cannot be called on random input. Compare what they predict for "
            f"a batch of yours. The model says: {error}",
            stacklevel=3,
        )
        return
    try:
        received = _predictions(frozen, inputs)
        same = len(expected) == len(received) and all(
            map(_are_the_same, received, expected)
        )
        found = "it predicts something else"
    except Exception as error:
        same, found = False, f"it fails: {error}"
    if same:
        return
    again = _predictions(model, inputs)
    if not all(map(_are_the_same, again, expected)):
        warnings.warn(
            f"'{model.name}' predicts something else each time, so its frozen "
            "form is not compared with it.",
            stacklevel=3,
        )
        return
    raise refusal(model, holders, found)


def difference(copy, layer):
    """Why a copy of a layer cannot stand for it, or None.

    On random input of the shapes that the layer was called with.
    """
    try:
        inputs, expected = _first_answer(_random_inputs_of_call, layer)
    except Exception as error:
        return f"it cannot be called on random input to compare: {error}"
    try:
        received = _predictions(copy, inputs)
    except Exception as error:
        return f"it fails with masked layers inside: {error}"
    same = len(expected) == len(received)
    if same and all(map(_are_the_same, received, expected)):
        return None
    return "it predicts something else with masked layers inside"


def _first_answer(random_inputs, model):
    """Random inputs of a size that the model takes, and its predictions."""
    for size in _SIZES:
        inputs = random_inputs(model, size)
        try:
            return inputs, _predictions(model, inputs)
        except Exception:
            if size == _SIZES[-1]:
                raise
    return None


def _random_inputs_of_call(layer, size):
    if not layer._inbound_nodes:
        return _random_inputs(layer, size)
    draw = np.random.default_rng(0)
    arguments = layer._inbound_nodes[0].arguments

    def value(given):
        if isinstance(given, keras.KerasTensor):
            return _random(draw, given.shape, size, given.dtype)
        return given

    kwargs = {k: v for k, v in arguments.kwargs.items() if k != "training"}
    return tuple(
        keras.tree.map_structure(value, given)
        for given in (arguments.args, kwargs)
    )


def refusal(model, holders, found):
    """The error for code that needs masked layers, or is lost in a copy."""
    return ValueError(
        f"Cannot freeze '{model.name}': with ordinary layers in place of the "
        f"masked ones, and copies of the others, {found}. Computing with code "
        f"that is not of Keras: {holders}. Expected code that calls its masked "
        "layers, and uses nothing else of theirs; and a `get_config` that says "
        "all that a layer computes with."
    )


def _random_inputs(model, size):
    """Positional and named arguments of a call."""
    draw = np.random.default_rng(0)
    if isinstance(model, (keras.Sequential, keras.Function)):
        is_sequential = isinstance(model, keras.Sequential)
        inputs = keras.tree.map_structure(
            lambda tensor: _random(draw, tensor.shape, size, tensor.dtype),
            model.inputs[0] if is_sequential else model.input,
        )
        return (inputs,), {}
    config = model.get_build_config()
    shapes = config.get("shapes_dict", {"": config.get("input_shape")})
    named = {
        name.removesuffix("_shape"): keras.tree.map_shape_structure(
            lambda shape: _random(draw, (None, *shape[1:]), size), shape
        )
        for name, shape in shapes.items()
    }
    return ((named.pop(""),) if "" in named else ()), named


def _random(draw, shape, size, dtype="float32"):
    batch, *shape = [*shape] or [None]
    shape = [batch or _BATCH, *(given or size for given in shape)]
    if dtype == "string":
        return ops.convert_to_tensor(np.full(shape, "a"))
    if "float" in dtype:
        # Whatever takes them for whole numbers takes them for 0.
        values = draw.uniform(-1, 1, shape)
    else:
        values = draw.integers(0, 2, shape)
    return ops.convert_to_tensor(values, dtype)


def _predictions(model, inputs):
    args, kwargs = inputs

    def call():
        with keras.StatelessScope():  # which keeps the model as it is
            return model(*args, **kwargs, training=False)

    # In a graph, as `predict` computes it: what is rounded is rounded alike.
    outputs = keras.tree.flatten(compilation.call_in_graph(call))
    return [
        np.asarray(ops.convert_to_numpy(output))
        for output in outputs
        if output is not None
    ]


def _are_the_same(received, expected):
    if received.shape != expected.shape or received.dtype != expected.dtype:
        return False
    if "float" not in str(received.dtype):  # bfloat16 is not NumPy's
        return np.array_equal(received, expected)
    received, expected = received.astype("float64"), expected.astype("float64")
    largest = np.abs(expected).max(initial=0.0, where=np.isfinite(expected))
    return np.allclose(
        received, expected, rtol=0, atol=_TOLERANCE * largest, equal_nan=True
    )
