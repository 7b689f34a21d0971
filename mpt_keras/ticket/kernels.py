"""A kernel with its mask, as records of a ticket file.

A record is a dictionary, for JSON, and arrays beside it. How the kept weights
are stored, its entry `"kernel"` says:

- `"drawn"`: they follow from the seed;
- `"base"`: they are those of the ticket that this one is an update of;
- `"signs"`: all have one magnitude, and their signs are stored;
- `"values"`: they are stored.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np

from mpt_keras import sums
from mpt_keras.drawing import Draw
from mpt_keras.frozen_part import FrozenPart
from mpt_keras.ticket.errors import TicketError
from mpt_keras.ticket.mask_codec import decode_mask, encode_mask
from mpt_keras.ticket.records import check_record, draw_in, frozen_in
from mpt_keras.ticket.start import Start, draw_quantiles, quantiles_by_rank


@dataclasses.dataclass(frozen=True, eq=False)
class StoredKernel:
    """One kernel of a ticket: its mask, and what the kept weights are.

    Attributes:
        name: Name of the layer, or `layer/depthwise_kernel` of two kernels.
        place: Integer, which kernel of the network it is.
        shape: Tuple of integers, Keras' layout.
        mask: Boolean array of this shape, True at the weights kept.
        dtype: Name of the type in which the layer holds the kernel.
        binarize: Whether the layer computes with `gain * mask * sign(kernel)`
            rather than with `mask * kernel`; None for an ordinary layer's
            kernel, which is `mask * kernel`.
        gain: Number, mean `|w|` of the weights kept as whoever saved the
            ticket computed it; 1 without `binarize`.
        draw: `Draw` of the whole kernel, or None where the weights are stored.
        scores: `Draw` of the scores at which the search began, or None.
        bytes: Size of the kernel's arrays in the file.
        frozen: `FrozenPart` of the kernel, or None: weights that the seed
            prunes or keeps, of which the file has no bits of the mask.
    """

    name: str
    place: int
    shape: tuple[int, ...]
    mask: np.ndarray
    dtype: str
    binarize: bool | None
    gain: float
    draw: Draw | None
    scores: Draw | None
    bytes: int
    _kept_values: np.ndarray | None = dataclasses.field(repr=False)
    # A bit per weight, or None where a weight kept is 0.
    _negative: np.ndarray | None = dataclasses.field(repr=False)
    frozen: FrozenPart | None = None

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.mask.size

    @property
    def kept(self) -> int:
        """Number of weights kept."""
        return int(np.count_nonzero(self.mask))

    @property
    def sparsity(self) -> float:
        """Fraction of weights pruned."""
        return 1.0 - self.kept / self.size

    @property
    def kernel(self) -> np.ndarray:
        """The frozen weights, a new float32 array.

        Drawn from the seed where they follow from it; otherwise the weights
        kept, and 0 where they are pruned.
        """
        if self.draw is not None:
            return rounded(self.draw.values(self.shape), self.dtype)
        return _in_place(self._kept_values, self.mask)

    @property
    def ternary(self) -> np.ndarray:
        """`mask * sign(kernel)`, a new int8 array of -1, 0 and 1.

        Far faster than by way of `kernel`, which takes drawing.
        """
        if self._negative is None:
            kernel = np.where(self.mask, self.kernel, np.float32(0.0))
            return (kernel > 0).astype("int8") - (kernel < 0)
        signs = np.unpackbits(self._negative, count=self.size).view("int8")
        signs *= np.int8(-2)
        signs += np.int8(1)
        signs = signs.reshape(self.shape)
        signs *= self.mask.view("int8")
        return signs

    @property
    def effective(self) -> np.ndarray:
        """What the layer computes with, a float32 array.

        `gain * mask * sign(kernel)` or `mask * kernel`.
        """
        kernel = self.kernel
        if self.binarize:
            kernel = np.sign(kernel) * np.float32(self.gain)
        return np.where(self.mask, kernel, np.float32(0.0))


def feed(digest, mask, values) -> None:
    """Feeds a hash with a mask's bits and the float32 weights kept."""
    digest.update(np.packbits(mask, axis=None).tobytes())
    digest.update(values.astype("<f4").tobytes())


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    """Float32 values, rounded to a type of fewer bits, ties to even."""
    if dtype == "float16":
        return values.astype("float16").astype("float32")
    if dtype == "bfloat16":
        bits = values.astype("float32").view("uint32")
        half = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
        kept = np.uint32(0xFFFF0000)
        return ((bits + half) & kept).view("float32")
    return values


