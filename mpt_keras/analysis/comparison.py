"""How much two tickets agree, layer by layer, beside what chance would give.

Two masks that keep a fraction `k` of the weights each and know nothing of each
other still agree on `k^2 + (1 - k)^2` of them, and share `k / (2 - k)` of what
either keeps. A figure means something only beside that level.
"""

import dataclasses
import warnings
from collections.abc import Mapping

import numpy as np

from mpt_keras.analysis.masks import check_masks

_COLUMNS = (
    *("layer", "weights", "kept 1st %", "kept 2nd %", "differ"),
    *("agree %", "chance", "Jaccard %", "chance"),
)


@dataclasses.dataclass(frozen=True)
class LayerComparison:
    """Two masks of one layer, or of all layers together.

    With `n` weights, `a` and `b` of them kept and `i` kept in both:

        hamming   = a + b - 2 i
        agreement = 1 - hamming / n
        jaccard   = i / (a + b - i)

    By chance the same, with `i = a b / n` for a layer and the sum of the
    layers' for the total, so that layers of different sparsities do not look
    like agreement. Where both masks keep nothing, `jaccard` is 1.
    """

    name: str
    weights: int
    kept_first: int
    kept_second: int
    kept_in_both: int
    kept_in_both_by_chance: float

    @property
    def agreement(self) -> float:
        """Fraction of the weights that both masks keep or both prune."""
        return self._agreement(self.kept_in_both)

    @property
    def jaccard(self) -> float:
        """Weights kept in both, as a fraction of those kept in either."""
        return self._jaccard(self.kept_in_both)

    @property
    def hamming(self) -> int:
        """Number of weights that only one of the masks keeps."""
        return self._hamming(self.kept_in_both)

    @property
    def agreement_by_chance(self) -> float:
        """The expected one of independent masks that keep as many."""
        return self._agreement(self.kept_in_both_by_chance)

    @property
    def jaccard_by_chance(self) -> float:
        """Expected intersection by expected union of independent masks."""
        return self._jaccard(self.kept_in_both_by_chance)

    @property
    def hamming_by_chance(self) -> float:
        """The expected one of independent masks that keep as many."""
        return self._hamming(self.kept_in_both_by_chance)

    def _hamming(self, both):
        return self.kept_first + self.kept_second - 2 * both

    def _agreement(self, both):
        return 1.0 - self._hamming(both) / self.weights if self.weights else 1.0

    def _jaccard(self, both):
        either = self.kept_first + self.kept_second - both
        return both / either if either else 1.0


@dataclasses.dataclass(frozen=True)
class MaskComparison:
    """Two tickets: a `LayerComparison` per layer, and their total."""

    layers: tuple[LayerComparison, ...]
    total: LayerComparison

    def table(self) -> list[tuple[str, ...]]:
        """Returns rows of text, the first the names of the columns."""
        return [_COLUMNS] + [
            (
                row.name,
                f"{row.weights:,}",
                percent(row.kept_first / max(row.weights, 1)),
                percent(row.kept_second / max(row.weights, 1)),
                f"{row.hamming:,}",
                percent(row.agreement),
                percent(row.agreement_by_chance),
                percent(row.jaccard),
                percent(row.jaccard_by_chance),
            )
            for row in (*self.layers, self.total)
        ]


