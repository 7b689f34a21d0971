"""What a run leaves for others: a plain Keras file, a SavedModel, a ticket."""

import math

import keras
from keras import ops

from mpt_keras.conversion import freeze
from mpt_keras.engines import export
from mpt_keras.layers import masked_layers
from mpt_keras.layers.ordinary import ordinary_kernels
from mpt_keras.ticket import save_ticket

_COMPARED = 100


def ship(model, prepared, folder):
    """Leaves a trained model in the forms that others take.

    Args:
        model: Keras model from raw images to class scores.
        prepared: `preparation.Prepared`.
        folder: Path of a folder that is there.

    Returns:
        Paths, relative to the folder: `plain` (an ordinary Keras model),
        `saved_model` (None but on TensorFlow); and `ticket` (the smallest
        form) with its size, `ticket_bytes`.
    """
    shipped = freeze(model) if masked_layers(model) else model
    plain = folder / "ticket.keras"
    beside = folder / "partial-ticket.keras"
    shipped.save(beside)
    beside.replace(plain)
    saved_model = None
    if keras.backend.backend() == "tensorflow":
        saved_model = "saved_model"
        export(
            shipped,
            folder / saved_model,
            format="saved_model",
            inputs=prepared.images.first_test_images(_COMPARED),
        )
    return {
        "plain": plain.name,
        "saved_model": saved_model,
        **save_small(model, folder),
    }


def save_small(model, folder):
    """Leaves the ticket file alone; its name and its bytes, or None.

    A dense network has nothing to leave out, and so none.
    """
    if not masked_layers(model) and not _is_pruned(model):
        return {"ticket": None, "ticket_bytes": None}
    ticket = folder / "network.ticket"
    save_ticket(model, ticket)
    return {"ticket": ticket.name, "ticket_bytes": ticket.stat().st_size}


def _is_pruned(model):
    kernels = ordinary_kernels(model).values()
    return any((ops.convert_to_numpy(k) == 0).any() for k in kernels)


def kept(model):
    """Weights and weights kept, in all and per masked layer."""
    masked = masked_layers(model)
    if not masked:
        kernels = ordinary_kernels(model).values()
        weights = sum(math.prod(kernel.shape) for kernel in kernels)
        return {"weights": weights, "weights_kept": weights, "layers": {}}
    layers = {
        layer.name: {
            "weights": sum(m.size for m in layer.masked_kernels),
            "kept": sum(int(m.kept()) for m in layer.masked_kernels),
        }
        for layer in masked
    }
    return {
        "weights": sum(layer["weights"] for layer in layers.values()),
        "weights_kept": sum(layer["kept"] for layer in layers.values()),
        "layers": layers,
    }
