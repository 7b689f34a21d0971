"""What a conversion did with each layer, as data and as a table."""

import collections
import dataclasses
import weakref

from mpt_keras import text_tables

_COLUMNS = ("layer", "class", "became", "weights", "sparsity", "remark")


@dataclasses.dataclass(frozen=True)
class ConvertedLayer:
    """One layer of a converted model.

    Attributes:
        name: Of the layer; where several share it, with the names of those
            that hold it before it.
        kind: Its class.
        masked_kind: Class of its masked form; None where it was left alone.
        reason: Why it was left alone; None where it was not.
        weights: Number of weights of the kernels masked; of a layer that was
            left alone, of all its weights.
        sparsity: Dictionary, name of the kernel -> fraction pruned; empty
            where it was left alone.
        remark: What did not carry over, or None.
    """

    name: str
    kind: str
    masked_kind: str | None
    reason: str | None
    weights: int
    sparsity: dict[str, float]
    remark: str | None = None


@dataclasses.dataclass(frozen=True)
class ConversionReport:
    """What `conversion_report` returns; `print` shows it as a table.

    Attributes:
        name: Of the model.
        rows: A `ConvertedLayer` for every layer, in the model's order.
    """

    name: str
    rows: tuple[ConvertedLayer, ...]

    @property
    def masked(self) -> tuple[ConvertedLayer, ...]:
        """The rows of the layers that became masked ones."""
        return tuple(row for row in self.rows if row.masked_kind)

    @property
    def left_alone(self) -> tuple[ConvertedLayer, ...]:
        """The rows of the others."""
        return tuple(row for row in self.rows if not row.masked_kind)

    def text(self, line_length: int | None = None) -> str:
        """Returns the table; layers without weights are counted below it.

        Args:
            line_length: Most characters of a line, at which text is folded;
                by default they are as long as they are.
        """
        words = set(_COLUMNS) - {"weights", "sparsity"}
        table = text_tables.new_table(_COLUMNS, words)
        for row in self.rows:
            if row.masked_kind or row.weights:
                table.add_row(*_cells(row))
        parts = [f"Model: {self.name}", table, self._totals()]
        without = collections.Counter(
            row.kind for row in self.left_alone if not row.weights
        )
        if without:
            kinds = (f"{count} {kind}" for kind, count in without.items())
            parts.append(f"Without weights: {', '.join(kinds)}")
        return text_tables.as_text(parts, line_length)

    def _totals(self):
        weights = sum(row.weights for row in self.masked)
        others = sum(row.weights for row in self.left_alone)
        return (
            f"Masked: {_count(self.masked)}, {weights:,} weights. "
            f"Left alone: {_count(self.left_alone)}, {others:,} weights."
        )

    def __str__(self):
        return self.text()


def _count(rows):
    return f"{len(rows)} layer{'' if len(rows) == 1 else 's'}"


def _cells(row):
    values = list(dict.fromkeys(row.sparsity.values()))
    return (
        row.name,
        row.kind,
        row.masked_kind or "-",
        f"{row.weights:,}",
        ", ".join(f"{value:.4g}" for value in values),
        row.reason or row.remark or "",
    )


_REPORTS = weakref.WeakKeyDictionary()


def remember(model, report):
    """Makes a report the one that `conversion_report` finds."""
    _REPORTS[model] = report


def conversion_report(model) -> ConversionReport:
    """Returns what `convert` did with each layer, and why.

    Args:
        model: What `convert` returned. A saved and loaded model has no report.

    Returns:
        `ConversionReport`: `print` shows it as a table.

    Raises:
        ValueError: If the model is no such.

    Example:

    >>> model = keras.Sequential([keras.Input((8,))])
    >>> model.add(keras.layers.Dense(4, name="hidden"))
    >>> model.add(keras.layers.BatchNormalization(name="norm"))
    >>> report = mpt_keras.conversion_report(mpt_keras.convert(model))
    >>> [(row.name, row.masked_kind, row.reason) for row in report.rows]
    [('hidden', 'MPTDense', None), ('norm', None, 'no kernel')]
    """
    report = _REPORTS.get(model) if hasattr(model, "_layers") else None
    if report is None:
        raise ValueError(
            "Invalid value for argument `model`. Expected what "
            "`mpt_keras.convert` returned in this process. Received: "
            f"model={model!r}"
        )
    return report
