"""How much masks agree, layer by layer, beside what chance would give.

Two masks that keep a fraction `k` of the weights each and know nothing of each
other still agree on `k^2 + (1 - k)^2` of them, and share `k / (2 - k)` of what
either keeps. A figure means something only beside that level.
"""

import dataclasses
import itertools
import statistics

import numpy as np

from mpt_keras.analysis.masks import check_masks

_TOTAL = "total"
# Measure -> that of a ticket with itself.
_WITH_ITSELF = {"agreement": 1.0, "jaccard": 1.0, "hamming": 0.0}
_PAIR_COLUMNS = (
    *("layer", "weights", "kept in first", "kept in second", "differing"),
    *("agreement", "by chance", "Jaccard", "by chance"),
)
_ALL_COLUMNS = (
    *("layer", "weights"),
    *("agreement", "least to most", "by chance"),
    *("Jaccard", "least to most", "by chance"),
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

    def table(self):
        """Returns rows of text, the first the names of the columns."""
        return [_PAIR_COLUMNS] + [
            (
                row.name,
                f"{row.weights:,}",
                _percent(row.kept_first / max(row.weights, 1)),
                _percent(row.kept_second / max(row.weights, 1)),
                f"{row.hamming:,}",
                _percent(row.agreement),
                _percent(row.agreement_by_chance),
                _percent(row.jaccard),
                _percent(row.jaccard_by_chance),
            )
            for row in (*self.layers, self.total)
        ]


@dataclasses.dataclass(frozen=True)
class Spread:
    """A measure over all pairs, and the mean of its level by chance."""

    mean: float
    least: float
    most: float
    by_chance: float


@dataclasses.dataclass(frozen=True)
class LayerSpread:
    """Agreement and Jaccard index of all pairs of masks of one layer."""

    name: str
    weights: int
    agreement: Spread
    jaccard: Spread


@dataclasses.dataclass(frozen=True)
class PairwiseComparison:
    """Several tickets, each compared with each.

    Attributes:
        labels: What the tickets are called.
        pairs: `MaskComparison` of each pair, in the order of
            `itertools.combinations(labels, 2)`.
        layers: `LayerSpread` of each layer.
        total: `LayerSpread` of all layers together.
    """

    labels: tuple[str, ...]
    pairs: tuple[MaskComparison, ...]
    layers: tuple[LayerSpread, ...]
    total: LayerSpread

    def matrix(self, measure="agreement"):
        """Returns a measure of the whole tickets as a square array.

        Args:
            measure: `"agreement"`, `"jaccard"` or `"hamming"`.

        Returns:
            Symmetric float64 array, rows and columns in the order of
            `labels`. Its diagonal is a ticket with itself: 1, or 0 for
            `"hamming"`.

        Raises:
            ValueError: If there is no such measure.
        """
        if measure not in _WITH_ITSELF:
            raise ValueError(
                "Invalid value for argument `measure`. Expected one of "
                f"{', '.join(_WITH_ITSELF)}. Received: measure={measure!r}"
            )
        values = np.full((len(self.labels),) * 2, _WITH_ITSELF[measure])
        positions = itertools.combinations(range(len(self.labels)), 2)
        for (row, column), pair in zip(positions, self.pairs, strict=True):
            value = getattr(pair.total, measure)
            values[row, column] = values[column, row] = value
        return values

    def table(self):
        """Returns rows of text, the first the names of the columns."""
        return [_ALL_COLUMNS] + [
            (
                row.name,
                f"{row.weights:,}",
                *_texts(row.agreement),
                *_texts(row.jaccard),
            )
            for row in (*self.layers, self.total)
        ]


def compare_masks(first, second):
    """Compares two tickets' masks layer by layer.

    Args:
        first: Dictionary, name -> boolean array, as of `masks_of`.
        second: One of the same names and shapes.

    Returns:
        `MaskComparison`.

    Raises:
        ValueError: If the names or shapes differ, a mask is no boolean
            array, or there is none.

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
    _check_comparable({"first": first, "second": second})
    return _compare(first, second)


def compare_all(masks):
    """Compares several tickets' masks, each with each.

    Args:
        masks: Dictionary, label -> masks as for `compare_masks`, of two
            tickets at least.

    Returns:
        `PairwiseComparison`: mean, least and most of agreement and Jaccard
        index over all pairs, per layer and in total, beside chance.

    Raises:
        ValueError: As for `compare_masks`, and for fewer than two.

    Example:

    >>> tickets = {
    ...     seed: {"last": np.random.default_rng(seed).random(10_000) < 0.5}
    ...     for seed in (0, 1, 2)
    ... }
    >>> comparison = mpt_keras.analysis.compare_all(tickets)
    >>> len(comparison.pairs), comparison.matrix("jaccard").shape
    (3, (3, 3))
    >>> agreement = comparison.total.agreement
    >>> f"{agreement.mean:.2f}, {agreement.by_chance:.2f}"
    '0.50, 0.50'

    Reference:
        See `compare_masks`.
    """
    if len(masks) < 2:
        raise ValueError(
            "Expected the masks of two tickets at least. Received: "
            f"{list(masks)}"
        )
    _check_comparable(masks)
    pairs = tuple(
        _compare(first, second)
        for first, second in itertools.combinations(masks.values(), 2)
    )
    return PairwiseComparison(
        labels=tuple(masks),
        pairs=pairs,
        layers=tuple(
            _spread(rows)
            for rows in zip(*(pair.layers for pair in pairs), strict=True)
        ),
        total=_spread([pair.total for pair in pairs]),
    )


def _check_comparable(masks):
    """Raises unless all are masks of the same names and shapes."""
    (first_label, first), *others = masks.items()
    check_masks(first)
    for label, other in others:
        check_masks(other)
        pair = f"'{first_label}' and '{label}'"
        unshared = sorted(first.keys() ^ other.keys())
        if unshared:
            raise ValueError(
                f"Cannot compare {pair}: only one of them has the layers "
                f"{unshared}. Expected masks of the same architecture."
            )
        for name, mask in first.items():
            if mask.shape != other[name].shape:
                raise ValueError(
                    f"Cannot compare {pair}: layer '{name}' has the shape "
                    f"{mask.shape} in one and {other[name].shape} in the "
                    "other. Expected masks of the same architecture."
                )


def _compare(first, second):
    layers = tuple(
        _compare_layer(name, mask, second[name]) for name, mask in first.items()
    )
    counts = {
        field.name: sum(getattr(layer, field.name) for layer in layers)
        for field in dataclasses.fields(LayerComparison)
        if field.name != "name"
    }
    return MaskComparison(layers, LayerComparison(_TOTAL, **counts))


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


def _spread(rows):
    """One layer of all pairs."""

    def of(measure):
        values = [getattr(row, measure) for row in rows]
        chances = [getattr(row, f"{measure}_by_chance") for row in rows]
        return Spread(
            mean=statistics.fmean(values),
            least=min(values),
            most=max(values),
            by_chance=statistics.fmean(chances),
        )

    return LayerSpread(
        rows[0].name, rows[0].weights, of("agreement"), of("jaccard")
    )


def _texts(spread):
    return (
        _percent(spread.mean),
        f"{100 * spread.least:.2f} to {_percent(spread.most)}",
        _percent(spread.by_chance),
    )


def _percent(fraction):
    return f"{100 * fraction:.2f} %"
