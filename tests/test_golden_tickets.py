"""Tickets of a version mean the same for ever, on every backend.

`golden_tickets.py` wrote them.
"""

import json
import subprocess
import sys

import backend
import every_layer
import golden_tickets
import keras
import numpy as np
import pytest
from golden_tickets import BASES, FOLDER

import mpt_keras as mpt
from mpt_keras.ticket.slots import slots_of

EXPECTED = json.loads((FOLDER / "expected.json").read_text())


def load(name):
    base = BASES.get(name)
    return mpt.load_ticket(FOLDER / name, base and FOLDER / base)


def test_no_file_is_missing():
    found = {path.name for path in FOLDER.glob("*.ticket")}
    assert found == EXPECTED.keys()
    assert len(found) == 12


@pytest.mark.parametrize("name", EXPECTED)
def test_what_is_read_is_what_was_written(name):
    found = golden_tickets.read(name)
    assert golden_tickets.digests(found) == EXPECTED[name]


@pytest.mark.parametrize("name", EXPECTED)
def test_signs_are_those_of_the_kernels(name):
    for stored in golden_tickets.read(name).kernels.values():
        signs = np.where(stored.mask, np.sign(stored.kernel), 0)
        assert stored.ternary.dtype == "int8"
        np.testing.assert_array_equal(stored.ternary, signs)


@pytest.mark.parametrize("name", EXPECTED)
def test_what_is_loaded_is_what_was_read(name):
    found, model = golden_tickets.read(name), load(name)
    slots = list(slots_of(model).values())
    for stored in found.kernels.values():
        slot = slots[stored.place]
        effective = slot.kernel
        if slot.masked:
            np.testing.assert_array_equal(
                backend.as_numpy(slot.masked.mask()), stored.mask
            )
            effective = slot.masked.effective()
        effective = backend.as_numpy(effective)
        # Gains may be rounded to the type of the kernel.
        np.testing.assert_array_equal(
            effective.astype("float32"),
            stored.effective.astype(effective.dtype).astype("float32"),
        )
    for path, value in found.weights.items():
        (same,) = (
            weight
            for weight in model.get_layer(path.split("/")[0]).weights
            if weight.path.endswith(path)
        )
        np.testing.assert_array_equal(
            backend.as_numpy(same).astype(value.dtype), value
        )


def test_predictions_are_those_of_the_model_that_was_saved():
    loaded = load("every_layer.ticket")
    model = keras.models.load_model(every_layer.DATA / "every_layer.keras")
    inputs = every_layer.read(model)["inputs"]
    found, expected = loaded(inputs), model(inputs)
    for name, outputs in expected.items():
        np.testing.assert_array_equal(
            *map(backend.as_numpy, (found[name], outputs)), name
        )


def test_reading_needs_no_keras():
    code = (
        "import sys, mpt_keras\n"
        "found = mpt_keras.ticket.read_ticket(sys.argv[1])\n"
        "[kernel.effective for kernel in found.kernels.values()]\n"
        "assert not {'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules)"
    )
    path = FOLDER / "recycled.ticket"
    subprocess.run([sys.executable, "-c", code, path], check=True)
