"""Sparsity per layer by rule: functions of the kernels' names and shapes.

Wherever `mpt_keras.convert` and `mpt_keras.models` take a `sparsity`, they
take a number, a rule of this module, a dictionary (`ByPattern`), or any
function of a dictionary `{name: shape}` that returns one `{name: sparsity}`.
"""

import dataclasses
import difflib
import fnmatch
import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any

from mpt_keras.sparsity import check_sparsity

__all__ = ["ERK", "ByPattern", "EqualPerLayer", "Global", "Uniform"]

Shapes = Mapping[str, tuple[int, ...]]
Rule = float | Mapping[str, Any] | Callable[[Shapes], Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class Uniform:
    """Every kernel is pruned by the same fraction; what a number means.

    Args:
        sparsity: Number in [0, 1), the fraction of each kernel pruned.

    Example:

    >>> Uniform(0.9)({"conv": (3, 3, 8, 16), "dense": (16, 10)})
    {'conv': 0.9, 'dense': 0.9}
    """

    sparsity: float

    def __post_init__(self):
        check_sparsity(self.sparsity)

    def __call__(self, shapes: Shapes) -> dict[str, float]:
        return dict.fromkeys(shapes, check_sparsity(self.sparsity))


@dataclasses.dataclass(frozen=True)
class ERK:
    """Erdos-Renyi kernel: large kernels are pruned more than small ones.

    The fraction kept of a kernel of the sizes `d_1, ..., d_m` is proportional
    to::

        (d_1 + ... + d_m) / (d_1 * ... * d_m)

    times one number for all kernels, by which as many weights are kept as the
    sparsity asks for. Kernels that would keep more than all of their weights
    keep all, and the others share the rest by the same formula, until none
    would.

    Args:
        sparsity: Number in [0, 1), the fraction of all weights pruned.
        power: Number, the exponent of that quotient: 0 is `Uniform`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> ERK(0.5)({"small": (2, 2), "large": (10, 10)})
    {'small': 0.0, 'large': 0.52}

    Reference:
        Evci et al., "Rigging the Lottery: Making All Tickets Winners", ICML
        2020, https://arxiv.org/abs/1911.11134.
    """

    sparsity: float
    power: float = 1.0

    def __post_init__(self):
        check_sparsity(self.sparsity)
        if not isinstance(self.power, numbers.Real) or not self.power >= 0:
            raise ValueError(
                "Invalid value for argument `power`. Expected a number of 0 "
                f"or more. Received: power={self.power!r}"
            )

    def __call__(self, shapes: Shapes) -> dict[str, float]:
        shares = {
            name: (sum(shape) / math.prod(shape)) ** self.power
            for name, shape in shapes.items()
        }
        return _in_proportion(shares, shapes, self.sparsity)


@dataclasses.dataclass(frozen=True)
class EqualPerLayer:
    """Every kernel keeps the same number of weights.

    Kernels that have fewer keep all, and the others share the rest.

    Args:
        sparsity: Number in [0, 1), the fraction of all weights pruned.

    Example:

    >>> EqualPerLayer(0.5)({"small": (2, 5), "large": (10, 9)})
    {'small': 0.0, 'large': 0.5555555555555556}

    Reference:
        Price and Tanner, "Dense for the Price of Sparse", ICML 2021.
    """

    sparsity: float

    def __post_init__(self):
        check_sparsity(self.sparsity)

    def __call__(self, shapes: Shapes) -> dict[str, float]:
        shares = {
            name: 1.0 / math.prod(shape) for name, shape in shapes.items()
        }
        return _in_proportion(shares, shapes, self.sparsity)


@dataclasses.dataclass(frozen=True)
class Global:
    """One threshold for the scores of all kernels, wherever they stand.

    What a kernel keeps depends on the scores, not on its shape: a new model is
    pruned by one threshold for its first scores. While it is trained, give
    `fit` the callback of the same number, which finds the threshold anew
    before every batch: `mpt_keras.callbacks.GlobalSparsity(sparsity)`.

    Called, it is `Uniform`: the sparsity that the scale of random kernels goes
    by.

    Args:
        sparsity: Number in [0, 1), the fraction of all weights pruned.

    Example:

    >>> Global(0.9)({"dense": (16, 10)})
    {'dense': 0.9}
    """

    sparsity: float

    def __post_init__(self):
        check_sparsity(self.sparsity)

    def __call__(self, shapes: Shapes) -> dict[str, float]:
        return Uniform(self.sparsity)(shapes)


@dataclasses.dataclass(frozen=True)
class ByPattern:
    """A sparsity, or a rule, for the kernels whose name a pattern matches.

    Args:
        rules: Dictionary, name or pattern such as `"stage4_*"` (`fnmatch`) ->
            a number in [0, 1), or a rule for all kernels that it is for. The
            name is that of the layer; or of one of its kernels, as in
            `"layer/pointwise_kernel"`, where it has several. A kernel's own
            name comes first, then the first pattern that matches.

    Raises:
        ValueError: If there are no patterns; where it is called, if one
            matches no kernel, or a kernel matches none of them.

    Example:

    >>> rule = ByPattern({"conv*": 0.9, "*": 0.5})
    >>> rule({"conv1": (3, 3, 8, 16), "conv2": (3, 3, 16, 16), "dense": (8, 2)})
    {'conv1': 0.9, 'conv2': 0.9, 'dense': 0.5}
    """

    rules: Mapping[str, Any]

    def __post_init__(self):
        if not self.rules:
            raise ValueError(
                "Invalid value for argument `sparsity`. Expected a dictionary "
                "of names or patterns with a sparsity for each. Received: {}"
            )
        for pattern, rule in self.rules.items():
            if not isinstance(pattern, str):
                raise ValueError(
                    "Invalid value for argument `sparsity`. Expected a "
                    "dictionary of names or patterns of kernels, which are "
                    f"strings. Received: {pattern!r} in {self.rules!r}"
                )
            if isinstance(as_rule(rule), Global):
                raise ValueError(
                    "Invalid value for argument `sparsity`. Expected `Global` "
                    "for all layers, or for some of them the callback "
                    "GlobalSparsity(..., layers=pattern). Received: "
                    f"{self.rules!r}"
                )

    def __call__(self, shapes: Shapes) -> dict[str, float]:
        groups = {pattern: {} for pattern in self.rules}
        for name, shape in shapes.items():
            groups[self._pattern_of(name)][name] = shape
        found = {}
        for pattern, group in groups.items():
            if not any(_matches(name, pattern) for name in shapes):
                close = difflib.get_close_matches(pattern, shapes, 3, 0.4)
                raise ValueError(
                    "Invalid value for argument `sparsity`. Expected names or "
                    "patterns of kernels"
                    f"{f' (close: {close})' if close else ''}, out of "
                    f"{sorted(shapes)}. Received: {pattern!r}"
                )
            found |= sparsity_per_kernel(self.rules[pattern], group)
        return {name: found[name] for name in shapes}

    def _pattern_of(self, name):
        if name in self.rules:
            return name
        for pattern in self.rules:
            if _matches(name, pattern):
                return pattern
        raise ValueError(
            "Invalid value for argument `sparsity`. Expected a name or pattern "
            f"for every kernel, and none matches '{name}'. Say '*' for those "
            f"that are left. Received: {list(self.rules)}"
        )


def _matches(name, pattern):
    layer, _, _ = name.rpartition("/")
    return any(fnmatch.fnmatchcase(one, pattern) for one in (name, layer))


def as_rule(rule: Rule) -> Callable[[Shapes], Mapping[str, float]]:
    """Returns a rule for what stands for one.

    Args:
        rule: A number (`Uniform`), a dictionary (`ByPattern`) or a rule.

    Raises:
        ValueError: If it is none of these, or out of range.

    Example:

    >>> as_rule(0.5)
    Uniform(sparsity=0.5)
    """
    if isinstance(rule, Mapping):
        return ByPattern(rule)
    if callable(rule) and not isinstance(rule, type):
        return rule
    if isinstance(rule, numbers.Real):
        return Uniform(check_sparsity(rule))
    raise ValueError(
        "Invalid value for argument `sparsity`. Expected a number in [0, 1), a "
        "rule such as `mpt_keras.sparsity_rules.ERK(0.9)`, or a dictionary of "
        f"names or patterns. Received: sparsity={rule!r}"
    )


def sparsity_per_kernel(rule: Rule, shapes: Shapes) -> dict[str, float]:
    """Returns what a rule says of every kernel, checked.

    Args:
        rule: A number, a dictionary or a rule.
        shapes: Dictionary, name of a kernel -> its shape.

    Returns:
        Dictionary, name of the kernel -> number in [0, 1).

    Raises:
        ValueError: If the rule is none, does not fit these kernels, or gives
            something else.

    Example:

    >>> sparsity_per_kernel(ERK(0.5), {"dense": (16, 10)})
    {'dense': 0.5}
    """
    rule = as_rule(rule)
    found = rule(shapes)
    if not isinstance(found, Mapping) or found.keys() != shapes.keys():
        raise ValueError(
            "Invalid value for argument `sparsity`. Expected a rule that gives "
            f"a sparsity for each of {sorted(shapes)}, as a dictionary. "
            f"Received: {found!r} of {rule!r}"
        )
    return {
        name: check_sparsity(found[name], f" (kernel '{name}')")
        for name in shapes
    }


def _in_proportion(shares, shapes, sparsity):
    """Fractions kept in proportion to shares, at most 1, as sparsities."""
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    kept = (1.0 - check_sparsity(sparsity)) * sum(sizes.values())
    dense = set()
    while len(dense) < len(shapes):
        others = shapes.keys() - dense
        left = kept - sum(sizes[name] for name in dense)
        scale = left / math.fsum(shares[n] * sizes[n] for n in others)
        too_dense = {name for name in others if scale * shares[name] >= 1.0}
        if not too_dense:
            break
        dense |= too_dense
    return {
        name: 0.0 if name in dense else 1.0 - scale * shares[name]
        for name in shapes
    }
