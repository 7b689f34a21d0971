"""All pictures of a comparison, by name."""

from mpt_keras.experiments.accuracy_plots import accuracy_plots
from mpt_keras.experiments.learning_curves import draw_curves, has_curves


def pictures(comparison, width=8):
    """Name -> function that draws it, of those that have something to show.

    Args:
        comparison: `Comparison`.
        width: In inches; narrow pictures have their legends below.
    """
    found = accuracy_plots(comparison, width)
    if has_curves(comparison):
        found["learning_curves"] = lambda: draw_curves(comparison)
    return found
