"""From a ticket file to a model."""

import itertools
import math
import os
from collections.abc import Mapping

import keras
import numpy as np
from keras import ops

from mpt_keras.layers.traversal import walk
from mpt_keras.ticket.deferred import initialize, without_values
from mpt_keras.ticket.errors import TicketError
from mpt_keras.ticket.networks import network, set_training_flags
from mpt_keras.ticket.reading import MAX_WEIGHTS, Ticket, read_ticket
from mpt_keras.ticket.slots import other_weights, slots_of

# Random states and the like, which a file does not hold.
_SMALL = 1024


def load_ticket(
    path: str | os.PathLike[str],
    base: Ticket | str | os.PathLike[str] | None = None,
    custom_objects: Mapping[str, type] | None = None,
    max_weights: int = MAX_WEIGHTS,
) -> keras.Model:
    """Loads the model of a ticket file.

    It predicts what the model that was saved predicts, bit by bit, and can be
    trained further: its layers are masked where they were. Scores are not in
    the file; they are those at which the search began, moved across the
    threshold where the mask says so. A kernel that is not drawn from its seed
    holds the weights kept and 0 elsewhere.

    The file need not be trusted: it can name layers, operations and the like
    of Keras and mpt_keras alone, no code, and no memory is taken beyond what
    it announces.

    Args:
        path: A file that `save_ticket` wrote, on whichever backend; or, where
            there is none, the name of a ticket that comes with the package,
            see `mpt_keras.pretrained`.
        base: The ticket, or its file, that this one was saved against.
        custom_objects: Dictionary, registered name -> class of layers of
            one's own that the network may be made of.
        max_weights: Refuse a file that announces more of them.

    Returns:
        Keras model, not compiled.

    Raises:
        TicketError: If the file is no whole, valid ticket, names an object
            that is not allowed, or was saved against another `base`.
        OSError: If the file cannot be read.

    Example:

    >>> mpt_keras.save_ticket(model, "first.ticket")
    >>> loaded = mpt_keras.load_ticket("first.ticket")
    >>> x = np.ones((2, *model.input_shape[1:]))
    >>> bool(keras.ops.all(loaded(x) == model(x)))
    True
    """
    ticket = read_ticket(path, base, max_weights)
    try:
        return _rebuilt(ticket, dict(custom_objects or {}))
    except TicketError as error:
        raise TicketError(f"Cannot load the ticket '{path}'. {error}") from None
    except Exception as error:
        raise TicketError(
            f"Cannot load the ticket '{path}'. Its network cannot be made, "
            f"with Keras {keras.__version__}: {type(error).__name__}: {error}"
        ) from error


def _rebuilt(ticket, custom_objects):
    with without_values() as variables:
        model = network(ticket.config, custom_objects)
    slots = list(slots_of(model).values())
    pairs = kernel_pairs(ticket, slots)
    weights = other_weights(model, [slot for slot, _ in pairs])
    check_weights(ticket, weights)
    values = {}
    for slot, stored in pairs:
        values |= _values_of(slot, stored)
    for variable, array in zip(
        weights.values(), ticket.weights.values(), strict=True
    ):
        values[id(variable)] = lambda array=array: array
    _check_others(variables, values)
    for variable in variables:
        value = values.get(id(variable))
        initialize(variable, None if value is None else value())
    for slot, stored in pairs:
        if slot.masked is not None:
            see_selected(slot.masked, stored.mask)
    for _, layer in walk(model):
        _finish(layer)
    if ticket.trainable is not None:
        set_training_flags(model, ticket.trainable)
    return model


def kernel_pairs(ticket, slots):
    """Pairs of `Slot` and `StoredKernel`, by place: names are not for ever.

    Raises:
        TicketError: Unless these are the kernels of the network.
    """
    pairs = []
    places = set()
    for name, stored in ticket.kernels.items():
        fits = 0 <= stored.place < len(slots) and stored.place not in places
        slot = slots[stored.place] if fits else None
        if slot is None or slot.shape != stored.shape:
            raise TicketError(
                f"It holds a kernel '{name}' of the shape {stored.shape}. "
                "Expected one of its network's."
            )
        masked = slot.masked
        if (masked.binarize if masked else None) != stored.binarize:
            raise TicketError(f"'{name}' is not masked as its layer is.")
        if masked and masked.frozen_part != stored.frozen:
            raise TicketError(f"'{name}' is not frozen as its layer is.")
        places.add(stored.place)
        pairs.append((slot, stored))
    for place, slot in enumerate(slots):
        if slot.masked and place not in places:
            raise TicketError(f"It lacks the kernel of '{slot.layer.name}'.")
    return pairs


