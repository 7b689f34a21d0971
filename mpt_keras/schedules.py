"""Sparsity as a function of time: frozen dataclasses, pure functions.

A schedule maps a time, an epoch or a step counted from 0, to the sparsity in
force at that time. It knows nothing of layers or training; the callbacks
`SparsitySchedule` and `GlobalSparsity` ask it. Any callable that does the same
may stand in for one.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

__all__ = ["Constant", "Piecewise", "Polynomial"]


def _check(name, value, low, high):
    if not low <= value < high:
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected a number in "
            f"[{low}, {high}). Received: {name}={value!r}"
        )


@dataclasses.dataclass(frozen=True)
class Constant:
    """The same sparsity at all times.

    Args:
        sparsity: Number in [0, 1), the fraction of weights pruned.

    Raises:
        ValueError: If `sparsity` is outside [0, 1).

    Example:

    >>> mpt_keras.schedules.Constant(0.8)(3)
    0.8
    """

    sparsity: float

    def __post_init__(self):
        _check("sparsity", self.sparsity, 0, 1)

    def __call__(self, time: float) -> float:
        return self.sparsity


@dataclasses.dataclass(frozen=True)
class Polynomial:
    """A ramp, steep at first, from `initial` to `final`.

    With `x = (time - begin) / (end - begin)`, cut to [0, 1]::

        sparsity = final + (initial - final) * (1 - x)**power

    `Polynomial(0.5, 0.95, end=10)` is the authors' ramp against layer collapse
    under global sparsity.

    Args:
        initial: Number in [0, 1), the fraction pruned until `begin`.
        final: Number in [0, 1), the fraction pruned from `end` on.
        end: Time (epoch or step) at which `final` is reached.
        begin: Time at which the ramp starts.
        power: Exponent, 1 for a straight line.

    Raises:
        ValueError: If a sparsity is outside [0, 1) or `end <= begin`.

    Example:

    >>> mpt_keras.schedules.Polynomial(0.0, 0.8, end=10, power=1)(5)
    0.4

    Reference:
        Zhu and Gupta, "To prune, or not to prune", 2017; Diffenderfer et al.,
        "A Winning Hand: Compressing Deep Networks Can Improve Out-of-
        Distribution Robustness", NeurIPS 2021 (the ramp of their code).
    """

    initial: float
    final: float
    end: float
    begin: float = 0
    power: float = 3

    def __post_init__(self):
        _check("initial", self.initial, 0, 1)
        _check("final", self.final, 0, 1)
        if self.end <= self.begin:
            raise ValueError(
                "The ramp must end after it begins. Received: "
                f"begin={self.begin}, end={self.end}"
            )

    def __call__(self, time: float) -> float:
        progress = (time - self.begin) / (self.end - self.begin)
        left = (1.0 - min(max(progress, 0.0), 1.0)) ** self.power
        return self.final + (self.initial - self.final) * left


@dataclasses.dataclass(frozen=True)
class Piecewise:
    """A staircase: `sparsities[i]` until time `boundaries[i]`, then the next.

    Args:
        boundaries: Increasing times, one fewer than there are sparsities.
        sparsities: Numbers in [0, 1), fractions of weights pruned.

    Raises:
        ValueError: If the lengths do not fit, the times do not increase, or
            a sparsity is outside [0, 1).

    Example:

    >>> steps = mpt_keras.schedules.Piecewise((10, 20), (0.2, 0.5, 0.8))
    >>> [steps(epoch) for epoch in (0, 9, 10, 25)]
    [0.2, 0.2, 0.5, 0.8]
    """

    boundaries: Sequence[float]
    sparsities: Sequence[float]

    def __post_init__(self):
        for sparsity in self.sparsities:
            _check("sparsities", sparsity, 0, 1)
        increasing = sorted(set(self.boundaries)) == list(self.boundaries)
        if not increasing or len(self.sparsities) != len(self.boundaries) + 1:
            raise ValueError(
                "Expected increasing boundaries and one sparsity more than "
                f"boundaries. Received: boundaries={self.boundaries}, "
                f"sparsities={self.sparsities}"
            )

    def __call__(self, time: float) -> float:
        passed = sum(time >= boundary for boundary in self.boundaries)
        return self.sparsities[passed]


def final_sparsity(schedule: Callable[[float], float]) -> float | None:
    """Where a schedule of this module ends; None for any other callable.

    Example:

    >>> final_sparsity(mpt_keras.schedules.Polynomial(0.0, 0.8, end=10))
    0.8
    """
    ours = (Constant, Polynomial, Piecewise)
    return schedule(math.inf) if isinstance(schedule, ours) else None
