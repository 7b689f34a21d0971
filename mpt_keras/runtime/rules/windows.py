"""Windows over planes, and their padding as Keras has it."""

from collections.abc import Sequence

from mpt_keras.runtime.calls import Call
from mpt_keras.runtime.operations import Value, Window
from mpt_keras.runtime.tensors import Tensor, padding_of, to_planes


def pair(numbers: Sequence[int], before: int = 1) -> tuple[int, int]:
    """One number for each of two axes; of one axis, it is the horizontal."""
    numbers = [int(number) for number in numbers]
    first, second = numbers if len(numbers) == 2 else (before, *numbers)
    return first, second


_LARGEST = 2**16


def check_positive(*numbers: int) -> None:
    """Raises `ValueError` for sizes and steps that no window has."""
    if not 1 <= min(numbers) <= max(numbers) <= _LARGEST:
        raise ValueError(
            f"Expected positive numbers up to {_LARGEST}. Received: {numbers}"
        )


def place_window(
    padding: str,
    size: tuple[int, int],
    *,
    taps: tuple[int, int],
    strides: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
    zeros: tuple[int, int] = (0, 0),
) -> tuple[Window, tuple[int, int]]:
    """A window as `padding` places it, and the size of the output.

    Args:
        padding: `"valid"`, `"same"` or `"causal"`.
        size: Height and width of the input, the zeros around it included.
        taps, strides, dilation: Of the window.
        zeros: How many of these stand above and to the left.
    """
    check_positive(*taps, *strides, *dilation)
    before, out = [], []
    for n, k, stride, step, zero in zip(
        size, taps, strides, dilation, zeros, strict=True
    ):
        reach = (k - 1) * step + 1
        if padding == "same":
            count = -(-n // stride)
            outside = max((count - 1) * stride + reach - n, 0) // 2
        else:
            outside = reach - 1 if padding == "causal" else 0
            count = (n + outside - reach) // stride + 1
        before.append(outside + zero)
        out.append(count)
    window = Window(taps, strides, dilation, (before[0], before[1]))
    return window, (out[0], out[1])


def without_zeros(
    call: Call, tensor: Tensor, channels_first: bool
) -> tuple[Value, tuple[int, int], tuple[int, int]]:
    """A tensor in planes, without the zeros that a padding put around it.

    Returns:
        Value; height and width with the zeros; how many of these stand above
        and to the left.
    """
    if tensor.places is not None and 2 <= len(tensor.shape) <= 3:
        places = to_planes(tensor.places, channels_first)
        zeros = padding_of(places, tensor.value.shape)
        if zeros is not None:
            return tensor.value, places.shape[1:], zeros
    value = call.planes(tensor, channels_first)
    return value, value.shape[1:], (0, 0)
