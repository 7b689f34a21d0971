"""How many weights change sides from one mask to the next."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from mpt_keras.analysis.comparison import compare_masks

TOTAL = "total"


def mask_churn(
    masks: Sequence[Mapping[str, np.ndarray]],
) -> dict[str, list[float]]:
    """Returns the fraction of each layer's mask that every step changed.

    With masks `m_0, m_1, ...` of a layer of `n` weights, the numbers are
    `sum(m_t != m_{t-1}) / n` for t = 1, 2, ...: what the callback
    `mpt_keras.callbacks.MaskChurn` logs while a model trains, here of masks
    that were kept, such as those of a checkpoint per epoch.

    Args:
        masks: Two or more dictionaries, name -> boolean array, as of
            `masks_of` or `read_masks`, in order.

    Returns:
        Dictionary, name of the layer -> list of fractions in [0, 1], one less
        than there are masks; "total" is of all weights together. `draw_churn`
        draws it.

    Raises:
        ValueError: If there are fewer than two, or they do not belong to the
            same network.

    Example:

    >>> first = {"last": np.array([True, True, False, False])}
    >>> second = {"last": np.array([True, False, True, False])}
    >>> mpt_keras.analysis.mask_churn([first, second, second])
    {'last': [0.5, 0.0], 'total': [0.5, 0.0]}
    """
    if len(masks) < 2:
        raise ValueError(
            "Invalid value for argument `masks`. Expected two or more, in the "
            f"order in which they were found. Received: {len(masks)}"
        )
    found = {}
    for before, after in itertools.pairwise(masks):
        comparison = compare_masks(before, after)
        rows = {row.name: row for row in comparison.layers}
        for name, row in {**rows, TOTAL: comparison.total}.items():
            changed = row.hamming / max(row.weights, 1)
            found.setdefault(name, []).append(changed)
    return found
