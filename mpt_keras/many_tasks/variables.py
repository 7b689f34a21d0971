"""The variables of a model that all tasks share, and those of each task."""

import contextlib
import dataclasses

import numpy as np

from mpt_keras.layers.traversal import masked_layers, walk
from mpt_keras.many_tasks.held import (
    Bits,
    Scores,
    Task,
    are_the_same,
    as_array,
    checksum,
)
from mpt_keras.sparsity import pruned_count
from mpt_keras.ticket.errors import TicketError
from mpt_keras.ticket.loading import check_weights, kernel_pairs
from mpt_keras.ticket.slots import other_weights, slots_of


class TaskVariables:
    """Reads a task from a model, and writes it into the model.

    Attributes:
        start: The task that the model held at first. Other tasks keep no copy
            of what they have in common with it.
    """

    def __init__(self, model):
        self._model = model
        self._masked = [
            slot.masked for slot in slots_of(model).values() if slot.masked
        ]
        if not self._masked:
            raise ValueError(
                f"Model '{model.name}' holds no masked layer, so there is "
                "nothing of which each task could have its own. Expected "
                "layers such as mpt_keras.MPTDense."
            )
        self._layers = masked_layers(model)
        self._asked = [layer._sparsities for layer in self._layers]
        self._frozen, self._others = _divided(model, self._masked)
        self._shared = self._what_is_shared()
        self.start = None
        self.start = self.read()

    @property
    def weights(self):
        """How many masked weights there are."""
        return sum(masked.size for masked in self._masked)

    def read(self):
        """The task that the model holds."""
        kernels = [
            Scores(as_array(masked.scores), int(as_array(masked.pruned)))
            for masked in self._masked
        ]
        sparsities = [layer.sparsity for layer in self._layers]
        others = list(map(as_array, self._others))
        return self.sharing(Task(sparsities, kernels, others))

    def write(self, task):
        for layer, sparsity in zip(self._layers, task.sparsities, strict=True):
            layer.sparsity = sparsity  # as it was asked for
        for masked, kernel, start in zip(
            self._masked, task.kernels, self.start.kernels, strict=True
        ):
            kernel.put(masked, start)
        for variable, value in zip(self._others, task.others, strict=True):
            variable.assign(value)

    @contextlib.contextmanager
    def as_they_were(self):
        """A scope in which the model may hold other tasks."""
        held = self.read()
        try:
            yield
        finally:
            self.write(held)

    def packed(self, task):
        """A task with bits instead of scores; the model holds it then."""
        self.write(task)
        for masked in self._masked:
            masked.check_scores()
        kernels = [Bits.of(masked.arrays()[1]) for masked in self._masked]
        return Task(task.sparsities, kernels, task.others)

    def sharing(self, task):
        """The same task, without copies of what is as at the start."""
        if self.start is None:
            return task
        others = [
            first if are_the_same(other, first) else other
            for other, first in zip(task.others, self.start.others, strict=True)
        ]
        return dataclasses.replace(task, others=others)

    def own(self, task):
        """Arrays beside the kernels that a task does not share."""
        return [
            other
            for other, first in zip(task.others, self.start.others, strict=True)
            if other is not first
        ]

    def scores_checksum(self):
        return checksum(
            variable
            for masked in self._masked
            for variable in (masked.scores, masked.pruned)
        )

    def task_of(self, ticket):
        """The task of a ticket, after its kernels were compared with ours."""
        slots = list(slots_of(self._model).values())
        pairs = kernel_pairs(ticket, slots)
        weights = other_weights(self._model, [slot for slot, _ in pairs])
        check_weights(ticket, weights)
        values = {
            id(variable): array
            for variable, array in zip(
                weights.values(), ticket.weights.values(), strict=True
            )
        }
        masks = {}
        for slot, stored in pairs:
            if slot.masked is None:
                values[id(slot.kernel)] = stored.effective
                continue
            kernel = as_array(slot.kernel)
            if not _keeps_weights_of(stored, kernel):
                raise TicketError(
                    f"Its kernel '{stored.name}' is not that of layer "
                    f"'{slot.layer.name}': it is the ticket of another random "
                    "network. Expected one of the same seeds."
                )
            masks[id(slot.masked)] = stored.mask
        sparsities = [
            _sparsity([masks[id(one)] for one in layer.masked_kernels], asked)
            for layer, asked in zip(self._layers, self._asked, strict=True)
        ]
        kernels = [Bits.of(masks[id(masked)]) for masked in self._masked]
        others = [values[id(variable)] for variable in self._others]
        return self.sharing(Task(sparsities, kernels, others))

    def check_shared(self):
        """Raises `ValueError` if what all tasks share has changed."""
        for now, before in zip(
            self._what_is_shared(), self._shared, strict=True
        ):
            if now != before:
                raise ValueError(
                    f"'{now[0]}' of model '{self._model.name}' has changed "
                    "since TaskMasks was made of the model, and with it what "
                    "every task predicts. Expected frozen kernels, `binarize` "
                    "and layers such as Normalization as they were: without "
                    "WeightRecycling, and adapted before."
                )

    def _what_is_shared(self):
        """Pairs of a name and what may not change; names may be alike."""
        checksums = [(v.path, checksum([v])) for v in self._frozen]
        return checksums + [
            (f"{one.layer_name}.binarize", one.binarize) for one in self._masked
        ]


def _divided(model, masked):
    """What all tasks share, and what each has beside its scores."""
    frozen = [one.kernel for one in masked]
    frozen += [one.frozen for one in masked if one.frozen is not None]
    for _, layer in walk(model):
        if hasattr(layer, "finalize_state"):  # compiled in as constants
            frozen += layer.weights
    left_out = {id(variable) for variable in frozen}
    for one in masked:
        left_out |= {id(one.scores), id(one.pruned)}
    return frozen, [v for v in model.weights if id(v) not in left_out]


def _sparsity(masks, asked):
    """What masks prune, as a layer has it: what was asked for, if it is that.

    Args:
        masks: A Boolean array for each kernel.
        asked: A number for each kernel.
    """
    pruned = [mask.size - int(np.count_nonzero(mask)) for mask in masks]
    found = tuple(
        number
        if pruned_count(number, mask.size) == count
        else count / mask.size
        for mask, count, number in zip(masks, pruned, asked, strict=True)
    )
    return found[0] if len(found) == 1 else found


def _keeps_weights_of(stored, kernel):
    """Whether a ticket's kernel computes with the weights of this one."""
    if stored.binarize and stored.draw is None:
        signs = np.where(stored.mask, np.sign(kernel), 0)
        return np.array_equal(stored.ternary, signs)
    kept = stored.kernel[stored.mask]
    return np.array_equal(kept, kernel[stored.mask])
