"""Sums, products and the like of tensors, and of tensors and numbers."""

import numbers

import numpy as np

from mpt_keras.runtime.calls import Call, Rule, Unfinished
from mpt_keras.runtime.graph import in_order
from mpt_keras.runtime.operations import Merge, Rectifier, Steps
from mpt_keras.runtime.rules.activations import clipped
from mpt_keras.runtime.tensors import Tensor


def merged(
    call: Call, inputs: list[Tensor], how: str, scale: float | None = None
) -> Tensor:
    """Entry by entry; sizes of 1 are as large as the others."""
    rank = max(len(one.shape) for one in inputs)
    shapes = [(1,) * (rank - len(one.shape)) + one.shape for one in inputs]
    shape = np.broadcast_shapes(*shapes)
    alike = [one for one in inputs if one.shape == shape]
    first = (alike or inputs)[0].channels_first
    values = [
        call.planes(
            one if one.shape == shape else _as_large(one, own, shape), first
        )
        for one, own in zip(inputs, shapes, strict=True)
    ]
    value = values[0]
    steps = Steps()
    if scale is not None:
        steps = Steps(scale=np.full(value.shape[0], scale, "float32"))
    value = call.add(Merge, values, value.shape, how=how, steps=steps)
    return Tensor(value, shape, first)


def _as_large(tensor, own, shape):
    places = tensor.all_places.reshape(own)
    return tensor.at(np.broadcast_to(places, shape))


def _merge_layer(how):
    def lower(call):
        scale = None
        if call.layer.kind == "Average":
            scale = 1 / len(call.inputs)
        if how == "subtract" and len(call.inputs) != 2:
            call.refuse(f"{len(call.inputs)} inputs")
        return merged(call, call.inputs, how, scale)

    return Rule(lower)


def _operation(how):
    """Of two tensors, or of a tensor and a number."""

    def lower(call):
        one, other = _operands(call)
        if isinstance(one, Tensor) and isinstance(other, Tensor):
            if len(one.shape) != len(other.shape):
                call.refuse(
                    "inputs of the shapes "
                    f"{[(None, *x.shape) for x in (one, other)]}"
                )
            if how == "divide":
                call.refuse("a division by a tensor")
            return merged(call, [one, other], how)
        return _with_number(call, one, other, how)

    # A sign that is lifted off 0 is on its way to one of a bit.
    return Rule(lower, takes_unfinished=how == "add")


def _operands(call):
    operands = [*call.args, *in_order(call.kwargs)]
    if len(operands) != 2:
        call.refuse(f"{len(operands)} operands")
    return [
        float(operand)
        if isinstance(operand, (numbers.Real, np.ndarray))
        and np.ndim(operand) == 0
        else operand
        for operand in operands
    ]


def _with_number(call, one, other, how):
    is_swapped = isinstance(one, float)
    tensor, number = (other, one) if is_swapped else (one, other)
    if isinstance(tensor, Unfinished):
        is_number = isinstance(number, float)
        if tensor.what == "sign" and is_number and 0 < number < 1:
            return Unfinished("lifted sign", tensor.of)
        call.refuse(f"what it is called with, {tensor.what} of x,")
    if not isinstance(tensor, Tensor) or not isinstance(number, float):
        call.refuse("an array of numbers")
    if how == "add":
        return call.steps(tensor, offset=number)
    if how == "multiply":
        return call.steps(tensor, scale=number)
    if how == "subtract":
        if is_swapped:
            return call.steps(tensor, scale=-1.0, offset=number)
        return call.steps(tensor, offset=-number)
    if how == "divide" and not is_swapped and number:
        return call.steps(tensor, scale=1 / number)
    if how == "maximum" and number == 0:
        return call.steps(tensor, rectifier=Rectifier())
    call.refuse(f"{how} with {number}")


def _clip(call):
    low, high = call.config["x_min"], call.config["x_max"]
    if not all(isinstance(one, numbers.Real) for one in (low, high)):
        call.refuse(f"x_min={low!r} with x_max={high!r}")
    return clipped(call, call.tensor, float(low), float(high))


RULES = {
    "Add": _merge_layer("add"),
    "Average": _merge_layer("add"),
    "Subtract": _merge_layer("subtract"),
    "Multiply": _merge_layer("multiply"),
    "Maximum": _merge_layer("maximum"),
    "Minimum": _merge_layer("minimum"),
    "ops.Add": _operation("add"),
    "ops.Subtract": _operation("subtract"),
    "ops.Multiply": _operation("multiply"),
    "ops.Maximum": _operation("maximum"),
    "ops.Minimum": _operation("minimum"),
    "ops.TrueDivide": _operation("divide"),
    "ops.Divide": _operation("divide"),
    "ops.Negative": Rule(lambda call: call.steps(call.tensor, scale=-1.0)),
    "ops.Clip": Rule(_clip, frozenset({"x_min", "x_max"})),
}
