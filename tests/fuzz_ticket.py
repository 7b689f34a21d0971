"""A coverage-guided fuzzer of everything that reads tickets without Keras.

    pip install atheris
    python tests/fuzz_ticket.py -runs=1000000 -max_len=4096

Whatever the bytes, a reader either returns or raises `TicketError`, within the
memory that it was allowed (`-rss_limit_mb`) and within a second (`-timeout`).
Most inputs would end at the checksum. So they are also put behind it: as a
file whose checksum is set right, as a description, as the changes of a whole
file, as the record of a mask.
"""

import hashlib
import json
import pathlib
import sys

import atheris

with atheris.instrument_imports(include=["mpt_keras.ticket"]):
    from mpt_keras.ticket import container
    from mpt_keras.ticket.errors import TicketError
    from mpt_keras.ticket.kernels import encode_kernel, feed
    from mpt_keras.ticket.mask_codec import decode_mask
    from mpt_keras.ticket.reading import parse_ticket
    from mpt_keras.ticket.start import Start

import numpy as np

from mpt_keras import sums
from mpt_keras.drawing import Draw
from mpt_keras.frozen_part import FrozenPart

_MAX_WEIGHTS = 2**12


def _whole():
    """Description and arrays of a small ticket with all kinds of kernels."""
    rng = np.random.default_rng(0)
    draw = Draw("kaiming_normal", 1, 0, 9.0)
    scores = Draw("kaiming_uniform", 1, 1, 9.0, 5.0**0.5)
    kernels = {
        "drawn": (draw.values((3, 3, 4)), draw, True),
        "signs": (rng.standard_normal((5, 6)).astype("float32"), draw, True),
        "values": (rng.standard_normal((7, 2)).astype("float32"), None, False),
        "frozen": (draw.values((6, 5)), draw, False),
    }
    records, arrays = [], {"weights/bias": np.zeros(3, "float32")}
    digest = hashlib.sha256()
    for place, (name, (kernel, known, binarize)) in enumerate(kernels.items()):
        mask = rng.random(kernel.shape) < 0.5
        part = FrozenPart(1, 2**63, 8, 5) if name == "frozen" else None
        if part is not None:
            positions = part.positions(kernel.shape)
            mask = mask & (positions == 0) | (positions > 0)
        kept = np.float32(np.count_nonzero(mask))
        gain = 0.5  # that of signs
        if name == "drawn":
            gain = sums.mean_kept(kernel, mask, kept, np)
        record, own, values = encode_kernel(
            name,
            place,
            kernel,
            mask,
            binarize=binarize,
            gain=gain,
            draw=known,
            scores=scores if known else None,
            magnitude=lambda binarize=binarize: 0.5 if binarize else None,
            frozen=part,
        )
        feed(digest, mask, values)
        records.append(record)
        arrays |= own
    description = {
        "config": {},
        "kernels": records,
        "rebuilt": digest.hexdigest(),
        "weights": ["bias"],
    }
    return description, arrays


_DESCRIPTION, _ARRAYS = _whole()
_FILE = container.pack(_DESCRIPTION, _ARRAYS, version=2)
# Otherwise the fuzzer would see little of what comes after the first error.
assert len(parse_ticket(_FILE).kernels) == 4


def _with_checksum(data):
    _, place = container._header_and_place(data)
    digest = container._digest(data, place)
    return data[: place.start] + digest + data[place.stop :]


def _changed(data, changes):
    """Bytes replaced: two say where, one by what."""
    data = bytearray(data)
    for first in range(0, len(changes) - 2, 3):
        place = int.from_bytes(changes[first : first + 2], "little")
        data[place % len(data)] = changes[first + 2]
    return bytes(data)


def _file(data):
    parse_ticket(data, max_weights=_MAX_WEIGHTS)


def _behind_the_checksum(data):
    _file(_with_checksum(data))


def _changed_file(data):
    _file(_with_checksum(_changed(_FILE, data)))


def _changed_description(data):
    text = _changed(container.as_json(_DESCRIPTION), data)
    _described(text)


def _described(text):
    try:
        description = json.loads(text)
    except (ValueError, RecursionError):
        return
    if isinstance(description, dict):
        _file(container.pack(description, _ARRAYS, version=2))


def _mask(data):
    if len(data) < 4:
        return
    rows, columns, known, share = data[:4]
    shape = (rows % 40 + 1, columns % 40 + 1)
    size = shape[0] * shape[1]
    rng = np.random.default_rng(known)
    start = base = None
    if known & 1:
        quantiles = rng.integers(0, 2**16, size, "uint16")
        kernel = rng.standard_normal(size).astype("float32")
        start = Start(quantiles, kernel if known & 2 else None)
    if known & 4:
        base = rng.random(shape) < 0.5
    free = None
    if known & 8:
        free = rng.random(shape) < 0.5
        free[0, 0] = True
        size = int(np.count_nonzero(free))
    kept = share * size // 255
    mask = decode_mask(data[4:], shape, kept, start, base, free)
    assert mask.shape == shape
    assert np.count_nonzero(mask) == kept


_READERS = (
    *(_file, _behind_the_checksum, _changed_file),
    *(_described, _changed_description, _mask),
)


def read(data):
    if not data:
        return
    try:
        _READERS[data[0] % len(_READERS)](data[1:])
    except TicketError:
        pass
    except ValueError as error:
        if _READERS[data[0] % len(_READERS)] is not _mask:
            raise error


def main():
    corpus = pathlib.Path(sys.argv.pop(1)) if _has_corpus() else None
    arguments = list(sys.argv)
    if corpus:
        corpus.mkdir(parents=True, exist_ok=True)
        for number in range(len(_READERS)):
            text = container.as_json(_DESCRIPTION)
            seed = bytes([number]) + (_FILE if number < 2 else text)
            (corpus / f"seed-{number}").write_bytes(seed)
        arguments.append(str(corpus))
    atheris.Setup(arguments, read)
    atheris.Fuzz()


def _has_corpus():
    return len(sys.argv) > 1 and not sys.argv[1].startswith("-")


if __name__ == "__main__":
    main()
