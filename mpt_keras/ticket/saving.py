"""From a model to a ticket file."""

import hashlib
import json
import os
import pathlib

import keras
import numpy as np
from keras import ops

from mpt_keras import files, model_checks, sums
from mpt_keras.ticket.container import Contents, as_json, pack
from mpt_keras.ticket.errors import TicketError
from mpt_keras.ticket.kernels import (
    StoredKernel,
    encode_kernel,
    feed,
    rounded,
)
from mpt_keras.ticket.networks import made_again, training_flags
from mpt_keras.ticket.reading import (
    Ticket,
    as_ticket,
    kernel_in_place,
)
from mpt_keras.ticket.slots import other_weights, slots_of

_VALUES_DTYPES = ("float32", "float16")
# Floats beside a gain, one of which has it for a mean.
_NEIGHBOURS = 4


def save_ticket(
    model: keras.Model,
    path: str | os.PathLike[str],
    base: Ticket | str | os.PathLike[str] | None = None,
    values_dtype: str = "float32",
) -> None:
    """Writes a model's ticket: a file below the entropy of its masks.

    A masked kernel takes the bits of its mask. They are coded given the
    scores at which the search began, which follow from the seed as the kernel
    does: far fewer than `n * H(sparsity)` bits where the search moved the
    scores little. Weights that the seed prunes or keeps for ever
    (`frozen_pruned`, `frozen_kept`) take none. Kernels that no longer follow
    from their seed (recycled ones, checkpoints of others) take the signs of
    the weights kept beside it, one bit each, or their values without
    `binarize`. Of ordinary layers with zeros in their kernels (a pruned
    network, a frozen ticket) mask and kept weights are stored. All other
    weights are stored as they are, and so is the architecture. Optimizer,
    loss and random states are left out.

    The same model gives the same bytes (with the same zlib).

    Args:
        model: A built Keras model with masked layers, or with ordinary ones
            that have zeros in their kernels.
        path: The file; replaced if it is there. `load_ticket` takes any name.
        base: A ticket, or its file, of the same network, such as that of an
            epoch before, or one that all tasks of `TaskMasks` share: only
            what differs from it is stored, and loading needs it. Masks that
            share little with those of the base are stored by themselves.
        values_dtype: `"float32"`; or `"float16"`, which rounds the kept
            weights of pruned ordinary layers, and so changes predictions.

    Raises:
        ValueError: If there is no ticket in the model, it is not built, a
            score is NaN, a layer cannot be made again from its configuration
            or holds code, a value is none that a file can hold, or `path` is
            the `base`.
        TicketError: If `base` is no ticket.
        OSError: If the file cannot be written. The one before is unharmed.

    Example:

    >>> mpt_keras.save_ticket(model, "digits.ticket")
    >>> same = mpt_keras.load_ticket("digits.ticket")
    """
    path = pathlib.Path(os.fsdecode(path))
    base = as_ticket(base)
    data = ticket_bytes(model, base, values_dtype)
    if base is not None and path.is_file():
        _check_keeps_base(path, base)
    files.write_whole(path, data)


def _check_keeps_base(path, base):
    """Raises `ValueError` if a file is the base, without which all is lost."""
    try:
        checksum = Contents(path.read_bytes()).checksum
    except TicketError:
        return
    if checksum == base.checksum:
        raise ValueError(
            f"'{path}' is the base itself, which the update cannot be read "
            "without. Expected another path."
        )


