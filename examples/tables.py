"""Rows of text as a table, on the screen and in a file."""

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
    needed = rich.console.Console(width=_UNLIMITED).measure(table).maximum
    width = max(rich.console.Console().width, needed)
    rich.console.Console(width=width).print(table)


def markdown(rows):
    """The same rows as Markdown."""
    first, *others = rows
    line = ("---", *["---:"] * (len(first) - 1))
    return "".join(f"| {' | '.join(row)} |\n" for row in [first, line, *others])


def replace(path, write):
    """Writes beside, then renames, so that no half file is ever seen.

    Args:
        path: The file.
        write: Function that writes a file, given its path.
    """
    beside = path.with_suffix(".partial")
    write(beside)
    beside.replace(path)


def replace_text(path, text):
    replace(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def replace_picture(path, figure):
    """The same for a matplotlib figure, a PNG."""
    replace(path, lambda beside: figure.savefig(beside, format="png"))
