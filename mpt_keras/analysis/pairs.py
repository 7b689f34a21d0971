"""How much several tickets agree, each compared with each."""

import dataclasses
import itertools
import statistics
from collections.abc import Mapping

import numpy as np

from mpt_keras.analysis.comparison import (
    MaskComparison,
    compare_matched,
    matched,
    percent,
)

_COLUMNS = (
    *("layer", "weights"),
    *("agree %", "least-most", "chance"),
    *("Jaccard %", "least-most", "chance"),
)
# Measure -> that of a ticket with itself.
_WITH_ITSELF = {"agreement": 1.0, "jaccard": 1.0, "hamming": 0.0}


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

    def matrix(self, measure: str = "agreement") -> np.ndarray:
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

    def table(self) -> list[tuple[str, ...]]:
        """Returns rows of text, the first the names of the columns."""
        return [_COLUMNS] + [
            (
                row.name,
                f"{row.weights:,}",
                *_texts(row.agreement),
                *_texts(row.jaccard),
            )
            for row in (*self.layers, self.total)
        ]


def compare_all(
    masks: Mapping[str, Mapping[str, np.ndarray]],
) -> PairwiseComparison:
    """Compares several tickets' masks, each with each.

    Args:
        masks: Dictionary, label -> masks as for `compare_masks`, of two
            tickets at least.

    Returns:
        `PairwiseComparison`: mean, least and most of agreement and Jaccard
        index over all pairs, per layer and in total, beside chance. Layers
        are matched as by `compare_masks`, with its warnings.

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
    tickets = matched({f"'{label}'": one for label, one in masks.items()})
    pairs = tuple(
        compare_matched(one, other)
        for one, other in itertools.combinations(tickets, 2)
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
        percent(spread.mean),
        f"{percent(spread.least)}-{percent(spread.most)}",
        percent(spread.by_chance),
    )
