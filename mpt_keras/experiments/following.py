"""What holds in a run: what was said, then the recipe, then what is usual."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from mpt_keras.experiments.settings import (
    in_words,
    of_field,
    refuse_without_effect,
)

# What is no part of a recipe.
_LEFT_OPEN = ("sparsity", "seed", "draws")


@dataclasses.dataclass(frozen=True)
class Followed:
    """The settings in force, and where they come from.

    Attributes:
        settings: An experiment whose every setting is said, apart from those
            that have no effect beside the others: they are None.
        recipe: Name of the recipe.
        borrowed: Why the recipe was not published for this, in words, or "".
        differences: Name of a setting -> `(here, in the recipe)`.
    """

    settings: Any
    recipe: str
    borrowed: str
    differences: Mapping

    def lines(self):
        """What a run says of itself when it begins, a list of texts."""
        recipe = f"Recipe: {self.recipe}"
        if self.borrowed:
            recipe += f", borrowed: {self.borrowed}"
        found = [recipe]
        if self.differences:
            found.append(
                "Differs from it: "
                + ", ".join(
                    f"{name}={in_words(here)} (there {in_words(there)})"
                    for name, (here, there) in self.differences.items()
                )
            )
        in_force = in_force_of(self.settings)
        found.append(
            "Settings: "
            + ", ".join(f"{k}={in_words(v)}" for k, v in in_force.items())
        )
        return found


def in_force_of(settings):
    """The settings that have an effect, a dictionary."""
    return {
        name: value
        for name, value in dataclasses.asdict(settings).items()
        if value is not None and name != "recipe"
    }


def follow(experiment, rows, names, own, fixed, usual):
    """Fills in what an experiment does not say.

    Args:
        experiment: An `Experiment`.
        rows: Name of a recipe -> setting -> value.
        names: Names of the recipes that would fit, the best first; used where
            `experiment.recipe` names none.
        own: Those of them that are published for exactly this.
        fixed: Settings that chose these names: setting -> value.
        usual: Setting -> value, or a function of the values before it, before
            what `Setting.usual` says.

    Returns:
        A `Followed`.

    Raises:
        NoEffectError: If something that was said has no effect.
        ValueError: If the recipe is one of another kind of run.
    """
    said = experiment.said()
    if experiment.recipe is None:
        recipe = next(name for name in names if name in rows)
        values = rows[recipe] | fixed | said
    else:
        recipe = experiment.recipe
        if recipe not in rows:
            raise ValueError(
                f"Invalid value for `recipe`. Expected one of {', '.join(rows)}"
                f" for this kind of run. Received: recipe={recipe!r}"
            )
        values = rows[recipe] | said
    for field in dataclasses.fields(experiment):
        values.setdefault(field.name, of_field(field).usual)
        if values[field.name] is None:
            values[field.name] = field.default
    for name, value in usual.items():
        if name not in said and name not in rows[recipe]:
            values[name] = value(values) if callable(value) else value
    values["recipe"] = recipe
    settings = dataclasses.replace(experiment, **values)
    idle = refuse_without_effect(settings, said)
    return Followed(
        settings=dataclasses.replace(
            settings, **{name: _default(experiment, name) for name in idle}
        ),
        recipe=recipe,
        borrowed=_borrowed(experiment, recipe, own, rows[recipe], settings),
        differences={
            name: (getattr(settings, name), there)
            for name, there in (_usual(experiment) | rows[recipe]).items()
            if name not in idle and getattr(settings, name) != there
        },
    )


def _usual(experiment):
    """What a recipe means that does not name a setting."""
    found = {"validation": 0.0}
    for field in dataclasses.fields(experiment):
        known = of_field(field)
        value = field.default if known.usual is None else known.usual
        if value is not None and field.name not in _LEFT_OPEN:
            found[field.name] = value
    return found


def _default(experiment, name):
    return experiment.__dataclass_fields__[name].default


def _borrowed(experiment, recipe, own, row, settings):
    if experiment.recipe is not None:
        return ""
    reasons = []
    if recipe not in own:
        reasons.append(f"none is published for this on {settings.model}")
    if row.get("dataset", settings.dataset) != settings.dataset:
        reasons.append(
            f"it is that of {row['dataset']}, not of {settings.dataset}"
        )
    return " and ".join(reasons)
