"""Which variables of a model a ticket fills, and under which names."""

import dataclasses
from typing import Any

from mpt_keras.layers.masked import MaskedLayer
from mpt_keras.layers.masked_kernel import MaskedKernel
from mpt_keras.layers.ordinary import EMBEDDINGS, ordinary_kernels
from mpt_keras.layers.traversal import masked_kernels_and_layers, walk


@dataclasses.dataclass(frozen=True, eq=False)
class Slot:
    """A kernel of a model.

    Attributes:
        kernel: Keras variable.
        masked: `MaskedKernel`, or None for an ordinary layer's kernel.
        layer: Masked layer, or None.
        attribute: Name of the kernel's attribute of the masked layer.
    """

    kernel: Any
    masked: MaskedKernel | None = None
    layer: MaskedLayer | None = None
    attribute: str | None = None

    @property
    def shape(self):
        return tuple(self.kernel.shape)

    @property
    def variables(self):
        """All variables that the kernel of a ticket stands for."""
        if self.masked is None:
            return [self.kernel]
        variables = [self.kernel, self.masked.scores, self.masked.pruned]
        if self.masked.frozen is not None:
            variables.append(self.masked.frozen)
        return variables


def slots_of(model) -> dict[str, Slot]:
    """The kernels of a model by name, masked ones first, tables last.

    Raises:
        ValueError: As for `masked_kernels`.
    """
    slots = {
        name: Slot(masked.kernel, masked, layer, attribute)
        for name, (masked, layer, attribute) in masked_kernels_and_layers(
            model
        ).items()
    }
    ordinary = ordinary_kernels(model, trainable=False)
    tables = ordinary_kernels(model, trainable=False, kinds=EMBEDDINGS)
    for name, kernel in (*ordinary.items(), *tables.items()):
        slots[_free(name, slots)] = Slot(kernel)
    return slots


def other_weights(model, slots) -> dict[str, Any]:
    """The weights of a model but for those of some kernels, by name.

    Args:
        model: A built Keras model.
        slots: The `Slot`s to leave out.

    Returns:
        Dictionary, path of the layer and name of the variable in it, such as
        `"batch_normalization/gamma"` -> Keras variable. Keras' own paths
        differ with the way in which a model was built.
    """
    left_out = {id(v) for slot in slots for v in slot.variables}
    names = {}
    for path, layer in walk(model):  # the innermost layers last
        for variable in layer.weights:
            name = f"{path}/{variable.name}" if path else variable.name
            names[id(variable)] = name
    weights = {}
    for variable in model.weights:
        if id(variable) not in left_out:
            weights[_free(names[id(variable)], weights)] = variable
    return weights


def _free(name, taken):
    number = 2
    free = name
    while free in taken:
        free, number = f"{name}#{number}", number + 1
    return free
