"""Seeds: checked, drawn, and derived from one another."""

import itertools
import random

import numpy as np


def check_seed(seed, where="") -> int:
    """Returns `seed` as an integer; draws one for None.

    Raises:
        ValueError: If `seed` is not an integer in [0, 2**64).
    """
    if seed is None:
        return random_seed()
    if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**64:
        raise ValueError(
            "Invalid value for argument `seed`. Expected an integer in "
            f"[0, 2**64) or None. Received: seed={seed!r}{where}"
        )
    return int(seed)


def random_seed() -> int:
    """Draws a seed that `keras.utils.set_random_seed` makes repeatable."""
    return random.randrange(2**31)


def derived_seed(*seeds) -> int:
    """A seed that is a function of others; 31 bits, which everyone takes."""
    state = np.random.SeedSequence(seeds).generate_state(1)
    return int(state[0] >> 1)


def seeds_from(seed):
    """Endless; the first ones do not depend on how many are taken."""
    taken = 0
    for many in (2**power for power in itertools.count(6)):
        states = np.random.SeedSequence(seed).generate_state(many)
        yield from map(int, states[taken:])
        taken = many
