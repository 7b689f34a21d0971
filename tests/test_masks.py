"""Masks of models, and masks in files that are whole or refused."""

import json
import zipfile

import keras
import numpy as np
import pytest
from backend import as_numpy, examples
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import mpt_keras as mpt
from mpt_keras.analysis import (
    kernels_of,
    load_masks,
    masks_of,
    read_masks,
    save_masks,
)


def two_kernels(name="pair"):
    return mpt.MPTSeparableConv2D(4, 3, name=name, sparsity=0.7)


def network(**dense):
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            two_kernels(),
            keras.layers.Flatten(),
            mpt.MPTDense(3, name="last", use_bias=True, **dense),
        ]
    )


def assert_same(first, second):
    assert list(first) == list(second)
    for name, mask in first.items():
        assert second[name].dtype == bool
        np.testing.assert_array_equal(second[name], mask)


@pytest.fixture
def masks(rng):
    return {
        "conv": rng.random((3, 3, 2, 4)) < 0.5,
        "outer/inner": rng.random((5, 7)) < 0.1,
    }


# --- Of models ------------------------------------------------------------


@pytest.mark.parametrize("binarize", [True, False])
def test_kernels_are_what_masks_leave(binarize):
    model = network(sparsity=0.25, binarize=binarize)
    masks, kernels = masks_of(model), kernels_of(model)
    assert [*kernels] == [*masks]
    last = mpt.masked_layers(model)[-1]
    weights, mask = as_numpy(last.kernel), masks["last"]
    expected = np.where(mask, weights, 0)
    if binarize:
        expected = np.abs(weights[mask]).mean() * np.sign(expected)
    np.testing.assert_allclose(kernels["last"], expected, rtol=1e-6)
    for name, mask in masks.items():
        np.testing.assert_array_equal(kernels[name] != 0, mask)
    frozen = kernels_of(mpt.freeze(model))
    for name, kernel in kernels.items():
        np.testing.assert_array_equal(frozen[name], kernel)


def test_a_model_without_kernels():
    model = keras.Sequential([keras.Input((3,)), keras.layers.ReLU()])
    with pytest.raises(ValueError, match=r"'sequential.*' has no kernels"):
        kernels_of(model)


def test_masks_of_masked_layers_by_name():
    model = network(sparsity=0.25)
    masks = masks_of(model)
    pair, last = mpt.masked_layers(model)
    depthwise, pointwise = map(as_numpy, pair.mask())
    expected = {
        "pair/depthwise_kernel": depthwise,
        "pair/pointwise_kernel": pointwise,
        "last": as_numpy(last.mask()),
    }
    assert_same(masks, expected)
    assert masks["last"].sum() == masks["last"].size * 0.75


@pytest.mark.parametrize("binarize", [True, False])
def test_a_frozen_ticket_has_the_masks_of_its_model(binarize):
    model = network(binarize=binarize)
    assert_same(masks_of(model), masks_of(mpt.freeze(model)))


def test_masks_of_a_pruned_network(rng):
    kernel = rng.standard_normal((4, 3)) * (rng.random((4, 3)) < 0.5)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, name="pruned")]
    )
    model.get_layer("pruned").kernel.assign(kernel)
    assert_same(masks_of(model), {"pruned": kernel != 0})


def test_layers_that_share_a_name_are_told_apart():
    inner = keras.Sequential(
        [keras.Input((3,)), mpt.MPTDense(3, name="dense")], name="inner"
    )
    outer = [keras.Input((3,)), inner, mpt.MPTDense(3, name="dense")]
    assert list(masks_of(keras.Sequential(outer))) == ["inner/dense", "dense"]


def test_models_that_have_no_masks():
    plain = [keras.Input((2,)), keras.layers.ReLU()]
    with pytest.raises(ValueError, match=r"has no masks\. Expected masked"):
        masks_of(keras.Sequential(plain))
    with pytest.raises(ValueError, match=r"'late' .* has no weights yet"):
        masks_of(keras.Sequential([mpt.MPTDense(2, name="late")]))
    with pytest.raises(ValueError, match="Expected a Keras model or layer"):
        masks_of("model")
    broken = network()
    scores = broken.get_layer("last").scores
    scores.assign(np.full(scores.shape, np.nan))
    with pytest.raises(ValueError, match=r"'last'.*NaN|NaN.*'last'"):
        masks_of(broken)


# --- In files -------------------------------------------------------------

# Names of numpy.savez's own arguments, and some that file systems dislike.
ODD = st.sampled_from(["file", "arr_0", "args", "a", "a.npy", "a/b", "", "ä ."])
NAMES = ODD | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    max_size=20,
)
MASKS = arrays.arrays(
    bool, arrays.array_shapes(min_dims=0, max_dims=5, max_side=4)
)


@settings(max_examples=examples(60), deadline=None)
@given(st.dictionaries(NAMES, MASKS, min_size=1, max_size=4))
def test_what_is_saved_is_read(tmp_path_factory, masks):
    folder = tmp_path_factory.mktemp("masks")
    save_masks(masks, folder / "some.npz")
    assert_same(read_masks(folder / "some.npz"), masks)
    assert [file.name for file in folder.iterdir()] == ["some.npz"]


def test_a_file_is_small_the_same_and_numpys(masks, tmp_path):
    masks["large"] = np.zeros((1000, 1000), bool)
    for name in ("one.npz", "other.npz"):
        save_masks(masks, tmp_path / name)
    content = (tmp_path / "one.npz").read_bytes()
    assert content == (tmp_path / "other.npz").read_bytes()
    assert len(content) < 5000
    with np.load(tmp_path / "one.npz", allow_pickle=False) as file:
        assert_same(masks, dict(file))


