"""The folder of `TaskMasks.save`: names of its files, and its list of tasks."""

import contextlib
import json
import re

from mpt_keras.ticket.errors import TicketError

NETWORK, START, INDEX = "network.ticket", "start.ticket", "tasks.json"
# A name is that of a file, on every system.
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_. -]{0,98}[A-Za-z0-9_-])?")
_NO_FILES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d) *(\..*)?", re.IGNORECASE)


def check_name(name):
    is_name = isinstance(name, str) and _NAME.fullmatch(name)
    if not is_name or _NO_FILES.fullmatch(name):
        raise ValueError(
            "Invalid value for argument `name`. Expected at most 100 letters, "
            "digits, '_', '-', '.' and spaces, the first and the last no '.' "
            "or space, as a file is called so on every system. Received: "
            f"name={name!r}"
        )


def ticket_path(folder, name):
    return folder / "tasks" / f"{name}.ticket"


@contextlib.contextmanager
def named_in_errors(path):
    """Says in errors which file is meant."""
    try:
        yield path
    except FileNotFoundError as error:
        raise TicketError(f"There is no file '{path}'.") from error
    except TicketError as error:
        raise TicketError(f"Cannot read the ticket '{path}'. {error}") from None


def read_index(path):
    """Names of the tasks, and of the current one or None."""
    with named_in_errors(path):
        data = path.read_bytes()
    try:
        index = json.loads(data)
        names, current = index["tasks"], index["current"]
        for name in names:
            check_name(name)
        known = {None, *names}
        is_whole = index["version"] == 1 and isinstance(names, list)
        is_whole = is_whole and len(known) == len(names) + 1
        is_whole = is_whole and current in known
    except (ValueError, KeyError, TypeError, RecursionError):
        is_whole = False
    if not is_whole:
        raise TicketError(
            f"'{path}' is no list of tasks that TaskMasks.save wrote."
        )
    return names, current
