"""A call of a layer, and the operations that come of it."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from mpt_keras.runtime.errors import UnsupportedLayerError
from mpt_keras.runtime.graph import Layer, in_order, read_layer
from mpt_keras.runtime.operations import (
    FLOAT,
    SIGN,
    Elementwise,
    Gather,
    Operation,
    Steps,
    Value,
)
from mpt_keras.runtime.tensors import Tensor, to_planes
from mpt_keras.runtime.weights import Kernel, Weights

# Entries of a value; as many as the inputs of models in tickets may have.
_LARGEST = 2**27


@dataclasses.dataclass(frozen=True, eq=False)
class Unfinished:
    """What no operation computes, and is part of a sign or of a max pool.

    Keras' `sign(x)` is 0 for 0; `sign(sign(x) + 0.5)` is the sign of a bit. A
    max pool does not see a padding with `-inf`.

    Attributes:
        what: What it is of a tensor: `"sign"`, `"lifted sign"`, `"is NaN"`,
            `"below 0"`, `"from 0"`, `"padding with -inf"`.
        of: The `Tensor`; of a padding, with zeros in its place.
    """

    what: str
    of: Tensor


@dataclasses.dataclass(frozen=True)
class Rule:
    """How calls of a kind of layer become operations.

    Attributes:
        lower: Function of a `Call`, returns a `Tensor` (or `Unfinished`).
        settings: Names in the layer's configuration that `lower` knows.
            Others must be None, or change nothing of what is predicted.
        takes_unfinished: Whether an input may be `Unfinished`.
        is_random: Whether it does nothing but in training, where it is told
            so by an argument.
    """

    lower: Callable[["Call"], "Tensor | Unfinished"]
    settings: frozenset[str] = frozenset()
    takes_unfinished: bool = False
    is_random: bool = False


class Operations:
    """Takes operations in order."""

    def __init__(self) -> None:
        self.done: list[Operation] = []
        self._planes: dict[tuple[Tensor, bool], Value] = {}

    def add(
        self,
        operation: type[Operation],
        layer: str,
        inputs: Sequence[Value],
        shape: tuple[int, int, int],
        kind: str = FLOAT,
        **fields: Any,
    ) -> Value:
        """Adds an operation, and returns its output."""
        output = Value(tuple(int(size) for size in shape), kind)
        self.done.append(operation(layer, tuple(inputs), output, **fields))
        return output

    def floats(self, layer: str, value: Value) -> Value:
        """A value as float32 numbers, -1 and +1 for signs."""
        if value.kind == FLOAT:
            return value
        return self.add(Elementwise, layer, [value], value.shape, steps=Steps())

    def planes(self, layer: str, tensor: Tensor, channels_first: bool) -> Value:
        """A tensor of at most three axes as planes.

        Args:
            layer: Name, for messages.
            tensor: `Tensor`.
            channels_first: Which of its axes is the channels'.
        """
        has_format = (
            len(tensor.shape) == 1 or tensor.channels_first == channels_first
        )
        if tensor.places is None and has_format:
            return tensor.value
        key = tensor, channels_first
        if key not in self._planes:
            self._planes[key] = self._gathered(layer, tensor, channels_first)
        return self._planes[key]

    def _gathered(self, layer, tensor, channels_first):
        value = tensor.value
        places = to_planes(tensor.all_places, channels_first)
        same = np.arange(value.size).reshape(value.shape)
        if np.array_equal(places, same):
            return value
        if places.min(initial=0) < 0:
            value = self.floats(layer, value)
        return self.add(
            Gather,
            layer,
            [value],
            places.shape,
            value.kind,
            index=np.ascontiguousarray(places, "int32"),
        )


class Call:
    """One call of a layer: what it is called with, and what rules need.

    Attributes:
        layer: `Layer`.
        config: Its configuration.
        args: What it is called with, a `Tensor` (or `Unfinished`) where
            Keras has a tensor.
        kwargs: Dictionary, as well.
        inputs: The tensors among these, in order.
    """

    def __init__(
        self,
        layer: Layer,
        args: Sequence[Any],
        kwargs: dict,
        operations: Operations,
        weights: Weights,
        apply: Callable[..., "Tensor | Unfinished"],
    ) -> None:
        self.layer = layer
        self.config = layer.config
        self.args = args
        self.kwargs = kwargs
        self.inputs = tensors((args, kwargs))
        self._operations = operations
        self._weights = weights
        self._apply = apply

    @property
    def tensor(self) -> Tensor:
        """The only input."""
        if len(self.inputs) != 1:
            self.refuse(f"{len(self.inputs)} inputs")
        return self.inputs[0]

    def check_size(self, *sizes: int) -> None:
        """Refuses what has so many entries that no layer makes them."""
        if min(sizes) < 0 or math.prod(sizes) > _LARGEST:
            self.refuse(f"a result of {sizes} entries")

    @property
    def channels_first(self) -> bool:
        """What `data_format` says."""
        data_format = self.config["data_format"]
        if data_format not in ("channels_first", "channels_last"):
            self.refuse(f"data_format={data_format!r}")
        return data_format == "channels_first"

    def refuse(self, what: str) -> NoReturn:
        """Raises `UnsupportedLayerError` naming the layer and `what`."""
        raise refusal(self.layer, what)

    def apply(self, entry: dict, tensor: Tensor) -> "Tensor | Unfinished":
        """Calls a layer that is part of this one, as it is serialized."""
        return self._apply(read_layer(entry, self.layer.path), (tensor,), {})

    def add(
        self,
        operation: type[Operation],
        inputs: Sequence[Value],
        shape: tuple[int, int, int],
        kind: str = FLOAT,
        **fields: Any,
    ) -> Value:
        """Adds an operation, and returns its output."""
        if min(shape) < 1:
            self.refuse(f"an output without entries, {tuple(shape)}")
        self.check_size(*shape)
        return self._operations.add(
            operation, self.layer.path, inputs, shape, kind, **fields
        )

    def floats(self, value: Value) -> Value:
        """A value as float32 numbers."""
        return self._operations.floats(self.layer.path, value)

    def planes(self, tensor: Tensor, channels_first: bool) -> Value:
        """A tensor as planes."""
        if not 1 <= len(tensor.shape) <= 3:
            self.refuse(f"a tensor of the shape {(None, *tensor.shape)}")
        return self._operations.planes(self.layer.path, tensor, channels_first)

    def entries(
        self, tensor: Tensor, function: Callable[[Value], Value]
    ) -> Tensor:
        """What a function of single entries gives.

        Args:
            tensor: `Tensor`.
            function: Adds operations for a value; the same for each entry.
        """
        places = tensor.places
        if places is not None:
            moves_only = places.min(initial=0) >= 0
            if not moves_only or tensor.size < tensor.value.size:
                first = tensor.channels_first
                value = self.planes(tensor, first)
                return Tensor(function(value), tensor.shape, first)
        return dataclasses.replace(tensor, value=function(tensor.value))

    def steps(
        self, tensor: Tensor, channels_first: bool | None = None, **fields: Any
    ) -> Tensor:
        """`Steps` of each entry.

        Args:
            tensor: `Tensor`.
            channels_first: Which axis is the channels', for arrays of one
                number for each; None where all are numbers.
            **fields: Those of `Steps`.
        """

        def stepped(value):
            channels = value.shape[0]
            for name in fields.keys() & {"scale", "offset"}:
                number = np.float32(fields[name])
                fields[name] = np.broadcast_to(number, (channels,)).copy()
            return self.add(
                Elementwise, [value], value.shape, steps=Steps(**fields)
            )

        if channels_first is None:
            return self.entries(tensor, stepped)
        value = self.planes(tensor, channels_first)
        return Tensor(stepped(value), tensor.shape, channels_first)

    def sign(self, tensor: Tensor) -> Tensor:
        """`+1 if v >= 0 else -1` of each entry."""

        def signs(value):
            if value.kind == SIGN:
                return value
            return self.add(
                Elementwise, [value], value.shape, SIGN, steps=Steps()
            )

        return self.entries(tensor, signs)

    def variable(self, name: str, *shape: int) -> np.ndarray:
        """A weight of the layer that is no kernel."""
        return self._weights.variable(self.layer, name, shape)

    def kernel(self, name: str, *shape: int) -> Kernel:
        """A kernel of the layer."""
        return self._weights.kernel(self.layer, name, shape)

    def channel_axis(self, tensor: Tensor, axis: int) -> bool:
        """Whether an axis is the channels' if they come first, or refuses.

        Args:
            tensor: `Tensor`.
            axis: Keras' number of an axis, the batch's is 0.
        """
        rank = len(tensor.shape)
        axis = axis % (rank + 1)
        if axis == rank:
            return False
        if axis == 1:
            return True
        self.refuse(f"axis={axis} of {rank + 1}")


def check_arguments(layer: Layer, kwargs: dict, is_random: bool) -> dict:
    """What a layer is called with, without what changes nothing.

    Raises:
        UnsupportedLayerError: If it is called with a mask or as in training.
    """
    others = dict(kwargs)
    for name in ("mask", "training"):
        value = others.pop(name, None)
        is_told = name == "training" and is_random
        if not _is_nothing(value) and not is_told:
            raise refusal(layer, f"a call with an argument `{name}`")
    return others


def _is_nothing(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return all(map(_is_nothing, value))
    return value is None or value is False


def refusal(layer: Layer, what: str) -> UnsupportedLayerError:
    """What is raised for a layer that no rule computes."""
    return UnsupportedLayerError(
        f"Layer '{layer.path}' ({layer.kind}) cannot run here: {what} is not "
        "supported. Expected what mpt_keras.runtime computes. Other engines "
        "run the frozen model: mpt_keras.export(mpt_keras.freeze(model), "
        "path, format='onnx')."
    )


def tensors(value: Any) -> list:
    """The tensors in an argument, in order."""
    if isinstance(value, (Tensor, Unfinished)):
        return [value]
    if isinstance(value, dict):
        value = in_order(value)
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in tensors(item)]
    return []
