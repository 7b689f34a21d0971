"""What the seeds say together: means, and differences of pairs."""

import dataclasses
import math
import statistics

_CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class SeedSpread:
    """A mean over seeds.

    Attributes:
        mean: Of the values.
        deviation: Their sample standard deviation; None where there is but
            one.
        seeds: How many values there are.
    """

    mean: float
    deviation: float | None
    seeds: int

    @classmethod
    def of(cls, values):
        several = len(values) > 1
        return cls(
            mean=statistics.fmean(values),
            deviation=statistics.stdev(values) if several else None,
            seeds=len(values),
        )


@dataclasses.dataclass(frozen=True)
class Difference:
    """A mean difference between what the same seeds gave in two ways.

    Attributes:
        baseline: What was subtracted.
        mean: Of the differences.
        low, high: Where the 95 % interval of that mean begins and ends, by
            Student's t distribution with `seeds - 1` degrees of freedom:
            mean -+ t * deviation / sqrt(seeds). None where there is but one
            pair.
        seeds: How many pairs there are.

    Example:

    >>> found = Difference.of({0: 0.75, 1: 0.5}, {0: 0.5, 1: 0.5}, "dense")
    >>> print(f"{found.mean:.3f}: {found.low:.3f} to {found.high:.3f}")
    0.125: -1.463 to 1.713
    """

    baseline: str
    mean: float
    low: float | None
    high: float | None
    seeds: int

    @classmethod
    def of(cls, ours, theirs, baseline):
        """Pairs two dictionaries, seed -> value; None without a pair."""
        pairs = [seed for seed in ours if seed in theirs]
        if not pairs:
            return None
        differences = SeedSpread.of(
            [ours[seed] - theirs[seed] for seed in pairs]
        )
        half = _half_of_interval(differences)
        known = half is not None
        return cls(
            baseline=baseline,
            mean=differences.mean,
            low=differences.mean - half if known else None,
            high=differences.mean + half if known else None,
            seeds=differences.seeds,
        )


def _half_of_interval(spread):
    if spread.deviation is None:
        return None
    # Much quicker to import than all of scipy.stats.
    from scipy.special import stdtrit

    quantile = float(stdtrit(spread.seeds - 1, (1.0 + _CONFIDENCE) / 2.0))
    return quantile * spread.deviation / math.sqrt(spread.seeds)
