"""Tickets that come with the package: nothing is fetched.

Their names also stand wherever a ticket's path does: in `load_ticket`,
`summary`, `runtime.load`, and behind `mpt-keras summary`, `verify`, `export`
and `bench`. Only `load` needs Keras.
"""

import builtins
import typing

from mpt_keras import text_tables
from mpt_keras.ticket import packaged
from mpt_keras.ticket.packaged import PretrainedTicket, find

if typing.TYPE_CHECKING:
    import keras

__all__ = ["PretrainedTicket", "Tickets", "find", "list", "load"]

_COLUMNS = {
    "name": lambda ticket: ticket.name,
    "network": lambda ticket: ticket.network,
    "data": lambda ticket: ticket.data,
    "pruned": lambda ticket: f"{ticket.sparsity:.0%}",
    "MPT": lambda ticket: "1/1" if ticket.binary_activations else "1/32",
    "epochs": lambda ticket: str(ticket.epochs),
    "accuracy %": lambda ticket: f"{100 * ticket.accuracy:.2f}",
    "dense %": lambda ticket: f"{100 * ticket.dense_accuracy:.2f}",
    "bytes": lambda ticket: f"{ticket.bytes:,}",
    "bits/weight": lambda ticket: f"{ticket.bits_per_weight:.2f}",
}
_WORDS = ("name", "network", "data")


class Tickets(builtins.list[PretrainedTicket]):
    """A list of `PretrainedTicket`; printed, it is a table."""

    def __str__(self) -> str:
        table = text_tables.new_table(_COLUMNS, _WORDS)
        for cells in self._cells():
            table.add_row(*cells)
        return text_tables.as_text([table])

    __repr__ = __str__

    def markdown(self) -> str:
        """The same table in Markdown."""
        rules = [":---" if name in _WORDS else "---:" for name in _COLUMNS]
        rows = [_COLUMNS, rules, *self._cells()]
        return "".join(f"| {' | '.join(row)} |\n" for row in rows)

    def _repr_markdown_(self):
        return self.markdown()

    def _cells(self):
        return [[cell(one) for cell in _COLUMNS.values()] for one in self]


def list() -> Tickets:
    """The tickets that come with the package.

    Returns:
        `Tickets`, a list of `PretrainedTicket`, which prints as a table: what
        each was searched on, how accurate it is and the same network dense
        after as many epochs, its bytes, and the command that found it.

    Raises:
        TicketError: If their table is damaged.

    Example:

    >>> tickets = mpt_keras.pretrained.list()
    >>> tickets[0].name, tickets[0].classes[:3]
    ('digits_mpt_1_32', ('0', '1', '2'))
    >>> tickets[0].command.split()[:2]
    ['mpt-keras', 'search']
    """
    return Tickets(packaged.tickets())


def load(name: str) -> "keras.Model":
    """Loads a ticket that comes with the package.

    Args:
        name: One of `mpt_keras.pretrained.list()`. (`load_ticket` takes it as
            well, unless a file of that name stands in the working folder.)

    Returns:
        Masked Keras model, not compiled, from images as the data set has them
        (uint8, `(batch, height, width, channels)`: its first layer normalises
        them) to class scores, `(batch, classes)`. It predicts what the file's
        `accuracy` was measured with, and can be trained further.

    Raises:
        ValueError: If there is no such ticket; with the names most like it.
        TicketError: If the file is damaged.

    Example:

    >>> network = mpt_keras.pretrained.load("digits_mpt_1_32")
    >>> network.input_shape, str(network.inputs[0].dtype)
    ((None, 8, 8, 1), 'uint8')
    >>> scores = network.predict_on_batch(np.zeros((2, 8, 8, 1), "uint8"))
    >>> scores.shape
    (2, 10)
    """
    from mpt_keras.ticket.loading import load_ticket

    ticket = find(name)
    ticket.check()
    return load_ticket(ticket.path)
