"""Which training images are held out for validation."""

import numpy as np

from mpt_keras.experiments.errors import RunError

# Apart from the draws of seed 0 that an epoch makes.
_COUNTER = (0, 0, 0, 1)


def held_out(validation, count):
    """Draws the images held out: the same of a dataset in every run.

    Args:
        validation: Fraction in (0, 1) or number of the images; 0 for none.
        count: How many training images there are.

    Returns:
        A boolean array of length `count`, true for images held out, or None
        for none. Those of a smaller `validation` are among those of a larger
        one.

    Raises:
        RunError: If that is none, or leaves none to train on.
    """
    if validation == 0:
        return None
    is_fraction = 0 < validation < 1
    number = round(validation * count) if is_fraction else validation
    if not (float(number).is_integer() and 0 < number < count):
        raise RunError(
            f"Cannot hold out validation={validation:g} of the {count} "
            "training images. Expected a fraction in (0, 1) that is an image "
            f"at least, or a number of images below {count}; 0 holds out none."
        )
    raw = np.random.Philox(key=0, counter=_COUNTER).random_raw(count)
    held = np.zeros(count, bool)
    held[np.argsort(raw, kind="stable")[: int(number)]] = True
    return held