def encode_kernel(
    name: str,
    place: int,
    kernel: np.ndarray,
    mask: np.ndarray,
    *,
    dtype: str = "float32",
    binarize: bool | None = None,
    gain: float = 1.0,
    draw: Draw | None = None,
    scores: Draw | None = None,
    magnitude: Callable[[], float | None] = lambda: None,
    values_dtype: str = "float32",
    base: StoredKernel | None = None,
    frozen: FrozenPart | None = None,
) -> tuple[dict, dict[str, np.ndarray], np.ndarray]:
    """Returns the record of a kernel, its arrays, and what they keep.

    Args:
        name: Name of the kernel, unique in the ticket.
        place: Integer, which kernel of the network it is.
        kernel: Float32 array, the weights.
        mask: Boolean array of the same shape.
        dtype, binarize, gain, scores: As for `StoredKernel`.
        draw: `Draw` that the kernel began with. Where the kernel still is
            what it gives, nothing is stored of it.
        magnitude: Returns a number if only the signs of the weights kept
            count, which will all have this magnitude. Asked for where the
            kernel is not what `draw` gives.
        values_dtype: `"float32"` or `"float16"`, of values that are stored.
        base: The kernel in this place of another ticket, of the same shape.
        frozen: As for `StoredKernel`; the mask is as it says.

    Returns:
        Record, dictionary of arrays, float32 array of the weights kept as a
        reader gets them.
    """
    kept = kernel[mask]
    record = {
        "name": name,
        "place": place,
        "shape": [int(size) for size in kernel.shape],
        "kept": int(kept.size),
        "dtype": dtype,
        "binarize": binarize,
    }
    if binarize:
        record["gain"] = float(gain)
    for key, known in (("draw", draw), ("scores", scores), ("frozen", frozen)):
        if known is not None:
            record[key] = dataclasses.asdict(known)
    drawn = None if draw is None else draw.values(kernel.shape)
    start = _start(scores, drawn, kernel.shape)
    positions = None if frozen is None else frozen.positions(kernel.shape)
    free = None if positions is None else positions == 0
    encoded, before = encode_mask(mask, start, None, free), None
    if base is not None:
        update = encode_mask(mask, start, base.mask, free)
        if len(update) <= len(encoded):
            encoded, before = update, base.mask
        else:  # of another task, say: the two masks share too little
            record["alone"] = True
    decoded = _decoded(encoded, mask.shape, kept.size, start, before, positions)
    if not np.array_equal(decoded, mask):
        # A file that cannot be read is worse than none.
        raise AssertionError(f"The mask of '{name}' was not coded faithfully.")
    arrays = {f"masks/{name}": _bytes(encoded)}
    if drawn is not None and _same(rounded(drawn, dtype), kernel):
        record["kernel"] = "drawn"
    elif base is not None and _same(_kept_by(base, mask), kept):
        record["kernel"] = "base"
    elif (of_all := magnitude()) is not None:
        signs = kept > 0
        if drawn is not None:  # most are as drawn
            signs = signs == (drawn[mask] > 0)
        ones = int(np.count_nonzero(signs))
        record |= {"kernel": "signs", "magnitude": float(of_all)}
        record["sign_ones"] = ones
        if kept.size:
            arrays[f"signs/{name}"] = _bytes(encode_mask(signs))
        kept = np.copysign(np.float32(of_all), kept)
    else:
        record["kernel"] = "values"
        arrays[f"values/{name}"] = kept.astype(values_dtype)
        kept = arrays[f"values/{name}"].astype("float32")
    check_record(record)
    return record, arrays, kept


def _decoded(encoded, shape, kept, start, base, positions):
    """The mask of a record, with what is frozen in it."""
    if positions is None:
        return decode_mask(encoded, shape, kept, start, base)
    always = positions > 0
    kept -= int(np.count_nonzero(always))
    return always | decode_mask(
        encoded, shape, kept, start, base, positions == 0
    )


