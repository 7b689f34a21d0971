"""How many weights rounds of pruning take, and how many rounds a number takes.

Sizes, rates and counts are dictionaries by the name of what is pruned by
itself: a kernel, or all kernels under one threshold.
"""

import math

from mpt_keras.sparsity import pruned_count


def after_rounds(rounds, sizes, rates):
    """What `t` rounds prune: `floor((1 - (1 - p)**t) * n)` of each.

    Args:
        rounds: Number `t` from 0 on, whole or not.
        sizes: Name -> number of weights `n`.
        rates: Name -> rate `p` in [0, 1).

    Example:

    >>> after_rounds(2, {"a": 10, "b": 10}, {"a": 0.2, "b": 0})
    {'a': 3, 'b': 0}
    """
    return {
        name: pruned_count(1.0 - (1.0 - rates[name]) ** rounds, size)
        for name, size in sizes.items()
    }


def most(sizes, rates):
    """How many weights can be pruned: all but one wherever a rate is not 0."""
    return sum(size - 1 for name, size in sizes.items() if rates[name])


def rounds_until(pruned, sizes, rates):
    """The rounds `t` after which a number of weights is pruned.

    The solution of `sum(min((1 - (1 - p)**t) * n, n - 1)) = pruned`, by
    bisection. With one rate, and more than one weight left of each, it is
    `t = log(1 - pruned / sum(n)) / log(1 - p)`.

    Args:
        pruned: Integer from 0 to `most(sizes, rates)`.
        sizes: Name -> number of weights `n`.
        rates: Name -> rate `p` in [0, 1).

    Example:

    >>> round(rounds_until(75, {"a": 40, "b": 60}, {"a": 0.5, "b": 0.5}), 9)
    2.0
    """
    if pruned == 0:
        return 0.0
    low = 0.0
    # There one weight of each is left.
    high = max(
        -math.log(size) / math.log1p(-rates[name])
        for name, size in sizes.items()
        if rates[name]
    )
    while low < (middle := (low + high) / 2) < high:
        if math.fsum(_exact(middle, sizes, rates).values()) <= pruned:
            low = middle
        else:
            high = middle
    return low


def shares(pruned, sizes, rates):
    """How many weights of each are pruned, `pruned` in all, exactly.

    After the rounds `t` of `rounds_until`, `floor((1 - (1 - p)**t) * n)` of
    each; what is missing to `pruned`, less than one weight of each, is pruned
    where the product was floored by most, the first of equals first.

    Args:
        pruned: Integer from 0 to `most(sizes, rates)`.
        sizes: Name -> number of weights `n`.
        rates: Name -> rate `p` in [0, 1).

    Example:

    >>> shares(5, {"a": 5, "b": 5, "c": 7}, {"a": 0.5, "b": 0.5, "c": 0})
    {'a': 3, 'b': 2, 'c': 0}
    """
    exact = _exact(rounds_until(pruned, sizes, rates), sizes, rates)
    counts = {name: math.floor(product) for name, product in exact.items()}
    open_to_more = [
        name
        for name, size in sizes.items()
        if rates[name] and counts[name] < size - 1
    ]
    # A stable sort.
    open_to_more.sort(key=lambda name: counts[name] - exact[name])
    for name in open_to_more[: pruned - sum(counts.values())]:
        counts[name] += 1
    return counts


def _exact(rounds, sizes, rates):
    """The products before they are floored; one weight of each stays."""
    return {
        name: min(
            -size * math.expm1(rounds * math.log1p(-rates[name])), size - 1.0
        )
        for name, size in sizes.items()
    }
