"""Tables of a Markdown document, made from the lines of runs beside it.

    <!-- table: results/lenet.jsonl -->

    <!-- end -->

holds the table that a report makes of these lines, whose path is relative to
the document. `columns=method,pruned,last` chooses from `columns.COLUMNS`, and
`baseline=` a method. With `rows=model across=method,sparsity
values=test_accuracy` it is a table of many networks, see `pivot`. Only
comments at the beginning of a line count.
"""

import pathlib

from mpt_keras import files
from mpt_keras.experiments import columns, lines, tables
from mpt_keras.experiments.errors import RunError
from mpt_keras.experiments.groups import comparisons
from mpt_keras.experiments.pivot import pivot
from mpt_keras.experiments.reporting import markdown

_BEGIN, _END = "<!-- table:", "<!-- end -->"
_OPTIONS = ("columns", "baseline", "rows", "across", "values")


def update_document(path, check=False):
    """Makes all tables of a document anew from their lines.

    Args:
        path: The Markdown document.
        check: Whether to change nothing, only to say what would change.

    Returns:
        The comments above the tables that were not what their lines give.

    Raises:
        RunError: If the document or lines cannot be read or written, or a
            comment is none that can be understood.

    Example:

    >>> line = {"folder": "a", "model": "conv4", "seed": 0, "step_ms": 1.5286}
    >>> lines.append("steps.jsonl", [line])
    >>> comment = "<!-- table: steps.jsonl rows=model values=step_ms:.1f -->"
    >>> path = pathlib.Path("results.md")
    >>> _ = path.write_text(f"{comment}\\n<!-- end -->")
    >>> update_document(path) == [comment]
    True
    >>> print(path.read_text().splitlines()[4])
    | conv4 | 1.5 |
    """
    path = pathlib.Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        new, changed = _filled(text, path)
        if changed and not check:
            files.write_text(path, new)
    except OSError as error:
        raise RunError(f"Cannot update '{path}': {error}.") from error
    return changed


def _filled(text, path):
    """The document with its tables, and the comments of those that changed."""
    filled, changed = [], []
    begin = table = None
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        is_begin, is_end = line.startswith(_BEGIN), line.startswith(_END)
        if (is_begin and begin) or (is_end and not begin):
            raise RunError(
                f"Line {number} of '{path}': expected '{_BEGIN} ... -->' and "
                f"'{_END}' in turn. Received: {line.strip()}"
            )
        if is_end:
            new = _table(begin.strip(), path)
            if "".join(table) != new:
                changed.append(begin.strip())
            filled += [begin, new, line]
            begin = None
        elif is_begin:
            begin, table = line, []
        else:
            (table if begin else filled).append(line)
    if begin:
        raise RunError(f"'{path}': no '{_END}' after {begin.strip()}")
    return "".join(filled), changed


def _table(comment, path):
    """What stands between a comment and its end."""
    file, options = _parsed(comment, path)
    found = lines.read(file)
    if not found:
        raise RunError(f"'{path}': no lines in '{file}', for {comment}")
    try:
        return f"\n{_markdown(found, options)}\n"
    except RunError as error:
        raise RunError(f"'{path}', {comment}: {error}") from error


def _markdown(found, options):
    lists = {name: value.split(",") for name, value in options.items()}
    if "rows" in options:
        values = lists.get("values", ["test_accuracy"])
        rows = pivot(found, lists["rows"], lists.get("across", []), values)
        return tables.markdown(rows)
    compared = comparisons(found, options.get("baseline"))
    names = lists.get("columns")
    return markdown(compared, [columns.rows(one, names) for one in compared])


def _parsed(comment, path):
    """The file of a comment, and its options."""
    words = comment.removeprefix(_BEGIN).removesuffix("-->").split()
    options = dict(word.partition("=")[::2] for word in words[1:])
    unknown = [name for name in options if name not in _OPTIONS]
    if not words or unknown or not all(options.values()):
        raise RunError(
            f"'{path}': expected '{_BEGIN} FILE NAME=VALUE ... -->' with names "
            f"out of {', '.join(_OPTIONS)}. Received: {comment}"
        )
    return path.parent / words[0], options