def ticket_bytes(
    model, base=None, values_dtype="float32", every_weight=False
) -> bytes:
    """The bytes of the file that `save_ticket` writes.

    Args:
        model, base, values_dtype: As for `save_ticket`.
        every_weight: Whether a masked kernel that follows from no seed is
            stored as it is, with the weights that are pruned: the base of
            tickets that keep others of them.
    """
    model_checks.check_is_model(model)
    model_checks.check_is_built(model)
    if values_dtype not in _VALUES_DTYPES:
        raise ValueError(
            "Invalid value for argument `values_dtype`. Expected 'float32' or "
            f"'float16'. Received: values_dtype={values_dtype!r}"
        )
    base = as_ticket(base)
    config = _config(model)
    again = made_again(config, model)
    records, arrays, rebuilt, slots = _kernels(
        model, values_dtype, base, every_weight
    )
    if not records:
        raise ValueError(
            f"There is no ticket in model '{model.name}': it holds no masked "
            "layer, and no kernel with zeros worth leaving out."
        )
    weights = other_weights(model, slots)
    before = list(base.weights.values()) if base else []
    for number, (name, variable) in enumerate(weights.items()):
        array = _array(variable)
        if number >= len(before) or not _are_the_same(array, before[number]):
            arrays[f"weights/{name}"] = array
    description = {
        "config": config,
        "kernels": records,
        "keras": keras.__version__,
        "rebuilt": rebuilt,
        "weights": list(weights),
    }
    trainable = training_flags(model)
    if trainable != training_flags(again):  # which no configuration says
        description["trainable"] = trainable
    return pack(
        description,
        arrays,
        base.description if base else None,
        base.checksum if base else None,
        version=2 if any("frozen" in record for record in records) else 1,
    )


def ticket_of(model: keras.Model) -> Ticket:
    """What a file of a model would hold, without one; of any built model.

    The kernels of ordinary layers are among the weights. Nothing is checked
    as for a file, which others read.

    Args:
        model: A built Keras model.

    Raises:
        ValueError: If a score is NaN or the architecture cannot be written.
    """
    kernels, masked = {}, []
    for place, (name, slot) in enumerate(slots_of(model).items()):
        if slot.masked is None:
            continue
        kernel, mask, facts = _of_a_masked_layer(slot)
        kernels[name] = StoredKernel(
            name=name,
            place=place,
            shape=slot.shape,
            mask=mask,
            dtype=keras.backend.standardize_dtype(slot.kernel.dtype),
            binarize=facts["binarize"],
            gain=facts["gain"],
            draw=None,
            scores=None,
            bytes=0,
            _kept_values=kernel[mask],
            _negative=None,
            frozen=facts["frozen"],
        )
        masked.append(slot)
    weights = other_weights(model, masked)
    return Ticket(
        config=_config(model),
        kernels=kernels,
        weights={name: _array(weight) for name, weight in weights.items()},
        checksum="",
        file_bytes=0,
        description=b"",
    )


def _kernels(model, values_dtype, base, every_weight):
    """Records, arrays, the checksum of what is rebuilt, and the slots."""
    records, arrays, digest, stored = [], {}, hashlib.sha256(), []
    for place, (name, slot) in enumerate(slots_of(model).items()):
        if slot.masked is not None:
            kernel, mask, facts = _of_a_masked_layer(slot)
            if every_weight and not _is_drawn(kernel, slot, facts["draw"]):
                mask = np.ones_like(mask)
                facts |= {"magnitude": lambda: None}
                if facts["binarize"]:
                    facts["gain"] = _gain(kernel, mask)
        else:
            kernel, mask, facts = _of_an_ordinary_layer(slot)
            if mask.all() or kernel.dtype != np.float32:
                continue
        _check_fits(name, kernel, slot, values_dtype)
        record, own, values = encode_kernel(
            name,
            place,
            kernel,
            mask,
            dtype=keras.backend.standardize_dtype(slot.kernel.dtype),
            values_dtype=values_dtype,
            base=kernel_in_place(base, place, slot.shape),
            **facts,
        )
        used = sum(array.nbytes for array in own.values())
        if slot.masked is None and used >= kernel.nbytes:
            continue
        feed(digest, mask, values)
        records.append(record)
        arrays |= own
        stored.append(slot)
    return records, arrays, digest.hexdigest(), stored


