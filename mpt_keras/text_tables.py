"""Tables as text, of the reports that users print."""

import io
import sys

_AS_WIDE_AS_IT_IS = 10_000


def new_table(columns, left):
    """A table of `rich`, without lines between the columns.

    Args:
        columns: Their names.
        left: Those of them that are words; the others are numbers.
    """
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    for column in columns:
        justify = "left" if column in left else "right"
        table.add_column(column, justify=justify, overflow="fold")
    return table


def as_text(parts, line_length=None):
    """What `rich` prints of tables and lines, without colours.

    Args:
        parts: Tables and strings, one below the other.
        line_length: Most characters of a line, at which text is folded; by
            default they are as long as they are.
    """
    from rich.console import Console

    file = io.StringIO()
    console = Console(
        file=file,
        width=line_length or _AS_WIDE_AS_IT_IS,
        highlight=False,
        emoji=False,
        markup=False,
        # Whatever surrounds it: a notebook would get the parts one by one,
        # and FORCE_COLOR codes among the letters.
        force_jupyter=False,
        force_terminal=False,
    )
    for part in parts:
        console.print(part)
    lines = file.getvalue().splitlines()
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def print_text(text: str) -> None:
    """Prints, with other characters for those that the stream cannot encode.

    Example:

    >>> print_text("-1, 0, +1")
    -1, 0, +1
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        plain = text.replace("\N{BOX DRAWINGS LIGHT HORIZONTAL}", "-")
        text = plain.encode(encoding, "backslashreplace").decode(encoding)
    print(text)
