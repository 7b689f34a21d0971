"""What a network computes, as a list of operations on planes.

Every value is an array of planes `(channels, height, width)` of one image;
vectors are `(units, 1, 1)`. Values are of two kinds: `"float"`, float32, and
`"sign"`, whose entries are -1 and +1 and take a bit each. What an operation
computes, its docstring says; `reference` computes it with NumPy, and `packing`
finds kernels and layouts for it.
"""

import dataclasses
import math

import numpy as np

FLOAT = "float"
SIGN = "sign"


@dataclasses.dataclass(frozen=True, eq=False)
class Value:
    """The result of an operation, or the input of the network.

    Attributes:
        shape: `(channels, height, width)`.
        kind: `FLOAT` or `SIGN`.
    """

    shape: tuple[int, int, int]
    kind: str = FLOAT

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    @property
    def pixels(self) -> int:
        """Entries of a plane."""
        return self.shape[1] * self.shape[2]


@dataclasses.dataclass(frozen=True, eq=False)
class Operation:
    """One step.

    Attributes:
        layer: Name of the layer that it comes from, for messages.
        inputs: Values.
        output: Value.
    """

    layer: str
    inputs: tuple[Value, ...]
    output: Value


@dataclasses.dataclass(frozen=True, eq=False)
class Window:
    """Where a convolution or a pool looks.

    Output `(y, x)` and tap `(i, j)` meet at input
    `(y * strides[0] + i * dilation[0] - before[0], ...)`. Outside there is
    nothing: zeros for a convolution, no value for a pool.

    Attributes:
        size: `(rows, columns)` of taps.
        strides, dilation: `(vertical, horizontal)`.
        before: `(rows, columns)` by which it begins outside. How far it ends
            outside follows from the output's shape.
    """

    size: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    before: tuple[int, int] = (0, 0)


@dataclasses.dataclass(frozen=True, eq=False)
class Rectifier:
    """`min(v, high)` above the threshold, else `slope * (v - threshold)`.

    Keras' `ReLU`. A slope of 0 makes 0 of infinities, too.

    Attributes:
        slope: Number, or float32 array with one for each channel.
        threshold: Number.
        high: Number, infinity for none.
    """

    slope: float | np.ndarray = 0.0
    threshold: float = 0.0
    high: float = math.inf


@dataclasses.dataclass(frozen=True, eq=False)
class Steps:
    """What happens to each entry `v` of channel `c`, in this order.

    1. `v <- v * scale[c]`, rounded to float32;
    2. `v <- v + offset[c]`, rounded to float32;
    3. the rectifier;
    4. where the operation's output is of kind `SIGN`: `+1 if v >= 0 else -1`.

    Attributes:
        scale, offset: Float32 arrays of one entry per channel, or None.
        rectifier: `Rectifier` or None.
    """

    scale: np.ndarray | None = None
    offset: np.ndarray | None = None
    rectifier: Rectifier | None = None

    @property
    def is_empty(self) -> bool:
        """Whether they leave every entry as it is."""
        return self.scale is self.offset is self.rectifier is None


@dataclasses.dataclass(frozen=True, eq=False)
class Convolution(Operation):
    """`steps(gain * sum over c, i, j of kernel[i, j, c, f] * input)`.

    A dense layer is one of a 1x1 window over `(units, 1, 1)`; a depthwise one
    has as many groups as the input has channels.

    Attributes:
        kernel: Array `(rows, columns, channels of a group, filters)`: int8 of
            -1, 0, +1, or float32.
        gain: Number by which the sum is multiplied once, rounded to float32.
        window: `Window`.
        groups: Filters `f` of group `g` see the channels of group `g`.
        steps: `Steps`.
    """

    kernel: np.ndarray
    gain: float
    window: Window
    groups: int = 1
    steps: Steps = Steps()

    @property
    def is_ternary(self) -> bool:
        """Whether the weights are -1, 0, +1."""
        return self.kernel.dtype == np.int8


@dataclasses.dataclass(frozen=True, eq=False)
class Threshold(Operation):
    """A convolution of signs with signs, compared with integers.

    With `n` the sum over `c, i, j` of `kernel * input`, an integer, the output
    is `+1 if n >= thresholds[f] else -1`. The input is of kind `SIGN`.

    Attributes:
        kernel: int8 array of -1, 0, +1, as for `Convolution`.
        window, groups: As for `Convolution`.
        thresholds: int32 array, one for each filter.
    """

    kernel: np.ndarray
    window: Window
    groups: int
    thresholds: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Pool(Operation):
    """The largest entry, or the mean of the entries, that a window sees.

    The input is of kind `FLOAT`; or, with `mean=False`, `SIGN`, and then the
    output is too, multiplied by -1 in the channels of `inverted`.

    Attributes:
        window: `Window`; entries outside do not count.
        mean: Whether it is the mean.
        inverted: Boolean array of one entry per channel, or None.
    """

    window: Window
    mean: bool = False
    inverted: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Elementwise(Operation):
    """`steps` of one value; also from signs to floats and back.

    Attributes:
        steps: `Steps`.
    """

    steps: Steps


@dataclasses.dataclass(frozen=True, eq=False)
class Merge(Operation):
    """Entry by entry, `steps` of what two values or more give.

    From left to right, in float32; signs count as -1 and +1.

    Attributes:
        how: `"add"`, `"subtract"`, `"multiply"`, `"maximum"`, `"minimum"`.
        steps: `Steps`; an average is a sum with a scale.
    """

    how: str
    steps: Steps = Steps()


@dataclasses.dataclass(frozen=True, eq=False)
class Concatenate(Operation):
    """The channels of all inputs, one after another; all of one kind."""


@dataclasses.dataclass(frozen=True, eq=False)
class Gather(Operation):
    """Entries of the input in another order or shape, and zeros.

    Attributes:
        index: int32 array of the output's shape: where an entry stands in the
            flat input; -1 for a zero (of a `FLOAT` value only).
    """

    index: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Softmax(Operation):
    """`exp(v - m) / sum over channels of exp(v - m)`, `m` the largest."""


FUNCTIONS = ("sigmoid", "tanh", "exp", "softplus", "silu", "elu", "gelu")


@dataclasses.dataclass(frozen=True, eq=False)
class Function(Operation):
    """A function of each entry.

    Attributes:
        name: One of `FUNCTIONS`; `"gelu"` is the exact one, by `erf`.
    """

    name: str


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """A network: its operations in the order in which they run.

    Attributes:
        name: The model's.
        input: `Value`, of kind `FLOAT`.
        output: `Value`, of kind `FLOAT`.
        input_shape, output_shape: Of one image, as Keras has them.
        input_channels_first, output_channels_first: Whether the channels come
            first in Keras' shapes as well.
        input_dtype: Of the images; `"uint8"` where Keras takes only these.
        operations: In order; each but the network's input is the output of
            one before.
    """

    name: str
    input: Value
    output: Value
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    input_channels_first: bool
    output_channels_first: bool
    operations: tuple[Operation, ...]
    input_dtype: str = "float32"