def _of_a_masked_layer(slot):
    slot.masked.check_scores()
    kernel, mask, gain = slot.masked.arrays()
    return (
        kernel,
        mask,
        {
            "binarize": bool(slot.masked.binarize),
            "gain": float(gain),
            "draw": slot.layer.draw(slot.attribute),
            "scores": slot.layer.draw(slot.attribute, of_scores=True),
            "frozen": slot.masked.frozen_part,
            "magnitude": lambda: (
                _magnitude(kernel, mask, gain) if slot.masked.binarize else None
            ),
        },
    )


def _is_drawn(kernel, slot, draw):
    """Whether a kernel still is what its seed gives."""
    if draw is None:
        return False
    dtype = keras.backend.standardize_dtype(slot.kernel.dtype)
    return _are_the_same(rounded(draw.values(kernel.shape), dtype), kernel)


def _gain(kernel, mask):
    return float(sums.mean_kept(kernel, mask, np.float32(mask.sum()), np))


def _magnitude(kernel, mask, gain):
    """A magnitude of which the mean is the gain to the bit, or None."""
    if not kernel[mask].all():
        return None  # a 0 has no sign
    kept = np.float32(np.count_nonzero(mask))
    above = below = gain
    candidates = [gain]
    for _ in range(_NEIGHBOURS):
        above = np.nextafter(above, np.float32(np.inf))
        below = np.nextafter(below, np.float32(0.0))
        candidates += [above, below]
    for candidate in candidates:
        of_all = np.full_like(kernel, candidate)
        if sums.mean_kept(of_all, mask, kept, np) == gain:
            return candidate
    return None


def _of_an_ordinary_layer(slot):
    kernel = _array(slot.kernel)
    mask = kernel != 0
    magnitudes = np.unique(np.abs(kernel[mask]))
    is_one = len(magnitudes) == 1 and np.isfinite(magnitudes[0])
    magnitude = magnitudes[0] if is_one else None
    return kernel, mask, {"magnitude": lambda: magnitude}


def _check_fits(name, kernel, slot, values_dtype):
    """Raises `ValueError` for numbers that a file cannot hold."""
    if slot.masked is not None and not np.isfinite(kernel).all():
        raise ValueError(f"Kernel '{name}' holds NaN or infinite numbers.")
    if not np.array_equal(kernel, _array(slot.kernel), equal_nan=True):
        raise ValueError(
            f"Kernel '{name}' holds float64 numbers that float32 cannot. "
            "Expected a layer of dtype='float32'."
        )
    with np.errstate(over="ignore"):
        rounded = kernel.astype(values_dtype)
    if (np.isinf(rounded) & ~np.isinf(kernel)).any():
        raise ValueError(
            f"Kernel '{name}' holds values that float16 cannot. Expected "
            "values_dtype='float32'."
        )


def _config(model):
    """The architecture, as JSON gives it back."""
    config = keras.saving.serialize_keras_object(model)
    try:
        return json.loads(as_json(_without_training(config, {})))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The architecture of model '{model.name}' cannot be stored: a "
            f"configuration holds what JSON cannot. {error}"
        ) from error


def _without_training(value, numbers):
    """A configuration without losses and optimizers.

    Shared objects go by the order in which they come, not by their address.
    """
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"a dictionary with the key {key!r}")
        return {
            key: numbers.setdefault(item, len(numbers))
            if key == "shared_object_id"
            else _without_training(item, numbers)
            for key, item in value.items()
            if key != "compile_config"
        }
    if isinstance(value, (list, tuple)):
        return [_without_training(item, numbers) for item in value]
    return value


def _array(variable):
    array = np.asarray(ops.convert_to_numpy(variable))
    if array.dtype.kind not in "biuf":  # bfloat16 is not NumPy's
        array = array.astype("float32")
    return array


def _are_the_same(array, other):
    same_kind = array.shape == other.shape and array.dtype == other.dtype
    return same_kind and array.tobytes() == other.tobytes()
