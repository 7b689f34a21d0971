"""The weights of a ticket, by layer."""

import dataclasses

import numpy as np

from mpt_keras.runtime.graph import Graph, Layer
from mpt_keras.ticket.errors import TicketError
from mpt_keras.ticket.reading import Ticket

_ONE, _TWO = ("kernel",), ("depthwise_kernel", "pointwise_kernel")
_ORDINARY = {
    **dict.fromkeys(("Dense", "EinsumDense"), _ONE),
    **dict.fromkeys((f"Conv{n}D" for n in (1, 2, 3)), _ONE),
    **dict.fromkeys((f"Conv{n}DTranspose" for n in (1, 2, 3)), _ONE),
    **dict.fromkeys((f"DepthwiseConv{n}D" for n in (1, 2)), _ONE),
    **dict.fromkeys((f"SeparableConv{n}D" for n in (1, 2)), _TWO),
}
_MASKED = {
    "mpt_keras>MPTDense": _ONE,
    **dict.fromkeys((f"mpt_keras>MPTConv{n}D" for n in (1, 2, 3)), _ONE),
    **dict.fromkeys(
        (f"mpt_keras>MPTConv{n}DTranspose" for n in (1, 2, 3)), _ONE
    ),
    **dict.fromkeys((f"mpt_keras>MPTDepthwiseConv{n}D" for n in (1, 2)), _ONE),
    **dict.fromkeys((f"mpt_keras>MPTSeparableConv{n}D" for n in (1, 2)), _TWO),
    "mpt_keras>MPTEmbedding": ("embeddings",),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Kernel:
    """`gain * weights`, in Keras' order of axes.

    Attributes:
        weights: int8 array of -1, 0, +1, or float32.
        gain: float32 number; 1 for float32 weights.
    """

    weights: np.ndarray
    gain: np.float32


class Weights:
    """Finds the weights of the layers of a graph in a ticket.

    Args:
        ticket: `Ticket`.
        graph: `Graph` of its configuration.
    """

    def __init__(self, ticket: Ticket, graph: Graph) -> None:
        self._arrays = ticket.weights
        by_place = {kernel.place: kernel for kernel in ticket.kernels.values()}
        self._kernels = {
            names: by_place[place]
            for place, names in enumerate(_places(graph))
            if place in by_place
        }

    def variable(self, layer: Layer, name: str, shape: tuple) -> np.ndarray:
        """A layer's weight that is no kernel, as float32.

        Raises:
            TicketError: If it is not there or has another shape.
        """
        full_name = f"{layer.path}/{name}"
        array = self._arrays.get(full_name)
        if array is None:
            raise TicketError(f"It lacks the weight '{full_name}'.")
        _check_shape(full_name, array.shape, shape)
        return array.astype("float32")

    def kernel(self, layer: Layer, name: str, shape: tuple) -> Kernel:
        """A layer's kernel.

        Raises:
            TicketError: As for `variable`.
        """
        stored = self._kernels.get((layer.path, name))
        if stored is None:
            return _as_signs(self.variable(layer, name, shape))
        _check_shape(f"{layer.path}/{name}", stored.shape, shape)
        if stored.binarize:
            return Kernel(stored.ternary, np.float32(stored.gain))
        return _as_signs(stored.effective)


def _places(graph):
    """Pairs of path and name of all kernels: the masked ones, then others."""
    layers = list(graph.walk())
    return [
        (layer.path, name)
        for kinds in (_MASKED, _ORDINARY)
        for layer in layers
        for name in kinds.get(layer.kind, ())
    ]


def _as_signs(kernel):
    """A kernel of one magnitude, by its signs; others as they are."""
    magnitudes = np.abs(kernel)
    largest = magnitudes.max(initial=0.0)
    is_one = ((magnitudes == largest) | (magnitudes == 0)).all()
    if not is_one or not 0 < largest < np.inf:
        return Kernel(kernel, np.float32(1))
    return Kernel(np.sign(kernel).astype("int8"), np.float32(largest))


def _check_shape(name, found, expected):
    if tuple(found) != tuple(expected):
        raise TicketError(
            f"Expected '{name}' of the shape {tuple(expected)}. Received: "
            f"shape {tuple(found)}"
        )
