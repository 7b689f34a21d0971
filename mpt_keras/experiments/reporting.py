"""What finished trainings say together: a table and pictures, from lines alone.

Neither models nor images are read, and no Keras is needed.
"""

import pathlib

from mpt_keras import figures, files
from mpt_keras.experiments import columns, lines, plots, tables
from mpt_keras.experiments.errors import RunError
from mpt_keras.experiments.groups import comparisons


def report(source, folder=None, baseline=None, names=None):
    """Prints the table; writes it and the pictures, and says where they are.

    Args:
        source: The folder of a sweep or of a run, which holds `lines.jsonl`,
            or such a file.
        folder: Where to write `table.md`, `table.json` (for programs) and the
            pictures; by default where the lines are.
        baseline: Method whose accuracy is subtracted from that of the others,
            seed by seed; by default "dense" or else "unpruned", where there
            is one.
        names: Columns of the table, out of `columns.COLUMNS`; by default those
            that have something to say.

    Returns:
        A `Comparison` for each network, data set and number of epochs.

    Raises:
        RunError: If no run is finished, a line is not one of a run, or the
            folder cannot be written.

    Example:

    >>> line = {"method": "dense", "sparsity": None, "seed": 0, "folder": "a"}
    >>> line |= {"model": "conv4", "data": "cifar10", "test_accuracy": 0.75}
    >>> lines.append("lines.jsonl", [line])
    >>> (found,) = report(".")
    conv4 on cifar10
    method pruned seeds last test accuracy %
    ...
    dense       -     1                75.00
    In '.': table.md, table.json
    >>> found.groups[0].spread("test_accuracy").mean
    0.75
    """
    file = lines.file_of(source)
    found = read(file, baseline)
    rows = [columns.rows(one, names) for one in found]
    for one, table in zip(found, rows, strict=True):
        print(one.title)
        tables.print_table(table)
    folder = pathlib.Path(folder or file.parent)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = [folder / "table.md", folder / "table.json"]
        files.write_text(written[0], markdown(found, rows))
        files.write_json(written[1], [columns.to_json(one) for one in found])
        hint = _draw(found, folder, written)
    except OSError as error:
        raise RunError(
            f"Cannot write the report: {error}. Expected a folder that can be "
            "written, with space left."
        ) from error
    print(f"In '{folder}': {', '.join(path.name for path in written)}")
    if hint:
        print(hint)
    return found


def read(file, baseline=None):
    """The comparisons of a file of lines.

    Raises:
        RunError: As for `report`.
    """
    found = lines.read(file)
    if not found:
        raise RunError(
            f"No finished run in '{file}'. Expected the folder of a sweep or "
            "of a run, after its first training, or a file of their lines."
        )
    return comparisons(found, baseline)


def markdown(found, rows):
    """The tables of all comparisons, with what they compare above each."""
    said = [
        (f"{one.title}\n\n" if len(found) > 1 else "") + tables.markdown(table)
        for one, table in zip(found, rows, strict=True)
    ]
    return "\n".join(said)


def _draw(found, folder, written):
    """Writes pictures and adds their paths; returns why there are none."""
    for one in found:
        for name, picture in plots.pictures(one).items():
            several = f"-{one.name}" if len(found) > 1 else ""
            path = folder / f"{name}{several}.png"
            try:
                figures.save(picture(), path)
            except ImportError as error:
                return f"No pictures. {error}"
            written.append(path)
    return None
