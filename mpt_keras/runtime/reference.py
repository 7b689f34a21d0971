"""Every operation of a plan with NumPy: slow, plain, and the oracle."""

import math

import numpy as np

from mpt_keras.runtime.operations import (
    SIGN,
    Concatenate,
    Convolution,
    Elementwise,
    Function,
    Gather,
    Merge,
    Operation,
    Plan,
    Pool,
    Softmax,
    Steps,
    Threshold,
    Value,
    Window,
)


def run(plan: Plan, planes: np.ndarray) -> np.ndarray:
    """What a plan gives for one image.

    Args:
        plan: `Plan`.
        planes: Float32 array of `plan.input.shape`.

    Returns:
        Float32 array of `plan.output.shape`.
    """
    return run_all(plan, planes)[plan.output]


def run_all(plan: Plan, planes: np.ndarray) -> dict[Value, np.ndarray]:
    """Every value of a plan; signs are int8 arrays of -1 and +1."""
    values = {plan.input: planes}
    with np.errstate(all="ignore"):  # infinities and NaN are values, too
        for operation in plan.operations:
            inputs = [values[value] for value in operation.inputs]
            values[operation.output] = evaluate(operation, *inputs)
    return values


def evaluate(operation: Operation, *inputs: np.ndarray) -> np.ndarray:
    """What one operation gives.

    Args:
        operation: `Operation`.
        inputs: Its inputs, float32 arrays, or int8 arrays of -1 and +1.
    """
    output = operation.output
    match operation:
        case Threshold():
            counts = _convolved(operation, inputs[0].astype("int64"))
            thresholds = operation.thresholds[:, None, None]
            return _signs(counts - thresholds)
        case Convolution():
            values = _product(operation, *inputs)
            return apply_steps(operation.steps, values, output)
        case Pool():
            return _pooled(operation, *inputs)
        case Elementwise():
            values = inputs[0].astype("float32")
            return apply_steps(operation.steps, values, output)
        case Merge():
            values = _merged(operation.how, inputs)
            return apply_steps(operation.steps, values, output)
        case Concatenate():
            return np.concatenate(inputs)
        case Gather():
            flat = np.append(inputs[0].ravel(), inputs[0].dtype.type(0))
            return flat[operation.index]
        case Softmax():
            powers = np.exp(inputs[0] - inputs[0].max(0))
            return powers / powers.sum(0)
        case Function():
            return _FUNCTIONS[operation.name](inputs[0]).astype("float32")
    raise TypeError(f"Expected an operation. Received: {operation!r}")


def _signs(values):
    return np.where(values >= 0, np.int8(1), np.int8(-1))


def apply_steps(steps: Steps, values: np.ndarray, output: Value) -> np.ndarray:
    """What steps make of float32 values of an operation with this output."""

    def each(numbers):
        return np.asarray(numbers, "float32").reshape(-1, 1, 1)

    if steps.scale is not None:
        values = values * each(steps.scale)
    if steps.offset is not None:
        values = values + each(steps.offset)
    rectifier = steps.rectifier
    if rectifier is not None:
        threshold = np.float32(rectifier.threshold)
        slope = each(rectifier.slope)
        below = slope * np.where(slope == 0, np.float32(0), values - threshold)
        values = np.where(values <= threshold, below, values)
        values = np.minimum(values, np.float32(rectifier.high))
    return _signs(values) if output.kind == SIGN else values


def _product(operation: Convolution, values):
    exact = "float64" if values.dtype == np.float32 else "int64"
    if not operation.is_ternary:
        exact = "float64"
    total = _convolved(operation, values.astype(exact))
    return total.astype("float32") * np.float32(operation.gain)


def _convolved(operation, values):
    """Sums in the type of `values`, `(filters, rows, columns)`."""
    kernel = operation.kernel.astype(values.dtype)
    filters = kernel.shape[-1] // operation.groups
    groups = np.split(values, operation.groups)
    kernels = [
        kernel[..., group * filters : (group + 1) * filters]
        for group in range(operation.groups)
    ]
    size = operation.output.shape[1:]
    return np.concatenate(
        [
            np.einsum(
                "chwij,ijcf->fhw",
                _windows(group, operation.window, size, 0),
                part,
                optimize=True,
            )
            for group, part in zip(groups, kernels, strict=True)
        ]
    )


def _windows(values, window: Window, size, outside):
    """`(channels, rows, columns, *taps)`: what each window sees."""
    channels, height, width = values.shape
    last = [
        (count - 1) * stride + (taps - 1) * dilation + 1
        for count, stride, taps, dilation in zip(
            size, window.strides, window.size, window.dilation, strict=True
        )
    ]
    top, left = window.before
    rows, columns = max(last[0], top + height), max(last[1], left + width)
    padded = np.full((channels, rows, columns), outside, values.dtype)
    padded[:, top : top + height, left : left + width] = values
    channel, row, column = padded.strides
    return np.lib.stride_tricks.as_strided(
        padded,
        (channels, *size, *window.size),
        (
            channel,
            row * window.strides[0],
            column * window.strides[1],
            row * window.dilation[0],
            column * window.dilation[1],
        ),
        writeable=False,
    )


def _pooled(operation: Pool, values):
    size = operation.output.shape[1:]
    if operation.mean:
        seen = _windows(values, operation.window, size, 0)
        inside = np.ones((1, *values.shape[1:]), "float32")
        count = _windows(inside, operation.window, size, 0).sum((-2, -1))
        return (seen.sum((-2, -1), dtype="float64") / count).astype("float32")
    least = -1 if values.dtype == np.int8 else -math.inf
    largest = _windows(values, operation.window, size, least).max((-2, -1))
    if operation.inverted is not None:
        largest[operation.inverted] *= -1
    return largest


def _merged(how, inputs):
    function = {
        "add": np.add,
        "subtract": np.subtract,
        "multiply": np.multiply,
        "maximum": np.maximum,
        "minimum": np.minimum,
    }[how]
    total, *others = (values.astype("float32") for values in inputs)
    for other in others:
        total = function(total, other)
    return total


def _logistic(v):
    return 1 / (1 + np.exp(-v.astype("float64")))


_FUNCTIONS = {
    "sigmoid": _logistic,
    "tanh": np.tanh,
    "exp": np.exp,
    "softplus": lambda v: np.logaddexp(0, v),
    "silu": lambda v: v * _logistic(v),
    "elu": lambda v: np.where(v > 0, v, np.expm1(np.minimum(v, 0))),
    "gelu": lambda v: v * (1 + np.vectorize(math.erf)(v / math.sqrt(2))) / 2,
}