def decode_kernel(
    record: Mapping, arrays: Mapping, base: StoredKernel | None = None
) -> tuple[StoredKernel, np.ndarray]:
    """Returns what `encode_kernel` was given, and the weights kept.

    Args:
        record, arrays: As `encode_kernel` returned them; the arrays of other
            kernels may be among these.
        base: As for `encode_kernel`.

    Returns:
        `StoredKernel`, float32 array of the weights kept in C order.

    Raises:
        TicketError: If the record says what no kernel can be, or its gain is
            not that of the weights kept.
    """
    name, shape, kept = check_record(record)
    draw, scores = (draw_in(record, key) for key in ("draw", "scores"))
    drawn = None if draw is None else draw.values(shape)
    encoded = _bytes_of(arrays, f"masks/{name}")
    frozen = frozen_in(record)
    is_alone = base is None or "alone" in record
    try:
        mask = _decoded(
            encoded,
            shape,
            kept,
            _start(scores, drawn, shape),
            None if is_alone else base.mask,
            None if frozen is None else frozen.positions(shape),
        )
    except ValueError as error:
        raise TicketError(f"The mask of '{name}' is damaged: {error}") from None
    used = 0
    if record["kernel"] == "drawn":
        kernel = rounded(drawn, record["dtype"])
        values = kernel.compress(mask.ravel(), axis=None)
    else:
        draw = None
        if record["kernel"] == "base":
            values = _values_of_base(record, base, mask)
        else:
            stored = _signs if record["kernel"] == "signs" else _values
            values, used = stored(record, arrays, mask, drawn)
        kernel = _in_place(values, mask)
    negative = np.packbits(kernel < 0) if (np.abs(values) > 0).all() else None
    if record["binarize"]:
        _check_gain(record, np.abs(kernel, out=kernel), mask)
    return StoredKernel(
        name,
        record["place"],
        shape,
        mask,
        record["dtype"],
        record["binarize"],
        float(record.get("gain", 1.0)),
        draw,
        scores,
        len(encoded) + used,
        None if draw is not None else values,
        negative,
        frozen,
    ), values


def _check_gain(record, magnitudes, mask):
    """Raises `TicketError` unless the gain is the mean of what is kept.

    Args:
        record: The kernel's.
        magnitudes: Float32 array, overwritten: 0 where pruned.
        mask: Boolean array.
    """
    bits = magnitudes.view("int32")
    bits *= mask  # faster than a choice, and right for what is not finite
    total = sums.sum_in_blocks(magnitudes.ravel(), np)
    gain = total / np.float32(record["kept"])
    if np.float32(record.get("gain", 1.0)) != gain:
        raise TicketError(
            f"The gain of '{record['name']}' is {gain}. Received: "
            f"{record.get('gain', 1.0)}"
        )


def _in_place(values, mask):
    """A kernel of the weights kept, 0 where they are pruned."""
    kernel = np.zeros(mask.shape, "float32")
    kernel[mask] = values
    return kernel


def _start(scores, drawn, shape):
    """What is known of a search's beginning, for the codec."""
    if scores is None:
        return None
    if scores.distribution == "kaiming_uniform":
        size = math.prod(shape)
        quantiles = draw_quantiles(scores.seed, scores.stream, size)
    else:
        quantiles = quantiles_by_rank(scores.values(shape))
    return Start(quantiles, drawn)


def _same(one, other):
    """Whether two float32 arrays have the same bits."""
    return np.array_equal(one.view("uint32"), other.view("uint32"))


def _kept_by(base, mask):
    """Weights of another ticket's kernel at a mask; none if it lacks some."""
    if not base.mask[mask].all():
        return np.zeros(0, "float32")
    return base.kernel[mask]


def _values_of_base(record, base, mask):
    values = np.zeros(0) if base is None else _kept_by(base, mask)
    if values.size != record["kept"]:
        raise TicketError(
            f"The weights of '{record['name']}' are said to be those of "
            "another ticket, which does not keep them."
        )
    return values


def _signs(record, arrays, mask, drawn):
    """Weights kept that are stored as signs, and the bytes that these take."""
    name, kept = record["name"], record["kept"]
    signs, used = np.zeros(0, bool), 0
    if kept:
        encoded = _bytes_of(arrays, f"signs/{name}")
        used = len(encoded)
        try:
            signs = decode_mask(encoded, (kept,), record["sign_ones"])
        except ValueError as error:
            raise TicketError(
                f"The signs of '{name}' are damaged: {error}"
            ) from None
    if drawn is not None:
        signs = signs == (drawn[mask] > 0)
    magnitude = np.float32(record["magnitude"])
    return np.where(signs, magnitude, -magnitude), used


def _values(record, arrays, mask, drawn):
    """Weights kept that are stored, and the bytes that these take."""
    name, kept = record["name"], record["kept"]
    stored = _array(arrays, f"values/{name}")
    is_float = stored.dtype.kind == "f" and stored.dtype.itemsize <= 4
    if stored.shape != (kept,) or not is_float:
        raise TicketError(
            f"Expected {kept} float32 or float16 values of '{name}'. "
            f"Received: {stored.dtype} of the shape {stored.shape}"
        )
    return stored.astype("float32"), stored.nbytes


def _bytes(data):
    return np.frombuffer(data, "uint8")


def _array(arrays, name):
    if name not in arrays:
        raise TicketError(f"The file lacks the array '{name}'.")
    return arrays[name]


def _bytes_of(arrays, name):
    array = _array(arrays, name)
    if array.dtype != "uint8" or array.ndim != 1:
        raise TicketError(f"Array '{name}' holds no bytes.")
    return array.tobytes()
