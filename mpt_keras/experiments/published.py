"""The papers' rows, each an experiment that is said in full.

`SEARCHES`, `WINNING_TICKETS` and `DISTILLED` map the names of recipes to
`Search`, `WinningTicket` and `Distilled`. Fractions pruned are no part of
them, and nothing is held out for validation. The sources are those of
`recipes`.

>>> search = SEARCHES["biprop_conv"].replace(sparsity=0.8)
>>> search.model, search.epochs, search.learning_rate
('conv4', 250, 0.1)

`search.run("runs/a", data_dir="data")` trains it.
"""

from typing import TypeVar

from mpt_keras.experiments import recipes
from mpt_keras.experiments.experiment import Experiment
from mpt_keras.experiments.search import Search
from mpt_keras.experiments.tickets import Distilled, WinningTicket

_Kind = TypeVar("_Kind", bound=Experiment)


def _all(cls: type[_Kind], rows: dict[str, dict]) -> dict[str, _Kind]:
    return {name: cls(recipe=name, **row) for name, row in rows.items()}


SEARCHES = _all(Search, recipes.SMALL | recipes.IMAGENET)
WINNING_TICKETS = _all(WinningTicket, recipes.LOTTERY)
DISTILLED = _all(Distilled, recipes.KD)