def check_weights(ticket, weights):
    """Raises `TicketError` unless file and network have the same weights."""
    pairs = itertools.zip_longest(
        weights.items(), ticket.weights.items(), fillvalue=("none", None)
    )
    for (expected_name, variable), (name, array) in pairs:
        expected = None if variable is None else tuple(variable.shape)
        found = None if array is None else array.shape
        if expected != found:
            raise TicketError(
                f"Its weight '{name}' is of the shape {found}. Expected that "
                f"of '{expected_name}', {expected}."
            )


def _check_others(variables, values):
    """Raises `TicketError` for large variables without values."""
    for variable in variables:
        if id(variable) not in values and math.prod(variable.shape) > _SMALL:
            raise TicketError(
                f"Its network has a variable '{variable.path}' for which it "
                "holds no values."
            )


def _values_of(slot, stored):
    """Functions that make the first values of a kernel's variables, by id."""
    values = {id(slot.kernel): lambda: stored.kernel}
    if slot.masked is None:
        return {id(slot.kernel): lambda: stored.effective}
    scores = slot.masked.scores
    # Those of another initializer are drawn.
    values[id(scores)] = None
    if stored.scores is not None:
        values[id(scores)] = lambda: _scores_of(stored)
    pruned = stored.size - stored.kept
    values[id(slot.masked.pruned)] = lambda: np.array(pruned)
    if slot.masked.frozen is not None:
        values[id(slot.masked.frozen)] = None  # the layer draws it
    return values


def _scores_of(stored):
    """Those of the search's beginning, moved to where the mask is."""
    scores = stored.scores.values(stored.shape)
    if stored.frozen is None:
        return scores_that_select(scores, stored.mask)
    free = stored.frozen.positions(stored.shape) == 0
    return scores_that_select(scores, stored.mask, free)


def see_selected(masked, mask):
    """Sees to it that a kernel selects a mask, whatever its scores are.

    Args:
        masked: `MaskedKernel` that keeps as many weights as the mask.
        mask: Boolean array.
    """
    scores = np.abs(np.asarray(ops.convert_to_numpy(masked.scores), "float32"))
    free, chosen = masked.free(), mask
    if free is not None:
        scores, chosen = scores[free], mask[free]
    lowest_kept = scores.min(where=chosen, initial=np.inf)
    if not lowest_kept > scores.max(where=~chosen, initial=-1.0):
        masked.set_mask(mask)


def scores_that_select(scores, mask, free=None):
    """Scores of which those on the wrong side of the threshold are moved.

    With `a` the largest magnitude that the number of weights kept would prune
    and `b` the smallest that it would keep: a weight kept with the magnitude
    `m < b` gets `a + b - m`, one pruned with `m >= b` gets
    `max(a + b - m, 0)`. Signs stay.

    Args:
        scores: Float32 array.
        mask: Boolean array of its shape.
        free: Boolean array of its shape, False at the weights that are frozen
            and whose scores are 0; None if there are none.
    """
    if free is not None:
        scores[free] = scores_that_select(scores[free], mask[free])
        scores[~free] = 0.0
        return scores
    magnitudes = np.abs(scores)
    pruned = mask.size - int(np.count_nonzero(mask))
    if not 0 < pruned < mask.size:
        return scores
    parted = np.partition(magnitudes, (pruned - 1, pruned), axis=None)
    highest, lowest = parted[pruned - 1], parted[pruned]
    wrong = (magnitudes >= lowest) != mask
    found = magnitudes[wrong]
    moved = np.where(
        mask[wrong],
        lowest + (highest - found),
        np.maximum(highest - (found - lowest), 0.0),
    )
    scores[wrong] = np.copysign(moved, scores[wrong])
    return scores


def _finish(layer):
    """Lets a layer compute what it computes once its weights are loaded."""
    if hasattr(layer, "finalize_state"):
        layer.finalize_state()
    # Keras' other layers only put their weights in place, or merge them.
    loads = type(layer).load_own_variables
    if loads.__module__.split(".")[0] not in ("keras", "mpt_keras"):
        store = {}
        layer.save_own_variables(store)
        layer.load_own_variables(store)
