"""From a model to a ticket file."""

import hashlib
import itertools
import json
import os
import pathlib

import keras
import numpy as np
from keras import ops

from mpt_keras import files, sums
from mpt_keras.layers.traversal import walk
from mpt_keras.ticket.container import as_json, pack
from mpt_keras.ticket.deferred import without_values
from mpt_keras.ticket.errors import TicketError
from mpt_keras.ticket.kernels import decode_kernel, encode_kernel
from mpt_keras.ticket.networks import network
from mpt_keras.ticket.reading import (
    Ticket,
    kernel_in_place,
    read_ticket,
)
from mpt_keras.ticket.slots import other_weights, slots_of

_BITS_OF_A_FLOAT = 32
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
    scores little. Kernels that no longer follow from their seed (recycled
    ones, checkpoints of others) take the signs of the weights kept beside it,
    one bit each, or their values without `binarize`. Of ordinary layers with
    zeros in their kernels (a pruned network, a frozen ticket) mask and kept
    weights are stored. All other weights are stored as they are, and so is
    the architecture. Optimizer, loss and random states are left out.

    The same model gives the same bytes (with the same zlib).

    Args:
        model: A built Keras model with masked layers, or with ordinary ones
            that have zeros in their kernels.
        path: The file; replaced if it is there. `load_ticket` takes any name.
        base: A ticket, or its file, of the same network, such as that of an
            epoch before: only what differs from it is stored, and loading
            needs it.
        values_dtype: `"float32"`; or `"float16"`, which rounds the kept
            weights of pruned ordinary layers, and so changes predictions.

    Raises:
        ValueError: If there is no ticket in the model, it is not built, a
            score is NaN, a layer cannot be made again from its configuration
            or holds code, or `values_dtype` is neither or cannot hold a value.
        TicketError: If `base` is no ticket.
        OSError: If the file cannot be written. The one before is unharmed.

    Example:

    >>> mpt_keras.save_ticket(model, "digits.ticket")
    >>> same = mpt_keras.load_ticket("digits.ticket")
    """
    path = pathlib.Path(path)
    data = ticket_bytes(model, base, values_dtype)
    files.write_whole(path, data)


def ticket_bytes(model, base=None, values_dtype="float32") -> bytes:
    """The bytes of the file that `save_ticket` writes; the same arguments."""
    if not isinstance(model, keras.Model):
        raise ValueError(f"Expected a Keras model. Received: {model!r}")
    if not model.built:
        raise ValueError(
            f"Model '{model.name}' is not built, so its weights do not exist "
            "yet. Call it on a batch, or start it with keras.Input."
        )
    if values_dtype not in ("float32", "float16"):
        raise ValueError(
            "Invalid value for argument `values_dtype`. Expected 'float32' or "
            f"'float16'. Received: values_dtype={values_dtype!r}"
        )
    if base is not None and not isinstance(base, Ticket):
        base = read_ticket(base)
    config = _config(model)
    slots = slots_of(model)
    records, arrays, digest = [], {}, hashlib.sha256()
    stored = []
    for place, (name, slot) in enumerate(slots.items()):
        before = kernel_in_place(base, place, slot.shape)
        if slot.masked is None:
            encoded = _ordinary_kernel(name, place, slot, values_dtype, before)
        else:
            encoded = _masked_kernel(name, place, slot, before)
        if encoded is None:
            continue
        record, of_the_kernel = encoded
        # What a reader will get, to be sure that it can.
        decode_kernel(record, of_the_kernel, before).digest_into(digest)
        records.append(record)
        arrays |= of_the_kernel
        stored.append(slot)
    if not records:
        raise ValueError(
            f"There is no ticket in model '{model.name}': it holds no masked "
            "layer, and no kernel with zeros worth leaving out."
        )
    weights = other_weights(model, stored)
    _check_rebuilds(model, config, slots, stored, weights)
    before = list(base.weights.values()) if base else []
    for number, (weight_name, variable) in enumerate(weights.items()):
        array = _array(variable)
        if number < len(before) and _same(array, before[number]):
            continue
        arrays[f"weights/{weight_name}"] = array
    description = {
        "config": config,
        "kernels": records,
        "weights": list(weights),
        "rebuilt": digest.hexdigest(),
    }
    return pack(
        description,
        arrays,
        base.description if base else None,
        base.checksum if base else None,
    )


def _masked_kernel(name, place, slot, base):
    slot.masked.check_scores()
    kernel, mask, gain = slot.masked.arrays()
    return encode_kernel(
        name,
        place,
        kernel,
        mask,
        dtype=_dtype(slot),
        binarize=bool(slot.masked.binarize),
        gain=float(gain),
        draw=slot.layer.draw(slot.attribute),
        scores=slot.layer.draw(slot.attribute, of_scores=True),
        magnitude=_magnitude(kernel, mask, gain, slot.masked.binarize),
        base=base,
    )


def _magnitude(kernel, mask, gain, binarize):
    """A magnitude of which the mean is the gain to the bit, or None."""
    if not binarize or not kernel[mask].all():
        return None
    kept = np.float32(np.count_nonzero(mask))
    candidate = gain
    for direction in (0.0, np.inf, -np.inf):
        candidate = gain
        for _ in range(_NEIGHBOURS if direction else 1):
            if direction:
                candidate = np.nextafter(candidate, np.float32(direction))
            if (
                sums.mean_kept(np.full_like(kernel, candidate), mask, kept, np)
                == gain
            ):
                return candidate
    return None


def _ordinary_kernel(name, place, slot, values_dtype, base):
    """Mask and kept weights, where they take less than the kernel does."""
    kernel = _array(slot.kernel)
    mask = kernel != 0
    if kernel.dtype != np.float32 or mask.all():
        return None
    magnitudes = np.unique(np.abs(kernel[mask]))
    with np.errstate(over="ignore"):
        overflows = np.isinf(kernel.astype(values_dtype)) & ~np.isinf(kernel)
    if overflows.any():
        raise ValueError(
            f"Kernel '{name}' holds values that float16 cannot. Expected "
            "values_dtype='float32'."
        )
    record, arrays = encode_kernel(
        name,
        place,
        kernel,
        mask,
        dtype=_dtype(slot),
        magnitude=magnitudes[0] if len(magnitudes) == 1 else None,
        values_dtype=values_dtype,
        base=base,
    )
    if sum(array.nbytes for array in arrays.values()) >= kernel.nbytes:
        return None
    return record, arrays


def _config(model):
    """The architecture, as JSON gives it back."""
    config = keras.saving.serialize_keras_object(model)
    config.pop("compile_config", None)
    try:
        config = json.loads(as_json(_renumbered(config, {})))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The architecture of model '{model.name}' cannot be stored: a "
            f"configuration holds what JSON cannot. {error}"
        ) from error
    return config


def _renumbered(value, numbers):
    """Shared objects by the order in which they come, not by their address."""
    if isinstance(value, dict):
        return {
            key: numbers.setdefault(item, len(numbers))
            if key == "shared_object_id"
            else _renumbered(item, numbers)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_renumbered(item, numbers) for item in value]
    return value


def _check_rebuilds(model, config, slots, stored, weights):
    """Raises `ValueError` unless a model is what its configuration says."""
    for layer_path, layer in walk(model):
        _check_state(layer, layer_path)
    registered = keras.saving.get_custom_objects()
    try:
        with without_values():
            copy = network(config, registered)
        found = list(slots_of(copy).values())
        left_out = [
            other
            for slot, other in zip(slots.values(), found, strict=False)
            if slot in stored
        ]
        others = list(other_weights(copy, left_out).values())
    except TicketError as error:
        raise ValueError(
            f"Model '{model.name}' cannot be stored as a ticket. {error}"
        ) from error
    except Exception as error:
        raise ValueError(
            f"Model '{model.name}' cannot be made again from its "
            f"configuration{_culprit(model)}. Expected layers whose "
            "`get_config` says all that they are made of, and that build "
            f"their weights in `build`. Keras says: {error}"
        ) from error
    pairs = itertools.zip_longest(slots.items(), found)
    for (name, slot), other in pairs:
        if other is None or other.shape != slot.shape:
            raise ValueError(
                f"Layer '{name}' cannot be made again from its configuration: "
                f"expected a kernel of the shape {slot.shape}. Its "
                "`get_config` must say all that it is made of."
            )
    pairs = itertools.zip_longest(weights.items(), others)
    for (weight_name, variable), other in pairs:
        shape = tuple(variable.shape)
        if other is None or tuple(other.shape) != shape:
            raise ValueError(
                f"Weight '{weight_name}' of model '{model.name}' cannot be "
                "made again from its layer's configuration: expected the shape "
                f"{shape}."
            )


def _check_state(layer, layer_path):
    """Raises `ValueError` if a layer keeps more than variables."""
    saves = type(layer).save_own_variables
    if saves is keras.layers.Layer.save_own_variables:
        return
    store = {}
    layer.save_own_variables(store)
    own = layer._trainable_variables + layer._non_trainable_variables
    if len(store) > len(own):
        raise ValueError(
            f"Layer '{layer_path or layer.name}' keeps state beside its "
            "weights, which a ticket does not hold."
        )


def _culprit(model):
    """The name of the layer that Keras cannot make again, if it is one."""
    for layer_path, layer in walk(model):
        if layer is model:
            continue
        try:
            with without_values():
                keras.saving.deserialize_keras_object(
                    keras.saving.serialize_keras_object(layer)
                )
        except Exception:
            return f" (layer '{layer_path}')"
    return ""


def _array(variable):
    array = np.asarray(ops.convert_to_numpy(variable))
    if array.dtype.kind not in "biuf":  # bfloat16 is not NumPy's
        array = array.astype("float32")
    return array


def _dtype(slot):
    return keras.backend.standardize_dtype(slot.kernel.dtype)


def _same(array, other):
    return (
        array.shape == other.shape
        and array.dtype == other.dtype
        and array.tobytes() == other.tobytes()
    )