def test_what_numpy_saves_is_read(masks, tmp_path):
    np.savez(tmp_path / "masks.npz", **masks)
    assert_same(read_masks(tmp_path), masks)


def test_a_file_that_cannot_be_written_leaves_the_one_before(
    masks, tmp_path, monkeypatch
):
    path = tmp_path / "masks.npz"
    save_masks(masks, path)
    before = path.read_bytes()

    def fail(*_, **__):
        raise OSError("no room")

    monkeypatch.setattr(np.lib.format, "write_array", fail)
    with pytest.raises(OSError, match="no room"):
        save_masks({"other": masks["conv"]}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_runs_folder_and_a_model(masks, tmp_path):
    model = network()
    model.save(tmp_path / "last.keras")
    assert_same(read_masks(tmp_path / "last.keras"), masks_of(model))
    assert_same(read_masks(tmp_path), masks_of(model))
    save_masks(masks, tmp_path / "masks.npz")
    assert_same(read_masks(str(tmp_path)), masks)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "There are no masks"),
        ({"a": np.ones(3)}, "mask of 'a' must be a boolean.*float64"),
        ({"a": [True]}, "mask of 'a' must be a boolean.*list"),
        ({3: np.ones(3, bool)}, "Expected text.*Received: 3"),
        ({"a\0": np.ones(3, bool)}, "without zero bytes"),
    ],
)
def test_what_are_no_masks_is_not_saved(wrong, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        save_masks(wrong, tmp_path / "masks.npz")
    assert not list(tmp_path.iterdir())


def test_masks_are_saved_as_npz(masks, tmp_path):
    with pytest.raises(ValueError, match=r"ends in '\.npz'.*masks\.np'"):
        save_masks(masks, tmp_path / "masks.np")


def test_what_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"there is no .*missing"):
        read_masks(tmp_path / "missing")
    expected = "Expected one of masks.npz, last.keras in it"
    with pytest.raises(ValueError, match=expected):
        read_masks(tmp_path)
    (tmp_path / "notes.txt").write_text("kept")
    with pytest.raises(ValueError, match=r"ends in '\.npz' or '\.keras'"):
        read_masks(tmp_path / "notes.txt")


def test_every_cut_and_every_changed_byte_is_noticed(tmp_path):
    masks = {"a": np.array([True, False, True])}
    path = tmp_path / "masks.npz"
    save_masks(masks, path)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place])
        with pytest.raises(ValueError, match="damaged or holds something"):
            read_masks(path)
        changed = bytearray(whole)
        changed[place] ^= 0xFF
        path.write_bytes(bytes(changed))
        # Some bytes say when and on what system it was written.
        try:
            found = read_masks(path)
        except ValueError as error:
            assert "damaged or holds something else" in str(error)  # noqa: PT017
        else:
            assert_same(found, masks)


def test_other_content(tmp_path):
    path = tmp_path / "masks.npz"
    for content in (np.ones(3), np.array([{}], object), np.array(["text"])):
        np.savez(path, kernel=content)
        with pytest.raises(ValueError, match="damaged or holds something"):
            read_masks(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", json.dumps("kept"))
    with pytest.raises(ValueError, match="damaged or holds something"):
        read_masks(path)
    with zipfile.ZipFile(path, "w"):
        pass
    with pytest.raises(ValueError, match="There are no masks"):
        read_masks(path)
    model = tmp_path / "last.keras"
    model.write_bytes(b"PK no model")
    with pytest.raises(ValueError, match=r"last\.keras': it is damaged"):
        read_masks(model)


def test_a_header_that_promises_more_allocates_nothing(tmp_path):
    path = tmp_path / "masks.npz"
    save_masks({"a": np.ones(3, bool)}, path)
    with zipfile.ZipFile(path) as archive:
        array = archive.read("a.npy")
    with zipfile.ZipFile(path, "w") as archive:
        promising = array.replace(b"(3,), }           ", b"(3000000000000,), }")
        assert promising != array
        archive.writestr("a.npy", promising[: len(array)])
    with pytest.raises(ValueError, match="is cut or too long"):
        read_masks(path)


# --- Into models ----------------------------------------------------------


@pytest.mark.parametrize("by", ["dictionary", "file", "model", "frozen"])
def test_masks_go_back_into_a_model(by, tmp_path):
    found, other = network(sparsity=0.8, seed=0), network(seed=1)
    masks = masks_of(found)
    if by == "file":
        save_masks(found, tmp_path / "masks.npz")
        load_masks(other, tmp_path / "masks.npz")
    elif by == "dictionary":
        load_masks(other, masks)
    elif by == "frozen":
        load_masks(other, masks_of(mpt.freeze(found)))
    else:
        found.save(tmp_path / "last.keras")
        load_masks(other, tmp_path)
    assert_same(masks_of(other), masks)
    last = other.get_layer("last")
    assert last.sparsity == 1 - masks["last"].mean()


def test_masks_of_another_network_are_refused(masks):
    model = network()
    before = masks_of(model)
    with pytest.raises(ValueError, match=r"no mask 'last'.*no masked kernel"):
        load_masks(model, masks)
    empty = {**before, "last": np.zeros_like(before["last"])}
    with pytest.raises(ValueError, match="'last' keeps 0 of the shape"):
        load_masks(model, empty)
    assert_same(masks_of(model), before)
