"""Lines of many networks as one table: a row for each, methods side by side."""

from mpt_keras.experiments import columns
from mpt_keras.experiments.errors import RunError
from mpt_keras.experiments.groups import by_seed, value_of
from mpt_keras.experiments.spread import SeedSpread


def pivot(lines, rows, across, values):
    """Rows of text, the first the titles of the columns.

    Args:
        lines: Dictionaries, one for each training or measurement.
        rows: Names of what tells rows apart, such as `["model", "epochs"]`.
        across: Names of what tells columns apart, such as
            `["method", "sparsity"]`; each combination has a column.
        values: Names of numbers that stand in the cells. A form may follow
            after a colon, as in `"epoch_seconds:.2f"`. What ends in
            `accuracy` is a mean with its deviation over the seeds, in
            percent, the others means. Of several values each has its columns.

    Raises:
        RunError: If no line has something of a name, or two lines of a cell
            are those of one seed.
    """
    names = [value.partition(":")[0] for value in values]
    for name in (*rows, *across, *names):
        if all(value_of(line, name) is None for line in lines):
            raise RunError(f"No line says anything of '{name}'.")
    down, cells = {}, {}
    for line in lines:
        row, column = _key(line, rows), _key(line, across)
        down.setdefault(row)
        cells.setdefault(column, {}).setdefault(row, []).append(line)
    shown = [
        (value, column)
        for value in values
        for column in cells
        if any(
            _text(found, value) is not None for found in cells[column].values()
        )
    ]
    titles = [
        _title(across, column, value if len(values) > 1 else None)
        for value, column in shown
    ]
    return [
        (*(_words(name) for name in rows), *titles),
        *(
            (
                *(
                    _said(name, part)
                    for name, part in zip(rows, row, strict=True)
                ),
                *(
                    _text(cells[column].get(row, []), value) or ""
                    for value, column in shown
                ),
            )
            for row in down
        ),
    ]


def _key(line, names):
    return tuple(value_of(line, name) for name in names)


def _title(names, column, value):
    parts = [
        _said(name, part)
        for name, part in zip(names, column, strict=True)
        if part is not None
    ]
    title = ", ".join(parts)
    if value is None:
        return title
    return f"{title}: {_words(value)}" if title else _words(value)


def _words(name):
    name = name.partition(":")[0]
    unit = " %" if name.endswith("accuracy") else ""
    return name.replace(".", " ").replace("_", " ") + unit


def _said(name, value):
    if value is None:
        return "-"
    return columns.pruned(value) if name == "sparsity" else f"{value}"


def _text(lines, value):
    name, _, form = value.partition(":")
    found = list(by_seed(lines, name).values())
    if not found:
        return None
    spread = SeedSpread.of(found)
    if name.endswith("accuracy"):
        return columns.accuracy(spread)
    return format(spread.mean, form or ".4g")
