"""What a ticket weighs and computes: layer by layer, and in all."""

import collections
import dataclasses
import math
import os
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from mpt_keras import model_checks, text_tables
from mpt_keras.layers.ordinary import largest_by_channel
from mpt_keras.layers.traversal import walk
from mpt_keras.macs import kernel_attributes, kernel_uses
from mpt_keras.model_files import read_model
from mpt_keras.ticket.container import Contents
from mpt_keras.ticket.errors import TicketError
from mpt_keras.ticket.packaged import as_path
from mpt_keras.ticket.saving import ticket_bytes
from mpt_keras.ticket.slots import other_weights, slots_of

FLOAT, BINARY_WEIGHT, BINARY = "float", "binary-weight", "binary"
_FLOAT_BYTES = 4
_NARROWEST = 40
_COLUMNS = (
    *("layer", "kind", "kernel", "sparsity", "MACs", "kept", "arithmetic"),
    *("float32", "packed", "ticket", "n*H/8", "bits/w"),
)


@dataclasses.dataclass(frozen=True)
class KernelSummary:
    """One kernel of a model.

    Attributes:
        name: Of the layer; of two kernels `layer/depthwise_kernel` and
            `layer/pointwise_kernel`.
        kind: Class of the layer.
        shape: Of the kernel.
        kept: Number of weights that are not pruned.
        arithmetic: `"float"`; `"binary-weight"` where all kept weights are
            `-a` or `+a` (one `a` for the kernel, or for each output channel)
            and they outnumber the `a`, as any single weight is alike;
            `"binary"` where its inputs are `-1` or `+1` as well.
        gains: Number of these `a`; 0 for float weights.
        calls: How often the layer is called per example; None if unknown.
        macs: Multiply-accumulates per example of a dense layer of this shape;
            None if unknown. Products with the 0 of a padding count.
        macs_kept: Those of the weights kept.
        ticket_bytes: Size of the kernel's records in a ticket file; None where
            the model makes no ticket, or the kernel is not stored as one.
        frozen_pruned, frozen_kept: Numbers of weights that the seed prunes
            and keeps for ever, which take no bits of a mask.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    kept: int
    arithmetic: str
    gains: int
    calls: int | None
    macs: int | None
    macs_kept: int | None
    ticket_bytes: int | None
    frozen_pruned: int = 0
    frozen_kept: int = 0

    @property
    def weights(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)

    @property
    def sparsity(self) -> float:
        """Fraction of the weights that is pruned."""
        return 1.0 - self.kept / self.weights

    @property
    def float32_bytes(self) -> int:
        """Four bytes a weight, pruned or not."""
        return _FLOAT_BYTES * self.weights

    @property
    def packed_bytes(self) -> int:
        """What can be computed with as it is: planes of one bit a weight.

        A mask, unless all are kept; beside it a sign and the float32 gains
        for binary weights, the float32 values kept for others.
        """
        plane = math.ceil(self.weights / 8)
        mask = 0 if self.kept == self.weights else plane
        if self.arithmetic == FLOAT:
            return mask + _FLOAT_BYTES * self.kept
        return mask + plane + _FLOAT_BYTES * self.gains

    @property
    def entropy_bytes(self) -> float:
        """`n * H(kept / n) / 8`: the mask, if only `kept` is known of it.

        Of the weights that are not pruned or kept for ever alone.
        """
        free = self.weights - self.frozen_pruned - self.frozen_kept
        share = (self.kept - self.frozen_kept) / free
        if share in (0.0, 1.0):
            return 0.0
        bits = -share * math.log2(share) - (1 - share) * math.log2(1 - share)
        return free * bits / 8

    @property
    def bits_per_weight(self) -> float | None:
        """Of its records in a ticket file, pruned weights counted as well."""
        if self.ticket_bytes is None:
            return None
        return 8 * self.ticket_bytes / self.weights


@dataclasses.dataclass(frozen=True)
class Totals:
    """A model in all.

    Attributes:
        weights: Number of weights of all kernels.
        kept: Those that are not pruned.
        other_weights: Number of other weights that it predicts with (biases,
            batch norms, ...).
        params: What `count_params` says.
        scores: Of these, scores and counters of masked layers, which stand
            beside the kernels that they select and are not part of a ticket.
        macs: Arithmetic -> multiply-accumulates per example of dense layers of
            these shapes.
        macs_kept: Arithmetic -> those of the weights kept.
        unknown: Layer -> its class: their products are in none of the numbers.
        float32_bytes: Four bytes for each of `weights` and `other_weights`.
        packed_bytes: Packed kernels, the other weights as float32.
        entropy_bytes: Of all masks.
        mask_bytes: Of the kernels' records in a ticket file, or None.
        ticket_bytes: Of the whole ticket file (architecture and other weights
            included), or None.
        why_no_ticket: The reason, or None.
        file: The file that was given, or None.
        file_bytes: Its size on disk, or None.
        frozen: Number of weights that seeds prune or keep for ever.
    """

    weights: int
    kept: int
    other_weights: int
    params: int
    scores: int
    macs: dict[str, int]
    macs_kept: dict[str, int]
    unknown: dict[str, str]
    float32_bytes: int
    packed_bytes: int
    entropy_bytes: float
    mask_bytes: int | None
    ticket_bytes: int | None
    why_no_ticket: str | None
    file: str | None
    file_bytes: int | None
    frozen: int = 0

    @property
    def sparsity(self) -> float:
        """Fraction of the kernels' weights that is pruned."""
        return 1.0 - self.kept / self.weights if self.weights else 0.0


