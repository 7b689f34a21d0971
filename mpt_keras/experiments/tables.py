"""Rows of text as a table, on the screen and in Markdown."""

import rich.box
import rich.console
import rich.table

_UNLIMITED = 10_000


def print_table(rows):
    """Prints rows of text, the first the names of the columns."""
    first, *others = rows
    table = rich.table.Table(
        box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False
    )
    for number, name in enumerate(first):
        table.add_column(name, justify="right" if number else "left")
    for row in others:
        table.add_row(*row)
    # Wider than the terminal rather than with figures cut short.
    needed = _console(_UNLIMITED).measure(table).maximum
    _console(max(_console().width, needed)).print(table)


def _console(width=None):
    # A notebook shows it as a terminal does, among what else is printed.
    return rich.console.Console(width=width, force_jupyter=False)


def markdown(rows):
    """The same rows as Markdown."""
    first, *others = rows
    line = ("---", *["---:"] * (len(first) - 1))
    return "".join(f"| {' | '.join(row)} |\n" for row in [first, line, *others])
