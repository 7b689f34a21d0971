"""A comparison as rows of text for readers, and as data for programs."""

import dataclasses
from collections.abc import Callable

from mpt_keras.experiments.errors import RunError

_NONE = "-"


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        title: What stands above it, given the `Comparison`.
        text: What stands in it, given a `Comparison` and a `Group`; None
            where there is nothing to say.
        is_shown: Whether it stands there unasked, given the `Comparison`; by
            default where a group has something to say.
    """

    title: Callable
    text: Callable
    is_shown: Callable | None = None

    def is_wanted(self, comparison):
        if self.is_shown is not None:
            return self.is_shown(comparison)
        return any(self.text(comparison, one) for one in comparison.groups)


def percent(value):
    return f"{100 * value:.2f}"


def pruned(sparsity):
    return None if sparsity is None else f"{100 * sparsity:.4g} %"


def accuracy(spread):
    """Mean and deviation in percent, the mean alone where there is but one."""
    if spread is None:
        return None
    if spread.deviation is None:
        return percent(spread.mean)
    return f"{percent(spread.mean)} ± {percent(spread.deviation)}"


def _difference(difference, seeds):
    if difference is None:
        return None
    text = f"{100 * difference.mean:+.2f}"
    if difference.low is not None:
        low, high = 100 * difference.low, 100 * difference.high
        text += f" ({low:+.2f} to {high:+.2f})"
    fewer = difference.seeds < seeds
    return f"{text}, {_seeds(difference.seeds)}" if fewer else text


def _seeds(count):
    return "1 seed" if count == 1 else f"{count} seeds"


def _seconds(value):
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _mean(name, form="{:,.0f}".format):
    """The text of a column that says the mean of a value."""

    def text(comparison, group):
        mean = group.mean(name)
        return None if mean is None else form(mean)

    return text


def _always(comparison):
    return True


def _never(comparison):
    return False


def _setting(name, form):
    """A column of a setting, unasked only where it is not the same."""

    def text(comparison, group):
        value = getattr(group, name)
        return None if value is None else form(value)

    return Column(
        lambda _: name.replace("_", " "),
        text,
        lambda comparison: comparison.varies(name),
    )


COLUMNS = {
    "method": Column(lambda _: "method", lambda _, g: g.method, _always),
    "pruned": Column(
        lambda _: "pruned", lambda _, g: pruned(g.sparsity), _always
    ),
    "width": _setting("width", "{:g}".format),
    "rewind_step": _setting("rewind_step", "{:,}".format),
    "seeds": Column(lambda _: "seeds", lambda _, g: str(len(g.seeds)), _always),
    "weights_kept": Column(lambda _: "weights kept", _mean("weights_kept")),
    "ticket_bytes": Column(lambda _: "ticket bytes", _mean("ticket_bytes")),
    "last": Column(
        lambda _: "last test accuracy %",
        lambda _, g: accuracy(g.spread("test_accuracy")),
        _always,
    ),
    "best": Column(
        lambda _: "at best validation %",
        lambda _, g: accuracy(g.spread("best.test_accuracy")),
    ),
    "early_stop": Column(
        lambda _: "early stop, iteration", _mean("early_stop.iteration")
    ),
    "early_stop_accuracy": Column(
        lambda _: "accuracy there %",
        lambda _, g: accuracy(g.spread("early_stop.test_accuracy")),
    ),
    "difference": Column(
        lambda c: f"last less {c.baseline} (95 %)",
        lambda c, g: _difference(c.difference(g), len(g.seeds)),
    ),
    "training_seconds": Column(
        lambda _: "training s", _mean("training_seconds", _seconds)
    ),
    "seconds": Column(lambda _: "all s", _mean("seconds", _seconds), _never),
}


def rows(comparison, names=None):
    """Rows of text, the first the titles of the columns.

    Args:
        comparison: `Comparison`.
        names: Names in `COLUMNS`; by default those that say something.

    Raises:
        RunError: If there is no column of a name.
    """
    unknown = [name for name in names or () if name not in COLUMNS]
    if unknown:
        raise RunError(
            f"No column '{unknown[0]}'. Expected some of {', '.join(COLUMNS)}."
        )
    columns = (
        [COLUMNS[name] for name in names]
        if names
        else [one for one in COLUMNS.values() if one.is_wanted(comparison)]
    )
    return [
        tuple(column.title(comparison) for column in columns),
        *(
            tuple(column.text(comparison, group) or _NONE for column in columns)
            for group in comparison.groups
        ),
    ]


_SPREADS = ("test_accuracy", "best.test_accuracy", "early_stop.test_accuracy")
_MEANS = (
    *("weights", "weights_kept", "ticket_bytes", "early_stop.iteration"),
    *("training_seconds", "seconds"),
)


def to_json(comparison):
    """The same as a dictionary, with fractions instead of percent."""
    return {
        "model": comparison.model,
        "data": comparison.data,
        "epochs": comparison.epochs,
        "baseline": comparison.baseline,
        "groups": [
            {
                "method": group.method,
                "sparsity": group.sparsity,
                "width": group.width,
                "rewind_step": group.rewind_step,
                "seeds": group.seeds,
                **{name: _dictionary(group.spread(name)) for name in _SPREADS},
                "difference": _dictionary(comparison.difference(group)),
                **{name: group.mean(name) for name in _MEANS},
            }
            for group in comparison.groups
        ],
    }


def _dictionary(found):
    return None if found is None else dataclasses.asdict(found)
