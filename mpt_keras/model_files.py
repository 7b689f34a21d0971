"""Models from files, whichever of the two kinds they are."""

import os
import zipfile
from typing import Any

import keras

from mpt_keras.ticket.errors import TicketError
from mpt_keras.ticket.loading import load_ticket
from mpt_keras.ticket.packaged import as_path


def read_model(path: str | os.PathLike[str], base: Any = None) -> keras.Model:
    """Loads a model from a `.keras` file or a ticket.

    Args:
        path: The file; whatever does not end in `.keras` is taken for a
            ticket. Or the name of a packaged ticket.
        base: The ticket that a ticket was saved against.

    Raises:
        ValueError: If it is neither (`TicketError`, which is one), or damaged.
        OSError: If it cannot be read.
    """
    path = as_path(path)
    if path.suffix in (".h5", ".hdf5"):
        raise ValueError(
            f"A file of weights says nothing of the model: '{path}'. Expected "
            "a .keras file or a ticket, or a model that has loaded them."
        )
    if not path.exists():
        raise FileNotFoundError(f"There is no file '{path}'.")
    is_ticket = path.suffix != ".keras"
    if path.is_dir() or (is_ticket and not _may_be_ticket(path)):
        raise TicketError(
            f"'{path}' is neither a .keras file nor a ticket. To compare an "
            "export with the model that it was made from: mpt-keras verify "
            "MODEL --against EXPORT"
        )
    if is_ticket:
        return load_ticket(path, base)
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"'{path}' is damaged: no .keras file, which is a whole zip "
            "archive. Save the model again, or copy the file again."
        )
    return keras.models.load_model(path, compile=False)


def _may_be_ticket(path):
    """Whether a file, as far as it goes, begins as safetensors do."""
    with path.open("rb") as file:
        return file.read(9)[8:] in (b"", b"{")
