"""Files of the ticket format, which every later reader must read.

    KERAS_BACKEND=tensorflow python tests/golden_tickets.py

wrote `data/tickets/`: one ticket for each way in which a kernel may be stored,
and in `expected.json` the SHA-256 of what is in them. Files of a version that
was released are never written anew.
"""

import hashlib
import json

import backend
import every_layer
import keras
import numpy as np
from keras import layers

import mpt_keras as mpt
from mpt_keras import ticket
from mpt_keras.layers.traversal import masked_kernels

FOLDER = every_layer.DATA / "tickets"
# A ticket -> the one that it is an update of.
BASES = {"update.ticket": "searched.ticket"}


def network(kernel_initializer=None, **options):
    """A small network of layers with one kernel and with two."""
    options = {"sparsity": 0.6, **options}
    drawn = {"kernel_initializer": kernel_initializer}
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3), name="images"),
            mpt.MPTConv2D(6, 3, seed=1, name="first", **options, **drawn),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
            mpt.MPTSeparableConv2D(8, 3, seed=2, name="second", **options),
            layers.Flatten(name="flat"),
            mpt.MPTDense(
                10, use_bias=True, seed=3, name="last", **options, **drawn
            ),
        ],
        name="golden",
    )
    draw = np.random.default_rng(0)
    for variable in model.get_layer("norm").weights:
        variable.assign(draw.uniform(0.5, 1.5, variable.shape))
    return searched(model, 0.3, draw)


def searched(model, amount, draw):
    """Scores moved as a search might move them."""
    for masked in masked_kernels(model).values():
        scores, kernel = map(backend.as_numpy, (masked.scores, masked.kernel))
        moved = amount * kernel * draw.standard_normal(scores.shape)
        masked.scores.assign(scores + moved.astype("float32"))
    return model


def recycled(model):
    for masked in masked_kernels(model).values():
        kernel, scores = map(backend.as_numpy, (masked.kernel, masked.scores))
        masked.kernel.assign(mpt.weight_recycling.recycled(kernel, scores, 0.4))
    return model


def pruned():
    model = keras.Sequential(
        [
            keras.Input((30,), name="numbers"),
            layers.Dense(20, activation="relu", name="first"),
            layers.Dense(5, name="last"),
        ],
        name="pruned",
    )
    draw = np.random.default_rng(1)
    for layer in model.layers:
        kernel = draw.standard_normal(layer.kernel.shape)
        kernel[draw.random(kernel.shape) < 0.9] = 0
        layer.kernel.assign(kernel)
    return model


def write():
    """Writes the folder."""
    FOLDER.mkdir(exist_ok=True)
    model = network()
    models = {
        "every_layer": keras.models.load_model(
            every_layer.DATA / "every_layer.keras"
        ),
        "searched": model,
        "recycled": recycled(network()),
        "recycled_values": recycled(network(binarize=False)),
        "other_scores": network(
            scores_initializer=mpt.initializers.KaimingNormal(seed=4),
            kernel_initializer=mpt.initializers.SignedConstant(),
        ),
        "unknown_seed": network(kernel_initializer="glorot_uniform"),
        "bfloat16": network(dtype="bfloat16"),
        "frozen": mpt.freeze(network()),
        # Of version 2, as the only one.
        "frozen_parts": network(frozen_pruned=0.3, frozen_kept=0.2),
        "pruned": pruned(),
    }
    for name, each in models.items():
        mpt.save_ticket(each, FOLDER / f"{name}.ticket")
    mpt.save_ticket(
        models["pruned"], FOLDER / "half.ticket", values_dtype="float16"
    )
    searched(model, 0.02, np.random.default_rng(2))
    mpt.save_ticket(
        model, FOLDER / "update.ticket", base=FOLDER / "searched.ticket"
    )
    expected = {
        path.name: digests(read(path.name))
        for path in sorted(FOLDER.glob("*.ticket"))
    }
    text = json.dumps(expected, indent=1) + "\n"
    (FOLDER / "expected.json").write_text(text)


def read(name):
    base = BASES.get(name)
    return ticket.read_ticket(FOLDER / name, base and FOLDER / base)


def digests(found):
    """Name of a kernel or weight -> SHA-256 of what a layer computes with."""
    arrays = {
        f"{name} ({'drawn' if kernel.draw else 'stored'})": kernel.effective
        for name, kernel in found.kernels.items()
    }
    return {
        name: hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
        for name, array in (arrays | found.weights).items()
    }


if __name__ == "__main__":
    write()