@dataclasses.dataclass(frozen=True)
class Summary:
    """What `summary` returns; `print` shows it as a table.

    Attributes:
        name: Of the model.
        rows: A `KernelSummary` for every kernel of a dense or convolution
            layer or an embedding, in the model's order, masked ones first,
            tables of ordinary embeddings last.
        totals: `Totals`.
    """

    name: str
    rows: tuple[KernelSummary, ...]
    totals: Totals

    def text(self, line_length: int | None = None) -> str:
        """Returns the table and the totals.

        Args:
            line_length: Most characters of a line, at which text is folded;
                by default they are as long as they are.
        """
        words = ("layer", "kind", "kernel", "arithmetic")
        table = text_tables.new_table(_COLUMNS, words)
        for row in self.rows:
            table.add_row(*_cells(row))
        parts = [f"Model: {self.name}", table, *_lines(self.totals)]
        return text_tables.as_text(parts, line_length)

    def __str__(self):
        return self.text()


def summary(
    model: keras.Model | str | os.PathLike[str],
    *,
    base: Any = None,
    line_length: int | None = None,
    print_fn: Callable[[str], Any] | None = text_tables.print_text,
) -> Summary:
    """Says and prints what a ticket weighs, and what it computes.

    For every kernel of `n` weights, `k` of them kept: its sparsity
    `1 - k / n`; multiply-accumulates per example, all `n` of them and the `k`
    kept; what they are made of (float, binary weights, binary weights on
    binary activations); and its bytes: as float32, packed to bits, in a ticket
    file, and `n * H(k / n) / 8`, with `H` the entropy of a bit, which the mask
    alone would cost if nothing but `k` were known of it. (Weights that the
    seed prunes or keeps for ever count in all but that entropy.)

    Args:
        model: A built Keras model: masked, frozen or ordinary (pruned where
            its kernels are 0). Or a file: `.keras`, or a ticket of
            `save_ticket`; or the name of a ticket of `mpt_keras.pretrained`.
        base: For a ticket file, the ticket that it was saved against.
        line_length: Most characters of a line, at least 40; by default as many
            as it has.
        print_fn: Function of the text; None prints nothing. By default it is
            printed, in ASCII where that is what the stream encodes.

    Returns:
        `Summary`. What a model would weigh as a ticket is found by encoding
        it; the size of a file is that on disk.

    Raises:
        ValueError: If `model` is neither a built model nor such a file;
            `TicketError`, which is one, if a ticket is damaged.
        OSError: If the file cannot be read.

    Example:

    >>> model = keras.Sequential([keras.Input((64,))])
    >>> model.add(mpt_keras.MPTDense(10, sparsity=0.75, name="logits"))
    >>> found = mpt_keras.summary(model, print_fn=None)
    >>> row = found.rows[0]
    >>> row.name, row.sparsity, row.macs, row.macs_kept, row.arithmetic
    ('logits', 0.75, 640, 160, 'binary-weight')
    >>> row.float32_bytes, row.packed_bytes
    (2560, 164)
    """
    if line_length is not None and (
        not isinstance(line_length, int) or line_length < _NARROWEST
    ):
        raise ValueError(
            "Invalid value for argument `line_length`. Expected an integer of "
            f"{_NARROWEST} or more, or None. Received: "
            f"line_length={line_length!r}"
        )
    path = None
    if isinstance(model, (str, os.PathLike)):
        path = as_path(model)
        model = read_model(path, base)
    model_checks.check_is_model(model, "a Keras model or a file")
    model_checks.check_is_built(model)
    found = _summary(model, path)
    if print_fn is not None:
        print_fn(found.text(line_length))
    return found


