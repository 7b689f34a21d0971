"""The tickets that come with the package: what they are, and their files.

A table of JSON stands beside the files. Reading it needs neither Keras nor
NumPy, and nothing is ever fetched.
"""

import dataclasses
import difflib
import hashlib
import json
import os
import pathlib

from mpt_keras.ticket.errors import TicketError

FOLDER = pathlib.Path(__file__).parents[1] / "pretrained_tickets"
TABLE = "table.json"
_SUFFIX = ".ticket"
_LISTED = "mpt_keras.pretrained.list(), or `mpt-keras pretrained`, lists them."
_AGAIN = (
    "Install mpt_keras again: pip install --force-reinstall --no-deps mpt_keras"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainedTicket:
    """A ticket that comes with the package.

    Accuracies are those of all test images after the last epoch; nothing was
    chosen on them.

    Attributes:
        name: What `mpt_keras.pretrained.load` takes.
        card: What it is, in one line.
        network: Its architecture.
        data: The images that it was searched on.
        dataset: What `mpt-keras search` calls them.
        pixels: What it takes: shape, type and range of an image.
        classes: Names of the classes, in the order of the outputs.
        sparsity: Fraction of the weights that is pruned.
        binary_activations: Whether it is MPT-1/1; MPT-1/32 if not.
        epochs: Of the search, and of the dense network beside it.
        accuracy: Fraction of the test images that this file classifies
            rightly, measured with it on TensorFlow.
        dense_accuracy: That of the same network, trained the ordinary way.
        test_images: Number of test images.
        weights: Number of weights of all kernels.
        weights_kept: Those that are not pruned.
        bytes: Size of the file, everything in it.
        command: What found it.
        dense_command: What trained the dense network.
        sha256: Of the file, in hexadecimal digits.

    Example:

    >>> ticket = mpt_keras.pretrained.list()[0]
    >>> ticket.name, ticket.network, ticket.sparsity, ticket.test_images
    ('digits_mpt_1_32', 'Conv-2, width 0.25', 0.5, 360)
    """

    name: str
    card: str
    network: str
    data: str
    dataset: str
    pixels: str
    classes: tuple[str, ...]
    sparsity: float
    binary_activations: bool
    epochs: int
    accuracy: float
    dense_accuracy: float
    test_images: int
    weights: int
    weights_kept: int
    bytes: int
    command: str
    dense_command: str
    sha256: str

    @property
    def bits_per_weight(self) -> float:
        """Of the whole file, pruned weights counted as well."""
        return 8 * self.bytes / self.weights

    @property
    def path(self) -> pathlib.Path:
        """Of the file."""
        return FOLDER / f"{self.name}{_SUFFIX}"

    def check(self) -> None:
        """Raises `TicketError` unless the file is the one of the table."""
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise TicketError(
                f"The packaged ticket '{self.name}' cannot be read: "
                f"{error.strerror or error} ('{self.path}'). {_AGAIN}"
            ) from error
        found = hashlib.sha256(data).hexdigest()
        if found != self.sha256:
            raise TicketError(
                f"The packaged ticket '{self.name}' is damaged. Expected the "
                f"SHA-256 {self.sha256[:12]}... of '{self.path}'. Received: "
                f"{found[:12]}... {_AGAIN}"
            )

    def __str__(self) -> str:
        activations = "1" if self.binary_activations else "32"
        return (
            f"{self.name}: {self.card}\n"
            f"  network     {self.network}, {self.weights:,} weights, "
            f"{self.weights_kept:,} kept ({self.sparsity:.0%} pruned), "
            f"MPT-1/{activations}\n"
            f"  data        {self.data}; images {self.pixels}\n"
            f"  classes     {', '.join(self.classes)}\n"
            f"  accuracy    {self.accuracy:.2%} of {self.test_images:,} test "
            f"images; the same network dense {self.dense_accuracy:.2%}; "
            f"{self.epochs} epochs each\n"
            f"  size        {self.bytes:,} bytes, {self.bits_per_weight:.2f} "
            "bits per weight\n"
            f"  found by    {self.command}\n"
            f"  dense by    {self.dense_command}\n"
            f"  file        {self.path}\n"
            f"  sha256      {self.sha256}"
        )


def tickets() -> tuple[PretrainedTicket, ...]:
    """Reads the table.

    Raises:
        TicketError: If it cannot be read.
    """
    path = FOLDER / TABLE
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(rows, list):
            raise TypeError("it is no list")
        return tuple(
            PretrainedTicket(**row | {"classes": tuple(row["classes"])})
            for row in rows
        )
    except (
        *(OSError, ValueError, TypeError, KeyError, RecursionError),
    ) as error:
        raise TicketError(
            f"The table of the packaged tickets, '{path}', is damaged: "
            f"{error}. {_AGAIN}"
        ) from error


def find(name: str) -> PretrainedTicket:
    """What is known of the packaged ticket of a name.

    Args:
        name: One of `mpt_keras.pretrained.list()`.

    Returns:
        `PretrainedTicket`; `print` shows all of it.

    Raises:
        ValueError: If there is none; with the names that are most like it.
        TicketError: If the table cannot be read.

    Example:

    >>> mpt_keras.pretrained.find("digits_mpt_1_32").path.name
    'digits_mpt_1_32.ticket'
    >>> try:
    ...     mpt_keras.pretrained.find("digits-mpt-1-32")
    ... except ValueError as error:
    ...     print(error)
    Invalid value ... Did you mean 'digits_mpt_1_32'? ...
    """
    known = {ticket.name: ticket for ticket in tickets()}
    if isinstance(name, str) and name in known:
        return known[name]
    raise ValueError(
        "Invalid value for argument `name`. Expected the name of a ticket that "
        f"comes with the package. Received: name={name!r}."
        f"{_suggestions(name, known)} {_LISTED}"
        + (
            " mpt_keras.load_ticket loads a file."
            if isinstance(name, (str, os.PathLike))
            else ""
        )
    )


def as_path(path: str | bytes | os.PathLike) -> pathlib.Path:
    """The path of a file, or that of the packaged ticket of this name.

    A file at the path comes first, so that no name hides it. A folder, which
    is no ticket, gives way: runs and exports are called as their ticket is.

    Raises:
        FileNotFoundError: If there is nothing, and no such ticket; for paths
            with a folder or another suffix, whoever opens them says so.
        TicketError: If the packaged ticket is damaged.
    """
    path = pathlib.Path(os.fsdecode(path))
    name = path.name
    if name != str(path) or path.suffix not in ("", _SUFFIX):
        return path
    is_there, is_folder = _what_is_at(path)
    if is_there and not is_folder:
        return path
    known = {ticket.name: ticket for ticket in tickets()}
    if name in known:
        known[name].check()
        return known[name].path
    if is_folder or (path.suffix and path.stem not in known):
        return path
    raise FileNotFoundError(
        f"There is no file {name!r}, and no ticket of that name comes with "
        f"the package.{_suggestions(name, known)} {_LISTED}"
    )


def _what_is_at(path):
    """Whether there is something, and whether that is a folder."""
    try:
        return path.exists(), path.is_dir()
    except (OSError, ValueError):  # no path can be so long, or hold a 0
        return False, False


def _suggestions(name, known):
    """What somebody may have meant, as a sentence."""
    if not isinstance(name, (str, os.PathLike)):
        return ""
    written = pathlib.PurePath(name).stem.lower().replace("-", "_")
    like = [one for one in known if len(written) > 2 and written in one]
    like = like[:3] or difflib.get_close_matches(written, known)
    if not like:
        return ""
    return f" Did you mean {' or '.join(map(repr, like))}?"
