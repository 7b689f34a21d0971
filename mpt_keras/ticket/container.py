"""The file around a ticket: safetensors, a description, a checksum.

A ticket file is a safetensors file. Beside the arrays it holds a description,
which is JSON and deflated, and the SHA-256 of the whole file. The bytes are a
function of the contents. See docs/ticket_format.md.
"""

import hashlib
import json
import struct
import zlib
from collections.abc import Mapping

import numpy as np
import safetensors
from safetensors.numpy import save

from mpt_keras.ticket.errors import TicketError

# The second has frozen parts, of which readers of the first know nothing.
VERSIONS = (1, 2)
# What a hostile file may make a reader take, before its checksum is known.
MAX_HEADER_BYTES = 2**24
MAX_DESCRIPTION_BYTES = 2**22

_METADATA = "mpt_keras_ticket"
_DESCRIPTION, _CHECKSUM = "description", "sha256"
_DTYPES = {
    "BOOL": "?",
    **{f"U{8 * n}": f"<u{n}" for n in (1, 2, 4, 8)},
    **{f"I{8 * n}": f"<i{n}" for n in (1, 2, 4, 8)},
    **{f"F{8 * n}": f"<f{n}" for n in (2, 4, 8)},
}
# Deflate finds what is alike in the last 32 kB.
_WINDOW = 2**15


def pack(
    description: dict,
    arrays: Mapping[str, np.ndarray],
    base_description: bytes | None = None,
    base_checksum: str | None = None,
    version: int = 1,
) -> bytes:
    """Returns the bytes of a ticket file.

    Args:
        description: What JSON can hold.
        arrays: Name -> NumPy array of Booleans, integers or floats.
        base_description: The JSON of another ticket, to say only what differs.
        base_checksum: That ticket's checksum, without which nobody can read
            this one.
        version: One of `VERSIONS`, the first that has what is described.

    Raises:
        ValueError: If the description is larger than a reader takes.
    """
    text = as_json(description)
    if len(text) > MAX_DESCRIPTION_BYTES:
        raise ValueError(
            f"The network's description takes {len(text)} bytes. Expected at "
            f"most {MAX_DESCRIPTION_BYTES}, as many as a reader takes."
        )
    deflate = zlib.compressobj(9, wbits=-15, **_dictionary(base_description))
    deflated = deflate.compress(text) + deflate.flush()
    about = {"version": version, "description_bytes": len(text)}
    if base_checksum:
        about["base"] = base_checksum
    data = save(
        {
            # Some versions write others in the order of their memory.
            **{
                name: np.asarray(array, order="C")
                for name, array in arrays.items()
            },
            _DESCRIPTION: np.frombuffer(deflated, "uint8"),
            _CHECKSUM: np.zeros(32, "uint8"),
        },
        # One entry, because the order of several is not defined.
        {_METADATA: as_json(about).decode()},
    )
    _, place = _header_and_place(data)
    return data[: place.start] + _digest(data, place) + data[place.stop :]


class Contents:
    """What is in a ticket file, after its checksum was compared.

    Attributes:
        arrays: Name -> NumPy array, without the description.
        checksum: The file's SHA-256, in hexadecimal digits.
        base: Checksum of the ticket that this one is a difference to, or None.
        version: One of `VERSIONS`.
    """

    def __init__(self, data: bytes):
        """Reads bytes.

        Raises:
            TicketError: If they are no ticket file of these versions, or not
                what was written.
        """
        header, place = _header_and_place(data)
        about = _about(header)
        if data[place] != _digest(data, place):
            raise TicketError(
                "The file is damaged: its checksum does not fit its contents."
            )
        self.checksum = data[place].hex()
        self.base = about.get("base")
        self.version = about["version"]
        self._description_bytes = about["description_bytes"]
        self.arrays = _arrays(data)
        del self.arrays[_CHECKSUM]
        self._deflated = self.arrays.pop(_DESCRIPTION).tobytes()

    def description(self, base_description: bytes | None = None) -> bytes:
        """Returns the JSON, as long as the file announces it.

        Args:
            base_description: That of the ticket in `base`.
        """
        announced = self._description_bytes
        inflate = zlib.decompressobj(-15, **_dictionary(base_description))
        try:
            text = inflate.decompress(self._deflated, announced + 1)
        except zlib.error as error:
            raise TicketError(f"The description is damaged: {error}") from error
        if len(text) != announced or not inflate.eof or inflate.unused_data:
            raise TicketError(
                f"The description is damaged: expected {announced} bytes."
            )
        return text


def as_json(value) -> bytes:
    """The shortest JSON of a value. Keys stay in their order, on which what
    a layer makes of its configuration may depend."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def _dictionary(base_description):
    return {"zdict": base_description[-_WINDOW:]} if base_description else {}


def _header_and_place(data):
    """The header, and the slice of the file in which its checksum stands."""
    announced = struct.unpack_from("<Q", data)[0] if len(data) >= 8 else 0
    if not 0 < announced <= min(len(data) - 8, MAX_HEADER_BYTES):
        raise TicketError(
            "This is no whole ticket file. Expected a header of at most "
            f"{MAX_HEADER_BYTES} bytes within a file of {len(data)} bytes. "
            f"Announced: {announced} bytes."
        )
    try:
        header = json.loads(data[8 : 8 + announced])
        entry = header[_CHECKSUM]
        start, stop = entry["data_offsets"]
        place = slice(8 + announced + start, 8 + announced + stop)
        fits = stop - start == 32 and start >= 0 and place.stop <= len(data)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise TicketError(
            "This is no ticket file: its header names no checksum."
        ) from error
    if not fits:
        raise TicketError(
            "This is no ticket file: its header misplaces the checksum."
        )
    return header, place


def _about(header):
    try:
        about = json.loads(header["__metadata__"][_METADATA])
        version, announced = about["version"], about["description_bytes"]
        base = about.get("base", "")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise TicketError(
            "This is a safetensors file, but no ticket: its metadata lacks "
            f"'{_METADATA}'."
        ) from error
    if type(version) is not int or version not in VERSIONS:
        raise TicketError(
            f"This ticket is of version {version!r} of the format. Expected "
            f"version {' or '.join(map(str, VERSIONS))}: a newer mpt_keras may "
            "read it."
        )
    is_size = type(announced) is int and 0 < announced <= MAX_DESCRIPTION_BYTES
    if not is_size or not isinstance(base, str):
        raise TicketError(
            "The header is damaged. Expected a description of at most "
            f"{MAX_DESCRIPTION_BYTES} bytes. Announced: {announced!r}"
        )
    return about


def _digest(data, place):
    """SHA-256 of a file in which the 32 bytes of the checksum are 0."""
    view = memoryview(data)
    digest = hashlib.sha256(view[: place.start])
    digest.update(bytes(32))
    digest.update(view[place.stop :])
    return digest.digest()


def _arrays(data):
    try:
        entries = safetensors.deserialize(data)
    except safetensors.SafetensorError as error:
        raise TicketError(f"The header is damaged: {error}") from error
    arrays = {}
    for name, entry in entries:
        if entry["dtype"] not in _DTYPES:
            raise TicketError(
                f"Array '{name}' is of the type {entry['dtype']}. Expected one "
                f"of {', '.join(_DTYPES)}."
            )
        array = np.frombuffer(entry["data"], _DTYPES[entry["dtype"]])
        arrays[name] = array.reshape(entry["shape"])
    missing = {_DESCRIPTION, _CHECKSUM} - arrays.keys()
    if missing:
        raise TicketError(f"The file lacks {', '.join(sorted(missing))}.")
    return arrays
