"""Tickets of kernels of which the seed prunes or keeps some weights."""

import json

import keras
import numpy as np
import pytest
import slow_mask_decoder
from backend import as_numpy
from golden_tickets import network, recycled, searched

import mpt_keras as mpt
from mpt_keras.layers.traversal import masked_kernels
from mpt_keras.ticket import container
from mpt_keras.ticket.reading import parse_ticket
from mpt_keras.ticket.saving import ticket_bytes
from mpt_keras.ticket.start import draw_quantiles

HALF = {"frozen_pruned": 0.3, "frozen_kept": 0.2}
KINDS = {
    "drawn": dict,
    "real": lambda: {"binarize": False},
    "other_scores": lambda: {
        "scores_initializer": mpt.initializers.KaimingNormal(seed=4)
    },
    "unknown_scores": lambda: {
        "scores_initializer": keras.initializers.RandomNormal(seed=4)
    },
    "unknown_kernel": lambda: {"kernel_initializer": "glorot_uniform"},
    "bfloat16": lambda: {"dtype": "bfloat16"},
    "pruned_alone": lambda: {"frozen_kept": 0.0},
    "kept_alone": lambda: {"frozen_pruned": 0.0},
    "nothing_else_pruned": lambda: {"sparsity": 0.3},
    "nothing_else_kept": lambda: {"frozen_kept": 0.25, "sparsity": 0.75},
}


def ticket(kind="drawn"):
    return network(**{**HALF, **KINDS[kind]()})


def masks(model):
    return {
        name: as_numpy(masked.mask())
        for name, masked in masked_kernels(model).items()
    }


def images():
    draw = np.random.default_rng(5)
    return draw.standard_normal((3, 8, 8, 3)).astype("float32")


def repacked(data, change):
    """A file whose description is changed, with the right checksum."""
    contents = container.Contents(data)
    description = json.loads(contents.description())
    version = change(description, contents.arrays) or contents.version
    return container.pack(description, contents.arrays, version=version)


@pytest.mark.parametrize("kind", KINDS)
def test_files_hold_what_the_model_is(kind, tmp_path):
    model = ticket(kind)
    mpt.save_ticket(model, tmp_path / "a.ticket")
    found = mpt.ticket.read_ticket(tmp_path / "a.ticket")
    expected = masks(model)
    for name, masked in masked_kernels(model).items():
        stored = found.kernels[name]
        np.testing.assert_array_equal(stored.mask, expected[name])
        assert stored.frozen == masked.frozen_part
        assert stored.kept == int(masked.kept())
    loaded = mpt.load_ticket(tmp_path / "a.ticket")
    np.testing.assert_array_equal(
        as_numpy(loaded(images())), as_numpy(model(images()))
    )
    assert loaded.get_layer("last").sparsity == model.get_layer("last").sparsity
    for name, masked in masked_kernels(loaded).items():
        np.testing.assert_array_equal(as_numpy(masked.mask()), expected[name])
        scores = as_numpy(masked.scores).astype("float32")
        assert (scores[~masked.free()] == 0).all()
    assert ticket_bytes(loaded) == (tmp_path / "a.ticket").read_bytes()


def test_a_recycled_kernel_and_an_update():
    model = recycled(ticket())
    base = parse_ticket(ticket_bytes(model))
    assert base.kernels["last"].draw is None
    searched(model, 0.02, np.random.default_rng(2))
    data = ticket_bytes(model, base)
    assert len(data) < len(ticket_bytes(model))
    found = parse_ticket(data, base)
    for name, mask in masks(model).items():
        np.testing.assert_array_equal(found.kernels[name].mask, mask)


