"""What is in a ticket file, without Keras."""

import dataclasses
import hashlib
import json
import math
import os
import pathlib

import numpy as np

from mpt_keras.ticket.container import Contents
from mpt_keras.ticket.errors import TicketError
from mpt_keras.ticket.kernels import (
    StoredKernel,
    check_record,
    decode_kernel,
    feed,
)

# Two GiB as float32: as many as a file may announce unless more are expected.
MAX_WEIGHTS = 2**29


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
    """

    config: dict
    kernels: dict[str, StoredKernel]
    weights: dict[str, np.ndarray]
    checksum: str
    file_bytes: int
    description: bytes = dataclasses.field(repr=False)


def read_ticket(
    path: str | os.PathLike[str],
    base: "Ticket | str | os.PathLike[str] | None" = None,
    max_weights: int = MAX_WEIGHTS,
) -> Ticket:
    """Reads a ticket file, without Keras or a backend.

    All that the file holds is checked: its checksum, the masks, and that the
    kernels drawn from their seeds are those that were saved.

    Args:
        path: The file.
        base: The ticket, or its file, that this one was saved against.
        max_weights: Refuse a file that announces more of them, before any
            memory is taken for them.

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
    data = pathlib.Path(path).read_bytes()
    if base is not None and not isinstance(base, Ticket):
        base = read_ticket(base, max_weights=max_weights)
    try:
        return parse_ticket(data, base, max_weights)
    except TicketError as error:
        raise TicketError(f"Cannot read the ticket '{path}'. {error}") from None


def parse_ticket(
    data: bytes, base: Ticket | None = None, max_weights: int = MAX_WEIGHTS
) -> Ticket:
    """`read_ticket` of the bytes of a file."""
    contents = Contents(data)
    _check_base(contents.base, base)
    text = contents.description(base.description if base else None)
    try:
        description = json.loads(text)
        config = description["config"]
        records, names = description["kernels"], description["weights"]
        rebuilt = description["rebuilt"]
        is_known = isinstance(config, dict) and isinstance(names, list)
        total = sum(math.prod(check_record(record)[1]) for record in records)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, TicketError):
            raise
        raise TicketError(f"Its description is damaged: {error!r}") from error
    except RecursionError as error:
        raise TicketError("Its description is too deep.") from error
    if not is_known:
        raise TicketError("Its description is damaged.")
    if total > max_weights:
        raise TicketError(
            f"It announces {total} weights. Expected at most {max_weights}; "
            "if that is right, pass max_weights=..."
        )
    kernels = {}
    digest = hashlib.sha256()
    for record in records:
        before = kernel_in_place(base, record["place"], record["shape"])
        kernel = decode_kernel(record, contents.arrays, before)
        feed(digest, kernel.mask, kernel.kernel[kernel.mask])
        kernels[kernel.name] = kernel
    if len(kernels) != len(records):
        raise TicketError("Two of its kernels have the same name.")
    if digest.hexdigest() != rebuilt:
        raise TicketError(
            "The kernels drawn from their seeds are not those that were saved."
        )
    return Ticket(
        config,
        kernels,
        _weights(names, contents.arrays, base),
        contents.checksum,
        len(data),
        text,
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
        f"It was saved against another ticket, that of the checksum {expected}."
        f" Expected this one as base=... Received: {found}"
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