def _summary(model, path):
    is_ticket = path is not None and path.suffix != ".keras"
    layers, computed = _layers_of_kernels(model)
    slots = {
        name: slot
        for name, slot in slots_of(model).items()
        if id(slot.kernel) in layers
    }
    uses, unknown = kernel_uses(model)
    unknown.update(computed)
    stored, file_bytes, why = {}, None, None
    try:
        data = path.read_bytes() if is_ticket else ticket_bytes(model)
        stored, file_bytes = _record_bytes(data), len(data)
    except (TicketError, ValueError) as error:
        why = str(error)
    rows = tuple(
        _row(name, slot, layers[id(slot.kernel)], uses, stored.get(name))
        for name, slot in slots.items()
    )
    for row in rows:
        if row.macs is None:
            unknown.setdefault(row.name, row.kind)
    others = other_weights(model, slots.values())
    count = sum(math.prod(variable.shape) for variable in others.values())
    macs, macs_kept = collections.Counter(), collections.Counter()
    for row in rows:
        macs[row.arithmetic] += row.macs or 0
        macs_kept[row.arithmetic] += row.macs_kept or 0
    weights = sum(row.weights for row in rows)
    params = model.count_params()
    totals = Totals(
        weights=weights,
        kept=sum(row.kept for row in rows),
        other_weights=count,
        params=params,
        scores=params - weights - count,
        macs=dict(macs),
        macs_kept=dict(macs_kept),
        unknown=unknown,
        float32_bytes=_FLOAT_BYTES * (weights + count),
        packed_bytes=sum(row.packed_bytes for row in rows)
        + _FLOAT_BYTES * count,
        entropy_bytes=sum(row.entropy_bytes for row in rows),
        mask_bytes=sum(stored.values()) if stored else None,
        ticket_bytes=file_bytes,
        why_no_ticket=why,
        file=None if path is None else str(path),
        file_bytes=None if path is None else path.stat().st_size,
        frozen=sum(row.frozen_pruned + row.frozen_kept for row in rows),
    )
    return Summary(model.name, rows, totals)


def _layers_of_kernels(model):
    """The layer of each kernel, by the kernel's id.

    And the layers, name -> class, that compute kernels in every call (LoRA).
    """
    found, computed = {}, {}
    for _, layer in walk(model):
        for name in kernel_attributes(layer) if layer.built else ():
            kernels = getattr(layer, name, None)
            if isinstance(kernels, keras.Variable):
                found[id(kernels)] = layer
            elif kernels is not None:
                computed[layer.name] = type(layer).__name__
    return found, computed