def compare_masks(
    first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]
) -> MaskComparison:
    """Compares two tickets' masks layer by layer.

    Layers are matched by name. Where names differ and the shapes agree in
    their order, as of two instances of one model without names, they are
    matched by position, with a warning. There is another where both are known
    (`masks_of`, `read_masks`) to lie over different random kernels: then what
    they have in common says nothing.

    Args:
        first: Dictionary, name -> boolean array, as of `masks_of`.
        second: One of the same names and shapes, or of the same shapes.

    Returns:
        `MaskComparison`, with the names of the first.

    Raises:
        ValueError: If names and shapes differ, a mask is no boolean array, or
            there is none.

    Example:

    >>> first = {"last": np.array([True, True, False, False])}
    >>> second = {"last": np.array([True, False, True, False])}
    >>> total = mpt_keras.analysis.compare_masks(first, second).total
    >>> total.agreement, total.agreement_by_chance
    (0.5, 0.5)
    >>> f"{total.jaccard:.4f}, {total.jaccard_by_chance:.4f}"
    '0.3333, 0.3333'

    Reference:
        Gorbett and Whitley, "Randomly Initialized Subnetworks with Iterative
        Weight Recycling", 2023. (In the tables published with its code the
        total Jaccard index is `i / (i + union)`; here it is `i / union`.)
    """
    return compare_matched(*matched({"the first": first, "the second": second}))


def matched(tickets):
    """Returns the masks of tickets, all by the names of the first.

    Args:
        tickets: What a ticket is called -> its masks.

    Raises:
        ValueError: Unless all are masks of one architecture.
    """
    for masks in tickets.values():
        check_masks(masks)
    (first_label, first), *others = tickets.items()
    found, by_position = [first], []
    for label, masks in others:
        if masks.keys() != first.keys() and _shapes(masks) == _shapes(first):
            masks = dict(zip(first, masks.values(), strict=True))
            by_position.append(label)
        _check_same_architecture(first_label, first, label, masks)
        found.append(masks)
    if by_position:
        warnings.warn(
            f"The layers of {first_label} and {', '.join(by_position)} have "
            "other names. They are compared by position, because their shapes "
            "agree.",
            stacklevel=3,
        )
    _warn_of_different_kernels(tickets)
    return found


def compare_matched(first, second):
    """`MaskComparison` of masks of the same names and shapes."""
    layers = tuple(
        _compare_layer(name, mask, second[name]) for name, mask in first.items()
    )
    counts = {
        field.name: sum(getattr(layer, field.name) for layer in layers)
        for field in dataclasses.fields(LayerComparison)
        if field.name != "name"
    }
    return MaskComparison(layers, LayerComparison("total", **counts))


def _shapes(masks):
    return [mask.shape for mask in masks.values()]


def _check_same_architecture(first_label, first, second_label, second):
    unshared = sorted(first.keys() ^ second.keys())
    if unshared:
        raise ValueError(
            f"Cannot compare {first_label} with {second_label}: only one of "
            f"them has the layers {unshared}. Expected masks of the same "
            "architecture."
        )
    for name, mask in first.items():
        if mask.shape != second[name].shape:
            raise ValueError(
                f"Cannot compare {first_label} with {second_label}: layer "
                f"'{name}' has the shape {mask.shape} in one and "
                f"{second[name].shape} in the other. Expected masks of the "
                "same architecture."
            )


def _warn_of_different_kernels(tickets):
    kernels = {k: getattr(m, "kernels", None) for k, m in tickets.items()}
    known = [label for label in kernels if kernels[label]]
    different = [k for k in known if kernels[k] != kernels[known[0]]]
    if different:
        warnings.warn(
            f"The masks of {known[0]} and {', '.join(different)} lie over "
            "different random kernels, so that what they have in common says "
            "nothing. Compare searches of one random network: `kernel_seed=0, "
            "seed=1` in mpt_keras.models.",
            stacklevel=4,
        )


def percent(fraction):
    """A fraction in words, the unit in the name of the column."""
    return f"{100 * fraction:.2f}"


def _compare_layer(name, first, second):
    kept_first = int(np.count_nonzero(first))
    kept_second = int(np.count_nonzero(second))
    return LayerComparison(
        name=name,
        weights=first.size,
        kept_first=kept_first,
        kept_second=kept_second,
        kept_in_both=int(np.count_nonzero(first & second)),
        kept_in_both_by_chance=kept_first * kept_second / max(first.size, 1),
    )
