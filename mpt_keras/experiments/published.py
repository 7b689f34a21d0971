"""The papers' rows, each an experiment that is said in full.

from mpt_keras.experiments import published

published.SEARCHES["biprop_conv"].replace(sparsity=0.8).run("runs/a")
"""

from mpt_keras.experiments import recipes
from mpt_keras.experiments.search import Search
from mpt_keras.experiments.tickets import Distilled, WinningTicket


def _all(cls, rows):
    return {name: cls(recipe=name, **row) for name, row in rows.items()}


SEARCHES = _all(Search, recipes.SMALL | recipes.IMAGENET)
WINNING_TICKETS = _all(WinningTicket, recipes.LOTTERY)
DISTILLED = _all(Distilled, recipes.KD)
