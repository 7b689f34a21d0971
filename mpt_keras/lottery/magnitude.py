"""How much a round prunes of which kernel."""

import dataclasses
import math
from collections.abc import Iterable, Mapping

import numpy as np

from mpt_keras.lottery import counts
from mpt_keras.lottery.masks import (
    check_scope,
    smallest_pruned,
    smallest_pruned_together,
)
from mpt_keras.sparsity import check_sparsity, pruned_count

# The name of all kernels that have one threshold.
_TOGETHER = ""


@dataclasses.dataclass(frozen=True)
class Magnitude:
    """Prunes the weights of smallest magnitude, a fraction in every round.

    After `i` rounds at the rate `p` exactly `floor((1 - (1 - p)**i) * n)` of
    `n` weights are pruned: of every kernel's, or of all kernels' together.
    What is pruned stays pruned; ties are broken by position, earlier first.
    The last round may be cut short or drawn out, so that a sparsity of all
    kernels together is met to the weight (`rounds_for`, `masks_at`).

    Args:
        rate: Number `p` in (0, 1), the fraction of the remaining weights that
            a round prunes.
        scope: `"layer"`: every kernel by itself; `"global"`: all together,
            one threshold for all.
        convolution_rate: Rate of the convolution kernels, in [0, 1); `rate`
            if None. A `TicketSearch` knows them by the layers of its model.
        output_rate: Rate of the output's kernel, in [0, 1). If None half of
            its rate otherwise, as published, for `"layer"`, and `rate` for
            `"global"`.
        rates: Name of a kernel -> rate in [0, 1), before all of these; 0
            leaves the kernel alone. For `"global"` no other rates than 0 and
            `rate` make sense.
        output: Name of the output's kernel. If None a `TicketSearch` finds it
            in the graph of its model; of arrays alone it is the last.

    Raises:
        ValueError: If a rate or the scope is none.

    Example:

    >>> pruning = mpt_keras.lottery.Magnitude(0.2)
    >>> masks = pruning.masks({"hidden": np.arange(10.0), "out": np.ones(5)}, 1)
    >>> {name: int(mask.sum()) for name, mask in masks.items()}
    {'hidden': 8, 'out': 5}

    Reference:
        Frankle and Carbin, "The Lottery Ticket Hypothesis", ICLR 2019.
    """

    rate: float = 0.2
    scope: str = "layer"
    convolution_rate: float | None = None
    output_rate: float | None = None
    rates: Mapping = dataclasses.field(default_factory=dict)
    output: str | None = None

    def __post_init__(self):
        _check_rate("rate", self.rate, lowest_allowed=False)
        for name in ("convolution_rate", "output_rate"):
            if getattr(self, name) is not None:
                _check_rate(name, getattr(self, name))
        for name, rate in self.rates.items():
            _check_rate(f"rates['{name}']", rate)
        check_scope(self.scope)
        if self.scope == "global":
            others = [self.convolution_rate, self.output_rate]
            others += self.rates.values()
            if not {None, 0, self.rate}.issuperset(others):
                raise ValueError(
                    "One threshold for all kernels has one rate. Expected 0 "
                    "(leaves a kernel alone) or the common rate "
                    f"{self.rate} for scope='global'. Received: {self}"
                )

    def rates_of(
        self,
        names: Iterable[str],
        convolutions: Iterable[str] | None = None,
        outputs: Iterable[str] | None = None,
    ) -> dict[str, float]:
        """Returns the rate of every kernel.

        Args:
            names: Those of all kernels.
            convolutions: Names of the convolution kernels; only needed for
                `convolution_rate`.
            outputs: Names of the kernels that may be the output's; the last
                of all if None.

        Raises:
            ValueError: If `rates` or `output` names a kernel that is none of
                these, the convolutions or the output are not known, or no
                kernel is left to be pruned.
        """
        names = list(names)
        self._check_names(names)
        if self.convolution_rate is None:
            convolutions = ()
        elif convolutions is None:
            raise ValueError(
                "Which kernels belong to convolutions cannot be seen from "
                "arrays alone. Expected their rates by name, in `rates`. "
                f"Received: convolution_rate={self.convolution_rate}"
            )
        found = dict.fromkeys(names, self.rate)
        found |= dict.fromkeys(convolutions, self.convolution_rate)
        if self.scope == "layer" or self.output_rate is not None:
            outputs = names[-1:] if outputs is None else outputs
            for name in self._one_output(outputs):
                found[name] = (
                    found[name] / 2
                    if self.output_rate is None
                    else self.output_rate
                )
        found |= self.rates
        if not any(found.values()):
            raise ValueError(
                "There is nothing to prune: all rates are 0. Expected at "
                f"least one kernel with a rate in (0, 1). Received: {found}"
            )
        return found

    def _check_names(self, names):
        unknown = sorted(self.rates.keys() - set(names))
        if unknown:
            raise ValueError(
                f"Invalid value for argument `rates`. Expected names of "
                f"kernels out of {names}. Received: {unknown}"
            )
        if self.output is not None and self.output not in names:
            raise ValueError(
                f"Invalid value for argument `output`. Expected one of "
                f"{names}. Received: output={self.output!r}"
            )

    def _one_output(self, candidates):
        """The output's kernel, in a list; an empty one where rates say all."""
        if self.output is not None:
            return [self.output]
        left = [name for name in candidates if name not in self.rates]
        if len(left) > 1:
            raise ValueError(
                f"Several kernels may be the output's: {left}. Expected one of "
                "them as `output`, or the rates of all but one in `rates`."
            )
        return left

    def masks(
        self,
        weights: Mapping[str, np.ndarray],
        level: int,
        before: Mapping[str, np.ndarray] | None = None,
        rates: Mapping[str, float] | None = None,
    ) -> dict[str, np.ndarray]:
        """Returns the masks after a number of rounds.

        Args:
            weights: Name -> float array, the trained kernels.
            level: Number of rounds `t`, from 0 on. It need not be whole: of
                `n` weights `floor((1 - (1 - p)**t) * n)` are pruned.
            before: Masks of an earlier level, or None.
            rates: Name -> rate, as of `rates_of`; by default, of the names
                alone.

        Returns:
            Name -> boolean array, True at the weights kept.
        """
        rates = self.rates_of(weights) if rates is None else rates
        sizes = {name: np.size(values) for name, values in weights.items()}
        pruned = counts.after_rounds(level, *self._grouped(sizes, rates))
        return self._masks(weights, pruned, before, rates)

    def masks_at(
        self,
        weights: Mapping[str, np.ndarray],
        sparsity: float,
        before: Mapping[str, np.ndarray] | None = None,
        rates: Mapping[str, float] | None = None,
    ) -> dict[str, np.ndarray]:
        """Returns the masks of a sparsity of all kernels together, exactly.

        Of all `n` weights, those of kernels left alone among them,
        `floor(sparsity * n)` are pruned. With the `t` of `rounds_for`, the
        kernel of `n_i` weights and the rate `p_i` loses
        `floor((1 - (1 - p_i)**t) * n_i)` of them; what is then missing to the
        whole, less than one weight of each kernel, is pruned where most was
        lost by the floor, the first of equals first. One weight of every
        kernel stays.

        Args:
            weights: Name -> float array, the trained kernels.
            sparsity: Number in [0, 1), the fraction of weights pruned.
            before: Masks of a level before, or None.
            rates: As for `masks`.

        Returns:
            Name -> boolean array, True at the weights kept.

        Raises:
            ValueError: If so many weights cannot be pruned, or kernels have
                lost more before.

        Example:

        >>> pruning = mpt_keras.lottery.Magnitude(0.2)
        >>> weights = {"hidden": np.arange(10.0), "out": np.arange(5.0)}
        >>> masks = pruning.masks_at(weights, 0.6)
        >>> {name: int(mask.sum()) for name, mask in masks.items()}
        {'hidden': 3, 'out': 3}
        """
        rates = self.rates_of(weights) if rates is None else rates
        sizes = {name: np.size(values) for name, values in weights.items()}
        pruned = counts.shares(
            self._pruned(sparsity, sizes, rates), *self._grouped(sizes, rates)
        )
        return self._masks(weights, pruned, before, rates)

    def rounds_for(
        self,
        sparsity: float,
        sizes: Mapping[str, int],
        rates: Mapping[str, float] | None = None,
    ) -> float:
        """Returns after how many rounds a sparsity is reached, as a fraction.

        The solution `t` of `sum(min((1 - (1 - p_i)**t) * n_i, n_i - 1)) =
        floor(sparsity * n)`, where kernel `i` has `n_i` of the `n` weights
        and the rate `p_i`; all kernels whose rate is not 0 are one kernel for
        `scope="global"`. With one rate and no kernel left alone that is
        `log(1 - sparsity) / log(1 - p)`.

        Args:
            sparsity: Number in [0, 1), the fraction of all weights pruned.
            sizes: Name of a kernel -> its number of weights, also of those
                that are left alone.
            rates: As for `masks`.

        Returns:
            A Python float from 0 on.

        Raises:
            ValueError: If so many weights cannot be pruned, because kernels
                are left alone and one weight of every other stays.

        Example:

        >>> pruning = mpt_keras.lottery.Magnitude(0.2, scope="global")
        >>> round(pruning.rounds_for(0.5, {"hidden": 8000, "out": 2000}), 3)
        3.106
        """
        rates = self.rates_of(sizes) if rates is None else rates
        pruned = self._pruned(sparsity, sizes, rates)
        return counts.rounds_until(pruned, *self._grouped(sizes, rates))

    def pruned_after(
        self,
        level: float,
        sizes: Mapping[str, int],
        rates: Mapping[str, float] | None = None,
    ) -> int:
        """Returns how many weights are pruned after a number of rounds.

        Args:
            level: As for `masks`.
            sizes: Name of a kernel -> its number of weights.
            rates: As for `masks`.

        Example:

        >>> pruning = mpt_keras.lottery.Magnitude(0.2)
        >>> pruning.pruned_after(2, {"hidden": 100, "out": 10})
        37
        """
        rates = self.rates_of(sizes) if rates is None else rates
        grouped = self._grouped(sizes, rates)
        return sum(counts.after_rounds(level, *grouped).values())

    def _pruned(self, sparsity, sizes, rates):
        """How many weights a sparsity of all kernels prunes, if it can."""
        total = sum(sizes.values())
        pruned = pruned_count(sparsity, total)
        most = counts.most(*self._grouped(sizes, rates))
        if pruned > most:
            # Rounded down, so that it can be asked for.
            highest = math.floor(most / total * 1e6) / 1e6
            alone = [name for name in sizes if not rates[name]]
            raise ValueError(
                f"A sparsity of {check_sparsity(sparsity)} prunes {pruned} of "
                f"{total} weights, but no more than {most} can be pruned: one "
                "of every kernel stays, and all of those with the rate 0, "
                f"{alone}. Expected a sparsity of at most {highest}."
            )
        return pruned

    def _grouped(self, sizes, rates):
        """Sizes and rates of what is pruned by itself."""
        if self.scope == "layer":
            return sizes, rates
        together = sum(size for name, size in sizes.items() if rates[name])
        return {_TOGETHER: together}, {_TOGETHER: self.rate}

    def _masks(self, weights, pruned, before, rates):
        """Masks by the counts of what is pruned by itself."""
        if self.scope == "layer":
            return smallest_pruned(weights, pruned, before)
        found = smallest_pruned_together(
            {k: w for k, w in weights.items() if rates[k]},
            pruned[_TOGETHER],
            before and {k: mask for k, mask in before.items() if rates[k]},
        )
        return {
            k: found[k] if k in found else np.ones(w.shape, bool)
            for k, w in weights.items()
        }


def _check_rate(name, rate, lowest_allowed=True):
    try:
        fits = 0 <= rate < 1 and (lowest_allowed or rate > 0)
    except TypeError:
        fits = False
    if not fits:
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected a number in "
            f"{'[' if lowest_allowed else '('}0, 1), the fraction of the "
            "remaining weights that a round prunes. Received: "
            f"{name}={rate!r}"
        )