def _row(name, slot, layer, uses, stored):
    kind = type(layer).__name__
    kept, gains = _kept_and_gains(slot, kind, name)
    use = uses.get(id(slot.kernel))
    times = None if use is None else use.times
    arithmetic = FLOAT
    if gains:
        on_signs = use is not None and use.on_signs
        arithmetic = BINARY if on_signs else BINARY_WEIGHT
    size = math.prod(slot.shape)
    return KernelSummary(
        name=name,
        kind=kind,
        shape=slot.shape,
        kept=kept,
        arithmetic=arithmetic,
        gains=gains,
        calls=None if use is None else use.calls,
        macs=None if times is None else times * size,
        macs_kept=None if times is None else times * kept,
        ticket_bytes=stored,
        **_frozen_counts(slot),
    )


def _frozen_counts(slot):
    part = slot.masked.frozen_part if slot.masked else None
    if part is None:
        return {}
    return {"frozen_pruned": part.pruned, "frozen_kept": part.kept}


def _kept_and_gains(slot, kind, name):
    if slot.masked is not None:
        return int(slot.masked.kept()), int(slot.masked.binarize)
    kernel = np.abs(np.asarray(ops.convert_to_numpy(slot.kernel), "float32"))
    kept = int(np.count_nonzero(kernel))
    # Behind a folded batch norm each channel has a magnitude of its own.
    of_channels = largest_by_channel(kernel, kind, name)
    for gains in (of_channels.max(), of_channels):
        is_alike = np.all((kernel == 0) | (kernel == gains))
        if is_alike and kept > np.count_nonzero(gains):
            return kept, np.size(gains)
    return kept, 0


def _record_bytes(data):
    """Bytes of each kernel's arrays in a ticket."""
    found = collections.Counter()
    for name, array in Contents(data).arrays.items():
        part, _, kernel = name.partition("/")
        if part in ("masks", "signs", "values"):
            found[kernel] += array.nbytes
    return dict(found)


def _cells(row):
    return (
        row.name,
        row.kind,
        "x".join(map(str, row.shape)),
        f"{row.sparsity:.1%}",
        _number(row.macs),
        _number(row.macs_kept),
        row.arithmetic,
        _number(row.float32_bytes),
        _number(row.packed_bytes),
        _number(row.ticket_bytes),
        _number(round(row.entropy_bytes)),
        "-" if row.bits_per_weight is None else f"{row.bits_per_weight:.3f}",
    )


def _number(number):
    return "?" if number is None else f"{number:,}"


def _lines(totals):
    yield (
        f"weights: {totals.weights:,} in kernels, {totals.kept:,} kept "
        f"({totals.sparsity:.1%} pruned), {totals.other_weights:,} others"
    )
    if totals.frozen:
        yield (
            f"{totals.frozen:,} weights are pruned or kept by their seeds and "
            "take no bits of a mask"
        )
    if totals.scores:
        yield (
            f"count_params() says {totals.params:,}: {totals.scores:,} of "
            "these are scores and counters, which stand beside the kernels "
            "and are not part of a ticket"
        )
    for name, macs in totals.macs.items():
        yield (
            f"{name} MACs per example: {macs:,}, of weights kept "
            f"{totals.macs_kept[name]:,}"
        )
    for name, kind in totals.unknown.items():
        yield f"not counted: MACs of '{name}' ({kind}) are not known"
    sizes = (
        f"bytes: {totals.float32_bytes:,} as float32, "
        f"{totals.packed_bytes:,} packed"
    )
    if totals.mask_bytes is not None:
        sizes += (
            f"; kernels in a ticket {totals.mask_bytes:,} (n*H/8: "
            f"{totals.entropy_bytes:,.0f}), the whole file "
            f"{totals.ticket_bytes:,}"
        )
    yield sizes
    if totals.why_no_ticket:
        yield f"no ticket: {totals.why_no_ticket}"
    if totals.file is not None:
        yield f"on disk: {totals.file_bytes:,} bytes ({totals.file})"