def test_a_decoder_from_the_document_reads_them():
    model = ticket()
    contents = container.Contents(ticket_bytes(model))
    assert contents.version == 2
    records = json.loads(contents.description())["kernels"]
    record = records[-1]
    size = np.prod(record["shape"])
    frozen, draw = record["frozen"], record["scores"]
    key = frozen["seed"] + frozen["stream"] * 2**64
    raw = np.random.Philox(key=key).random_raw(size)
    order = np.argsort(raw // 2**32, kind="stable")
    free = np.ones(size, bool)
    free[order[: frozen["pruned"]]] = False
    free[order[size - frozen["kept"] :]] = False
    kernel = as_numpy(model.get_layer("last").kernel)
    bits = slow_mask_decoder.decode(
        contents.arrays[f"masks/{record['name']}"].tobytes(),
        tuple(record["shape"]),
        record["kept"] - frozen["kept"],
        draw_quantiles(draw["seed"], draw["stream"], size).tolist(),
        kernel.ravel().tolist(),
        free=free.tolist(),
    )
    expected = masks(model)["last"].ravel()
    assert [bit == 1 for bit in bits if bit is not None] == (
        expected[free].tolist()
    )
    assert not expected[order[: frozen["pruned"]]].any()
    assert expected[order[size - frozen["kept"] :]].all()


def test_frozen_weights_take_no_bytes_and_only_they_make_version_2():
    def bytes_of_masks(**options):
        draw = np.random.default_rng(0)
        layer = mpt.MPTDense(200, seed=0, name="one", **options)
        model = keras.Sequential([keras.Input((300,)), layer])
        data = ticket_bytes(searched(model, 0.5, draw))
        return container.Contents(data).version, (
            parse_ticket(data).kernels["one"].bytes
        )

    version, whole = bytes_of_masks()
    assert version == 1
    for fraction in (0.3, 0.7):
        half = fraction / 2
        version, part = bytes_of_masks(frozen_pruned=half, frozen_kept=half)
        assert version == 2
        assert part < 1.1 * (1 - fraction) * whole
        summary = mpt.summary(
            keras.Sequential(
                [
                    keras.Input((300,)),
                    mpt.MPTDense(200, frozen_pruned=half, frozen_kept=half),
                ]
            ),
            print_fn=None,
        )
        assert summary.rows[0].entropy_bytes == pytest.approx(
            (1 - fraction) * 60_000 / 8
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pruned": -1}, "'frozen' that none can have"),
        ({"seed": 2**64}, "'frozen' that none can have"),
        ({"seed": True}, "'frozen' that none can have"),
        ({"more": 1}, "'frozen' that none can have"),
        ({"pruned": 10**6}, "its frozen part does not allow"),
        ({"kept": 10**6}, "its frozen part does not allow"),
        ({"seed": 7}, "damaged|drawn from their seeds|gain"),
    ],
)
def test_frozen_parts_that_none_can_have(changes, message):
    def change(description, arrays):
        description["kernels"][-1]["frozen"].update(changes)

    with pytest.raises(mpt.TicketError, match=message):
        parse_ticket(repacked(ticket_bytes(ticket()), change))


def test_a_layer_that_is_not_frozen_as_the_file_says(tmp_path):
    def change(description, arrays):
        (layer,) = (
            layer["config"]
            for layer in description["config"]["config"]["layers"]
            if layer["config"]["name"] == "last"
        )
        layer["frozen_kept"] = 0.1

    path = tmp_path / "changed.ticket"
    path.write_bytes(repacked(ticket_bytes(ticket()), change))
    with pytest.raises(mpt.TicketError, match="'last' is not frozen as its"):
        mpt.load_ticket(path)


def test_version_1_knows_no_frozen_parts():
    def change(description, arrays):
        for record in description["kernels"]:
            record["frozen"] = {"whatever": 1}

    data = ticket_bytes(network())
    found = parse_ticket(repacked(data, change))
    assert all(kernel.frozen is None for kernel in found.kernels.values())


def test_a_loaded_ticket_trains_on():
    model = ticket()
    loaded = keras.models.clone_model(model)
    loaded.set_weights(model.get_weights())
    loaded.compile("sgd", "mse")
    loaded.fit(images(), np.ones((3, 10)), verbose=0)
    for masked in masked_kernels(loaded).values():
        frozen, mask = as_numpy(masked.frozen), as_numpy(masked.mask())
        assert mask[frozen > 0].all()
        assert not mask[frozen < 0].any()
