"""Which weights are pruned: pure functions of arrays.

Masks and weights are dictionaries from the name of a kernel, as
`mpt_keras.layers.ordinary.ordinary_kernels` gives it, to a NumPy array.
"""

import math
import warnings
from collections.abc import Mapping

import numpy as np

from mpt_keras import value_checks
from mpt_keras.sparsity import pruned_count

SCOPES = ("layer", "global")


def magnitude_masks(
    weights: Mapping[str, np.ndarray],
    sparsity: float | Mapping[str, float],
    before: Mapping[str, np.ndarray] | None = None,
    scope: str = "layer",
) -> dict[str, np.ndarray]:
    """Returns masks that keep the weights of largest magnitude, exactly.

    `floor(sparsity * n)` of `n` weights are pruned: first those that were
    pruned before, then those of smallest magnitude, ties by position.

    Args:
        weights: Name -> float array.
        sparsity: Number in [0, 1), the fraction of weights pruned; or, for
            `scope="layer"`, a dictionary from names to such numbers.
        before: Masks of an earlier round, or None.
        scope: `"layer"`, or `"global"` for all kernels as if they were one.

    Returns:
        Name -> boolean array, True at the weights kept.

    Raises:
        ValueError: If a sparsity is outside [0, 1) or less than what was
            pruned before, a weight is NaN, or `before` has other names or
            shapes.

    Example:

    >>> weights = {"hidden": np.array([0.1, -3.0, 2.0, -0.2])}
    >>> mpt_keras.lottery.magnitude_masks(weights, 0.5)
    {'hidden': array([False,  True,  True, False])}
    """
    check_scope(scope)
    if scope == "global":
        total = sum(np.size(values) for values in weights.values())
        return smallest_pruned_together(
            weights, pruned_count(sparsity, total), before
        )
    if not isinstance(sparsity, Mapping):
        sparsity = dict.fromkeys(weights, sparsity)
    pruned = {
        name: pruned_count(sparsity[name], np.size(values))
        for name, values in weights.items()
    }
    return smallest_pruned(weights, pruned, before)


def random_masks(
    masks: Mapping[str, np.ndarray], seed: int, scope: str = "layer"
) -> dict[str, np.ndarray]:
    """Returns masks that keep as many weights, at random places.

    The control that tells what the places are worth.

    Args:
        masks: Name -> boolean array.
        seed: Integer from 0 on.
        scope: `"layer"`: as many per kernel; `"global"`: as many in all.

    Example:

    >>> masks = {"hidden": np.arange(100) < 20}
    >>> shuffled = mpt_keras.lottery.random_masks(masks, seed=0)
    >>> int(shuffled["hidden"].sum())
    20

    Reference:
        Frankle and Carbin, ICLR 2019.
    """
    check_scope(scope)
    if scope == "global":
        together = np.concatenate([mask.ravel() for mask in masks.values()])
        return _split(_shuffled(together, (seed, 0)), masks)
    return {
        name: _shuffled(mask, (seed, number))
        for number, (name, mask) in enumerate(masks.items())
    }


def check_fit(masks, shapes):
    """Raises `ValueError` unless there is one boolean mask per kernel.

    Args:
        masks: Name -> boolean array.
        shapes: Name of a kernel -> its shape.
    """
    wrong = [f"no kernel '{name}'" for name in masks.keys() - shapes.keys()]
    wrong += [f"no mask '{name}'" for name in shapes.keys() - masks.keys()]
    for name in masks.keys() & shapes.keys():
        mask, shape = np.asarray(masks[name]), tuple(shapes[name])
        if mask.dtype != bool or mask.shape != shape:
            wrong.append(
                f"'{name}' is {mask.dtype} of shape {mask.shape} for a kernel "
                f"of shape {shape}"
            )
    if wrong:
        raise ValueError(
            "The masks do not fit the kernels. Expected a boolean array of "
            f"each kernel's shape, by its name. Received: {'; '.join(wrong)}"
        )


def check_scope(scope):
    if scope not in SCOPES:
        raise ValueError(
            "Invalid value for argument `scope`. Expected 'layer' or "
            f"'global'. Received: scope={scope!r}"
        )


def smallest_pruned(weights, pruned, before):
    """Masks of kernels that are pruned one by one, name -> count."""
    return {
        name: _largest(magnitude, pruned[name], f" ('{name}')")
        for name, magnitude in _magnitudes(weights, before).items()
    }


def smallest_pruned_together(weights, pruned, before):
    """Masks of kernels of which a number of weights is pruned in all."""
    magnitudes = _magnitudes(weights, before)
    together = np.concatenate([m.ravel() for m in magnitudes.values()])
    masks = _split(_largest(together, pruned), weights)
    for name, mask in masks.items():
        if not mask.any():
            warnings.warn(
                f"No weight of '{name}' is left at a global sparsity of "
                f"{pruned / together.size:.4g}: nothing passes it any more. "
                "Prune less, or layer by layer.",
                stacklevel=4,
            )
    return masks


def _magnitudes(weights, before):
    """Absolute values, and -1 for what is pruned already."""
    if before is not None:
        check_fit(before, {k: w.shape for k, w in weights.items()})
    for name, values in weights.items():
        value_checks.check_no_nan(values, f" in '{name}'", what="weights")
    magnitudes = {}
    for name, values in weights.items():
        magnitude = np.abs(np.asarray(values, "float32"))
        # Below all others, so that they are the first to be pruned.
        alive = True if before is None else before[name]
        magnitudes[name] = np.where(alive, magnitude, -1.0)
    return magnitudes


def _largest(magnitudes, pruned, where=""):
    """Mask of all but the smallest, of which `pruned` are pruned."""
    gone = int(np.count_nonzero(magnitudes < 0))
    if gone > pruned:
        raise ValueError(
            f"A sparsity of {pruned / magnitudes.size:.6g}{where} prunes "
            f"{pruned} of {magnitudes.size} weights, but {gone} are pruned "
            "already. Expected no less than before, because what is pruned "
            "stays so."
        )
    order = np.argsort(magnitudes, axis=None, kind="stable")
    mask = np.ones(magnitudes.size, bool)
    mask[order[:pruned]] = False
    return mask.reshape(magnitudes.shape)


def _shuffled(mask, seed):
    key = np.random.SeedSequence(seed).generate_state(2, "uint64")
    raw = np.random.Philox(key=key).random_raw(mask.size)
    order = np.argsort(raw, kind="stable")
    return mask.ravel()[order].reshape(mask.shape)


def _split(together, like):
    ends = np.cumsum([math.prod(array.shape) for array in like.values()])
    parts = np.split(together, ends[:-1])
    return {
        name: part.reshape(array.shape)
        for (name, array), part in zip(like.items(), parts, strict=True)
    }
