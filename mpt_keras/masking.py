"""The masked kernel: forward from the mask, backward straight through it.

Pure functions of tensors. Layers hold the variables and call these.
"""

import functools
import math
import numbers
from typing import Any

import keras
from keras import ops

from mpt_keras import compilation, frozen_order, selection, sums

__all__ = ["gain", "masked_kernel"]


def gain(kernel: Any, mask: Any) -> Any:
    """Mean magnitude of the weights kept: `sum(|w| * mask) / sum(mask)`.

    The scale of the binary kernel that is closest to the masked one in least
    squares. The authors divide by `int(keep * n)`, which can be one less than
    the number of weights kept; this divides by the number kept.

    Args:
        kernel: Float tensor, the frozen random weights.
        mask: Boolean tensor of the same shape with at least one True.

    Returns:
        Scalar float32 tensor.

    Raises:
        ValueError: If the shapes differ.

    Example:

    >>> kernel = keras.ops.array([1.0, -3.0, 5.0])
    >>> mask = keras.ops.array([True, True, False])
    >>> float(mpt_keras.masking.gain(kernel, mask))
    2.0

    Reference:
        Diffenderfer and Kailkhura, ICLR 2021, algorithm 1 (`alpha`).
    """
    kernel, mask = map(ops.convert_to_tensor, (kernel, mask))
    if tuple(kernel.shape) != tuple(mask.shape):
        raise ValueError(
            "Kernel and mask must have the same shape. Received: "
            f"kernel.shape={tuple(kernel.shape)}, "
            f"mask.shape={tuple(mask.shape)}"
        )
    return _mean_kept(kernel, mask, _count(mask))


def masked_kernel(
    scores: Any, kernel: Any, kept: Any, binarize: bool = True
) -> Any:
    """Selects and (for biprop) binarises a kernel, with a gradient to scores.

    Forward, with `mask` true at the `kept` largest `|scores|`::

        binarize=True   gain * mask * sign(kernel)      (biprop)
        binarize=False  mask * kernel                   (edge-popup)

    Gradient, the same for both, pruned entries included; the gain counts as
    a constant and the kernel gets no gradient::

        dL/dscores = dL/doutput * kernel * sign(scores)

    Args:
        scores: Float tensor, variable or array, one score per weight; numbers
            of other types count as floats.
        kernel: The same of the same shape, the frozen random weights.
        kept: Integer or scalar int32 tensor, the number of weights kept, at
            least 1 and at most all.
        binarize: Whether the kept weights are reduced to sign and gain.

    Returns:
        Float tensor of the shape and dtype of `kernel`.

    Raises:
        ValueError: If the shapes of scores and kernel differ, or `kept` is no
            such number.

    Example:

    >>> scores = keras.ops.array([0.1, -0.9, 0.5])
    >>> kernel = keras.ops.array([1.0, -3.0, 5.0])
    >>> masked = mpt_keras.masking.masked_kernel(scores, kernel, kept=2)
    >>> keras.ops.convert_to_numpy(masked).tolist()
    [0.0, -4.0, 4.0]

    Reference:
        Diffenderfer and Kailkhura, "Multi-Prize Lottery Ticket Hypothesis",
        ICLR 2021; Ramanujan et al., "What's Hidden in a Randomly Weighted
        Neural Network?", CVPR 2020 (edge-popup).
    """
    scores, kernel = map(as_tensor, (scores, kernel))
    if tuple(scores.shape) != tuple(kernel.shape):
        raise ValueError(
            "Scores and kernel must have the same shape, one score per "
            f"weight. Received: scores.shape={tuple(scores.shape)}, "
            f"kernel.shape={tuple(kernel.shape)}"
        )

    if not ops.is_tensor(kept):
        kept = _checked_count(kept, math.prod(kernel.shape))
    kept = ops.convert_to_tensor(kept, "int32")
    return masked_kernel_near(scores, kernel, kept, binarize)[0]


def masked_kernel_near(scores, kernel, kept, binarize, guess=None, frozen=None):
    """`masked_kernel` of tensors, and the key of the threshold, to guess by.

    Args:
        scores, kernel, kept, binarize: As for `masked_kernel`.
        guess: Scalar int32 tensor, a key near the threshold's, or None.
        frozen: int8 tensor, as of `FrozenPart.positions`, or None.

    Returns:
        Float tensor like `kernel`; scalar int32 tensor.
    """
    compared = ops.stop_gradient(scores)
    if frozen is not None:
        compared = frozen_order.in_order(compared, frozen)
        # Which lets no gradient through.
        scores = ops.where(frozen == 0, scores, ops.zeros_like(scores))
    mask, key = selection.top_mask_near(compared, kept, guess)
    # Otherwise an eager tape would see the gain depend on the kernel.
    kernel = ops.stop_gradient(kernel)
    return _STRAIGHT_THROUGH[bool(binarize)](scores, kernel, mask, kept), key


def as_tensor(values):
    """The float tensor of a variable or an array, for gradients."""
    is_variable = isinstance(values, keras.Variable)
    if is_variable or not ops.is_tensor(values):
        values = ops.copy(values)
    dtype = keras.backend.standardize_dtype(values.dtype)
    if not keras.backend.is_float_dtype(dtype):
        return ops.cast(values, keras.config.floatx())
    return values


def _checked_count(kept, size):
    is_integer = isinstance(kept, numbers.Integral)
    if not is_integer or isinstance(kept, bool) or not 1 <= kept <= size:
        raise ValueError(
            "Invalid value for argument `kept`. Expected a number of weights, "
            f"an integer in [1, {size}]. Received: kept={kept!r}"
        )
    return int(kept)


def _masked(scores, kernel, mask, kept, binarize):
    del scores  # which the gradient is of
    if compilation.is_worth_compiling(kernel):
        compute, add_up = _fused_kept_values, compilation.add_up
    else:
        compute, add_up = _plain_kept_values, compilation.add_in_order
    return compute(kernel, mask, kept, binarize=binarize, add_up=add_up)


def _kept_values(kernel, mask, kept, binarize, add_up):
    if binarize:
        mean = _mean_kept(kernel, mask, kept, add_up)
        kernel = ops.sign(kernel) * ops.cast(mean, kernel.dtype)
    return ops.where(mask, kernel, ops.zeros_like(kernel))


def _pass_through(upstream, scores, kernel, *_):
    compiles = compilation.is_worth_compiling(kernel)
    compute = _fused_gradient if compiles else _gradient
    return compute(upstream, scores, kernel)


def _gradient(upstream, scores, kernel):
    return ops.cast(upstream * kernel, scores.dtype) * ops.sign(scores)


_fused_kept_values = compilation.fused(_kept_values)
_plain_kept_values = compilation.apart(_kept_values)
_fused_gradient = compilation.fused(_gradient)
_STRAIGHT_THROUGH = {
    binarize: compilation.with_gradient(
        functools.partial(_masked, binarize=binarize), _pass_through
    )
    for binarize in (True, False)
}


def _mean_kept(kernel, mask, kept, add_up=compilation.add_in_order):
    kernel, kept = ops.cast(kernel, "float32"), ops.cast(kept, "float32")
    return sums.mean_kept(kernel, mask, kept, ops, add_up)


def _count(mask):
    return ops.sum(ops.cast(mask, "int32"))
