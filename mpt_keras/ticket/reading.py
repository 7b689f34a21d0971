"""What is in a ticket file, without Keras."""

import dataclasses
import hashlib
import json
import math
import os
import reprlib

import numpy as np

from mpt_keras.ticket.container import Contents
from mpt_keras.ticket.errors import TicketError
from mpt_keras.ticket.kernels import StoredKernel, decode_kernel, feed
from mpt_keras.ticket.packaged import as_path
from mpt_keras.ticket.records import check_record

# One GiB as float32: as many as a file may announce unless more are expected.
MAX_WEIGHTS = 2**28


@dataclasses.dataclass(frozen=True, eq=False)
class Ticket:
    """What a ticket file holds.

    Attributes:
        config: The model as Keras serializes it, a dictionary for JSON.
        kernels: Dictionary, name -> `StoredKernel`, in the model's order.
        weights: Dictionary, name of a variable, with that of its layer before
            it -> NumPy array: all weights but the kernels and scores.
        checksum: SHA-256 of the file, in hexadecimal digits.
        file_bytes: Size of the file.
        description: The bytes of its description, which JSON is.
        trainable: Which layers and variables of the network train, where its
            configuration does not say so; see docs/ticket_format.md.
    """

    config: dict
    kernels: dict[str, StoredKernel]
    weights: dict[str, np.ndarray]
    checksum: str
    file_bytes: int
    description: bytes = dataclasses.field(repr=False)
    trainable: str | None = dataclasses.field(default=None, repr=False)


def read_ticket(
    path: str | os.PathLike[str],
    base: "Ticket | str | os.PathLike[str] | None" = None,
    max_weights: int = MAX_WEIGHTS,
) -> Ticket:
    """Reads a ticket file, without Keras or a backend.

    All that the file holds is checked: its checksum, the masks, and that the
    kernels drawn from their seeds are those that were saved.

    Args:
        path: The file, or the name of a packaged ticket.
        base: The ticket, or its file, that this one was saved against.
        max_weights: Refuse a file that announces more of them, before any
            memory is taken for them: about 16 bytes for each.

    Returns:
        `Ticket`.

    Raises:
        TicketError: If the file is no whole, valid ticket, or `base` is not
            the one that it was saved against.
        OSError: If the file cannot be read.

    Example:

    >>> mpt_keras.save_ticket(model, "first.ticket")
    >>> ticket = mpt_keras.ticket.read_ticket("first.ticket")
    >>> [kernel.sparsity for kernel in ticket.kernels.values()]
    [0.5, 0.5]
    """
    data = as_path(path).read_bytes()
    base = as_ticket(base, max_weights)
    try:
        return parse_ticket(data, base, max_weights)
    except TicketError as error:
        raise TicketError(f"Cannot read the ticket '{path}'. {error}") from None


def as_ticket(base, max_weights=MAX_WEIGHTS):
    """Returns a ticket of a file; what is one, and None, as it is.

    Raises:
        TicketError: As for `read_ticket`.
    """
    if base is None or isinstance(base, Ticket):
        return base
    if not isinstance(base, (str, bytes, os.PathLike)):
        raise ValueError(
            "Invalid value for argument `base`. Expected a ticket's file, or "
            f"what `read_ticket` returns. Received: {type(base).__name__}"
        )
    return read_ticket(base, max_weights=max_weights)


def parse_ticket(
    data: bytes, base: Ticket | None = None, max_weights: int = MAX_WEIGHTS
) -> Ticket:
    """`read_ticket` of the bytes of a file."""
    try:
        return _parsed(data, base, max_weights)
    except TicketError:
        raise
    except Exception as error:
        raise TicketError(
            f"It is damaged. {type(error).__name__}: {reprlib.repr(error)}"
        ) from error


def _parsed(data, base, max_weights):
    contents = Contents(data)
    _check_base(contents.base, base)
    text = contents.description(base.description if base else None)
    description = json.loads(text)
    names = description["weights"]
    if not isinstance(names, list) or not all(
        isinstance(name, str) for name in names
    ):
        raise TicketError("Its description names weights by no text.")
    if not isinstance(description["config"], dict):
        raise TicketError("Its description holds no network.")
    records = description["kernels"]
    if contents.version == 1:  # which knows no such key
        for record in records:
            record.pop("frozen", None)
    total = 0
    for record in records:
        total += math.prod(check_record(record)[1])
        if total > max_weights:
            raise TicketError(
                f"It announces {total} weights or more. Expected at most "
                f"{max_weights}; if that is right, pass max_weights=..."
            )
    kernels = {}
    digest = hashlib.sha256()
    for record in records:
        before = kernel_in_place(base, record["place"], record["shape"])
        stored, values = decode_kernel(record, contents.arrays, before)
        feed(digest, stored.mask, values)
        kernels[stored.name] = stored
    if len(kernels) != len(records):
        raise TicketError("Two of its kernels have the same name.")
    if digest.hexdigest() != description["rebuilt"]:
        raise TicketError(
            "The kernels drawn from their seeds are not those that were saved."
        )
    return Ticket(
        description["config"],
        kernels,
        _weights(names, contents.arrays, base),
        contents.checksum,
        len(data),
        text,
        description.get("trainable"),
    )


def _check_base(expected, base):
    found = base.checksum if base else None
    if expected == found:
        return
    if expected is None:
        raise TicketError(
            "It is whole by itself. Expected base=None. Received: a base."
        )
    raise TicketError(
        "It was saved against another ticket, that of the checksum "
        f"{reprlib.repr(expected)}. Expected this one as base=...; if that one "
        "is an update itself, base=read_ticket(path, base=...). Received: "
        f"{found}"
    )


def kernel_in_place(base, place, shape):
    """The kernel of a ticket that another one's is like, or None."""
    for kernel in base.kernels.values() if base else ():
        if kernel.place == place and kernel.shape == tuple(shape):
            return kernel
    return None


def _weights(names, arrays, base):
    before = list(base.weights.values()) if base else []
    weights = {}
    for number, name in enumerate(names):
        array = arrays.get(f"weights/{name}")
        if array is None and number < len(before):
            array = before[number]
        if array is None:
            raise TicketError(f"The file lacks the weight '{name}'.")
        weights[name] = array
    return weights
