"""Checkpoints in the authors' format give the authors' logits."""

import collections
import importlib.util
import io
import json
import pathlib
import pickle
import re
import sys
import zipfile

import numpy as np
import pytest
from backend import as_numpy
from test_parity import MEAN, PARITY, STD

import mpt_keras as mpt
from mpt_keras.checkpoints import reading

_DTYPES = {"FloatStorage": np.float32, "LongStorage": np.int64}


class _ArraysOnly(pickle.Unpickler):
    def __init__(self, archive):
        self._archive = archive
        self._root = archive.namelist()[0].split("/")[0]
        super().__init__(io.BytesIO(archive.read(f"{self._root}/data.pkl")))

    def find_class(self, module, name):
        if name in _DTYPES:
            return _DTYPES[name]
        if name == "_rebuild_tensor_v2":
            return _array
        if name == "OrderedDict":
            return collections.OrderedDict
        raise pickle.UnpicklingError(f"{module}.{name} is no array")

    def persistent_load(self, storage):
        _, dtype, key, *_ = storage
        return np.frombuffer(
            self._archive.read(f"{self._root}/data/{key}"), dtype
        )


def _array(storage, offset, shape, strides, *_):
    bytes_apart = [storage.itemsize * stride for stride in strides]
    return np.lib.stride_tricks.as_strided(
        storage[offset:], shape, bytes_apart
    ).copy()


def read_without_torch(path):
    """The oracle of the reader, and its stand-in where there is no PyTorch."""
    with zipfile.ZipFile(path) as archive:
        loaded = _ArraysOnly(archive).load()
    return reading.Checkpoint(
        arch=loaded["arch"],
        conv_type=loaded["conv_type"],
        keep=loaded["prune_rate"],
        arrays={
            name.removeprefix("module."): array
            for name, array in loaded["state_dict"].items()
        },
    )


HAS_TORCH = importlib.util.find_spec("torch") is not None
needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="needs PyTorch")
if HAS_TORCH:
    import authors_code
    import torch


@pytest.fixture(params=["torch", "arrays only"])
def reader(request, monkeypatch):
    if request.param == "arrays only":
        monkeypatch.setattr(reading, "read", read_without_torch)
    elif not HAS_TORCH:
        pytest.skip("needs PyTorch")


@pytest.mark.parametrize(
    "name",
    [
        "Conv4Wide",
        "Conv4Wide_BinAct",
        "Wide_VGG_Small",
        "Wide_VGG_Small_132",
    ],
)
def test_logits_of_the_authors_checkpoints(name, reader):
    folder = PARITY / "checkpoints"
    expected = np.load(folder / f"{name}_expected.npz")
    model = mpt.checkpoints.load_biprop(folder / f"{name}.pth")
    for layer in mpt.masked_layers(model):
        (masked,) = layer.masked_kernels
        kept = 1 - float(expected["sparsity"])
        assert int(masked.kept()) == masked.size - int((1 - kept) * masked.size)
    images = (expected["images"].astype("float32") / 255 - MEAN) / STD
    logits = as_numpy(model(images))
    scale = np.abs(expected["logits"]).max()
    np.testing.assert_allclose(
        logits, expected["logits"], rtol=1e-4, atol=1e-4 * scale
    )


def of_shapes(shapes, arch, rng):
    """A checkpoint of random arrays."""
    return reading.Checkpoint(
        arch=arch,
        conv_type="SubnetConv",
        keep=0.2,
        arrays={
            name.removeprefix("module."): rng.uniform(0.5, 1, shape)
            for name, shape in shapes.items()
        },
    )


@pytest.mark.parametrize("arch", ["cResNet18", "cResNet18_BinAct"])
def test_all_names_of_the_published_resnets_are_placed(arch, rng, monkeypatch):
    folder = PARITY / "checkpoints"
    shapes = json.loads((folder / f"{arch}_keys.json").read_text())
    checkpoint = of_shapes(shapes, arch, rng)
    monkeypatch.setattr(reading, "read", lambda path: checkpoint)
    model = mpt.checkpoints.load_biprop("file.pth")
    norms = [name for name in shapes if name.endswith("running_mean")]
    trained = [name for name in shapes if name.endswith("bn1.bias")]
    assert sum(hasattr(v, "moving_mean") for v in model.layers) == len(norms)
    assert bool(trained) == (arch == "cResNet18")
    layers = {layer.name: layer for layer in model.layers}
    theirs = checkpoint.arrays["layer3.0.shortcut.0.weight"]
    ours = as_numpy(layers["stage3_block1_shortcut_conv"].kernel)
    size = theirs.size
    scale = (size - int(0.8 * size)) / int(0.2 * size)
    np.testing.assert_allclose(
        ours, scale * theirs.transpose(2, 3, 1, 0), rtol=1e-6
    )


# --- Against their computation, in PyTorch ----------------------------------


def save(path, arch, state, keep=0.3, prefix="", **others):
    state = {f"{prefix}{name}": value for name, value in state.items()}
    torch.save(
        {"arch": arch, "state_dict": state, "prune_rate": keep, **others}, path
    )
    return path


def compare(path, arch, state, kernels, shape):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn((2, *shape), generator=generator)
    expected = authors_code.logits(arch, state, kernels, images).numpy()
    model = mpt.checkpoints.load_biprop(path)
    outputs = as_numpy(
        model(images.permute(0, 2, 3, 1).numpy(), training=False)
    )
    assert outputs.shape == expected.shape
    scale = np.abs(expected).max()
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4 * scale)


ARCHITECTURES = []
if HAS_TORCH:
    ARCHITECTURES = [*authors_code.SEQUENTIAL, *authors_code.RESIDUAL]


@needs_torch
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_gives_their_logits(arch, affine, tmp_path):
    generator = torch.Generator().manual_seed(0)
    state = authors_code.random_state(arch, generator, affine)
    keep = 0.3
    if arch in authors_code.SIGN_WITHOUT_NORM:
        # Whole numbers, so that both sides agree on which sums are 0.
        keep = 0.5
        for name, value in state.items():
            if value.ndim == 4 and name.endswith("weight"):
                state[name] = value.sign()
    kernels = authors_code.select(state, keep)
    prefix = "module." if affine else ""
    path = save(tmp_path / "file.pth", arch, state, keep, prefix)
    side = 224 if arch.startswith(("ResNet", "WideResNet")) else 32
    shape = (1 if arch == "FC" else 3, side, side)
    compare(path, arch, state, kernels, shape)


@needs_torch
def test_one_threshold_for_all_layers(tmp_path):
    state = authors_code.random_state(
        "Conv4Wide", torch.Generator().manual_seed(0)
    )
    kernels = authors_code.select(state, 0.3, one_threshold=True)
    path = save(
        tmp_path / "file.pth", "Conv4Wide", state, conv_type="GlobalSubnetConv"
    )
    compare(path, "Conv4Wide", state, kernels, (3, 32, 32))


@needs_torch
def test_dense_checkpoints(tmp_path):
    state = authors_code.random_state(
        "cResNet20", torch.Generator().manual_seed(0), affine=True
    )
    state = {n: v for n, v in state.items() if not n.endswith(".scores")}
    kernels = {
        name.removesuffix(".weight"): value
        for name, value in state.items()
        if value.ndim == 4
    }
    path = save(
        tmp_path / "file.pth", "cResNet20", state, conv_type="DenseConv"
    )
    compare(path, "cResNet20", state, kernels, (3, 32, 32))


@needs_torch
def test_edge_popup_keeps_the_real_weights(tmp_path):
    state = authors_code.random_state("Conv2", torch.Generator().manual_seed(0))
    kernels = authors_code.select(state, 0.3, binarize=False)
    path = save(tmp_path / "file.pth", "Conv2", state)
    model = mpt.checkpoints.load_biprop(path, binarize=False)
    layer = mpt.masked_layers(model)[0]
    np.testing.assert_allclose(
        as_numpy(layer.effective_kernel()),
        kernels["convs.0"].permute(2, 3, 1, 0),
    )


@needs_torch
def test_first_and_last_layer_without_scores(tmp_path):
    state = authors_code.random_state(
        "cResNet18", torch.Generator().manual_seed(0)
    )
    kernels = authors_code.select(state, 0.3)
    for name in ("conv1", "fc"):
        kernels[name] = state[f"{name}.weight"]
        del state[f"{name}.scores"]
    state["fc.bias"] = torch.zeros(10)
    path = save(tmp_path / "file.pth", "cResNet18", state)
    compare(path, "cResNet18", state, kernels, (3, 32, 32))


@needs_torch
def test_other_sizes_of_images_and_more_classes(tmp_path):
    state = authors_code.random_state(
        "Conv6", torch.Generator().manual_seed(0), side=48
    )
    kernels = authors_code.select(state, 0.3)
    path = save(tmp_path / "file.pth", "Conv6", state)
    compare(path, "Conv6", state, kernels, (3, 48, 48))


@needs_torch
def test_what_is_loaded_can_be_frozen_saved_and_trained(tmp_path, rng):
    state = authors_code.random_state(
        "cResNet18", torch.Generator().manual_seed(0)
    )
    path = save(tmp_path / "file.pth", "cResNet18", state)
    model = mpt.checkpoints.load_biprop(path)
    x = rng.standard_normal((4, 32, 32, 3)).astype("float32")
    expected = model.predict_on_batch(x)
    frozen = mpt.freeze(model).predict_on_batch(x)
    np.testing.assert_allclose(frozen, expected, rtol=1e-4, atol=1e-4)
    model.compile("sgd", "mse")
    model.fit(x, np.zeros((4, 10)), verbose=0)


# --- Bad input --------------------------------------------------------------


CONV2 = {
    "convs.0": (5, 3, 3, 3),
    "convs.2": (5, 5, 3, 3),
    "linear.0": (20, 1280, 1, 1),
    "linear.2": (20, 20, 1, 1),
    "linear.4": (10, 20, 1, 1),
}


@pytest.fixture
def conv2(rng):
    """Arrays of a narrow Conv-2."""
    return {
        f"{name}.{kind}": rng.standard_normal(shape).astype("float32")
        for name, shape in CONV2.items()
        for kind in ("weight", "scores")
    }


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Makes a checkpoint of arrays; without PyTorch, one that is read."""

    def store_it(arch, arrays, keep=0.3, conv_type="SubnetConv"):
        path = tmp_path / "file.pth"
        if HAS_TORCH:
            tensors = {n: torch.from_numpy(a) for n, a in arrays.items()}
            return save(path, arch, tensors, keep, conv_type=conv_type)
        checkpoint = reading.Checkpoint(arch, conv_type, keep, arrays)
        monkeypatch.setattr(reading, "read", lambda path: checkpoint)
        return path

    return store_it


def test_masks_of_one_threshold(conv2, store):
    path = store("Conv2", conv2, conv_type="GlobalSubnetConv")
    model = mpt.checkpoints.load_biprop(path)
    scores = [conv2[f"{name}.scores"] for name in CONV2]
    every = np.sort(np.abs(np.concatenate([s.ravel() for s in scores])))
    threshold = every[int(0.7 * every.size) - 1]
    kept = [
        int(layer.masked_kernels[0].kept())
        for layer in mpt.masked_layers(model)
    ]
    assert kept == [int((np.abs(s) > threshold).sum()) for s in scores]


@pytest.mark.parametrize("keep", [0.1, 0.2, 0.5, 0.8, 1.0])
def test_masks_and_gains_are_theirs(keep, conv2, store):
    model = mpt.checkpoints.load_biprop(store("Conv2", conv2, keep))
    for layer, name in zip(mpt.masked_layers(model), CONV2, strict=True):
        weights = np.abs(conv2[f"{name}.weight"]).ravel()
        order = np.argsort(np.abs(conv2[f"{name}.scores"]).ravel())
        kept = order[int((1 - keep) * weights.size) :]
        assert int(layer.masked_kernels[0].kept()) == kept.size
        gain = weights[kept].sum() / int(keep * weights.size)
        np.testing.assert_allclose(float(layer.gain()), gain, rtol=1e-5)


def test_dense_arrays_are_the_kernels(conv2, store):
    arrays = {n: a for n, a in conv2.items() if n.endswith("weight")}
    path = store("Conv2", arrays, conv_type="DenseConv")
    model = mpt.checkpoints.load_biprop(path)
    assert not mpt.masked_layers(model)
    np.testing.assert_array_equal(
        as_numpy(model.layers[0].kernel),
        conv2["convs.0.weight"].transpose(2, 3, 1, 0),
    )


def error_of(path):
    with pytest.raises(mpt.checkpoints.CheckpointError) as caught:
        mpt.checkpoints.load_biprop(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@needs_torch
@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file(share, conv2, store):
    path = store("Conv2", conv2)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "damaged" in error_of(path)


@needs_torch
def test_a_damaged_array(conv2, store):
    path = store("Conv2", conv2)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    assert "damaged" in error_of(path)


class _RunsCode:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


@needs_torch
@pytest.mark.parametrize("as_zip", [True, False])
def test_a_pickle_that_would_run_code(as_zip, tmp_path):
    trace = tmp_path / "ran"
    path = tmp_path / "file.pth"
    torch.save(
        {"arch": _RunsCode(trace), "state_dict": {}, "prune_rate": 0.5},
        path,
        _use_new_zipfile_serialization=as_zip,
    )
    assert "asks to run code" in error_of(path)
    path.write_bytes(pickle.dumps(_RunsCode(trace)))
    error_of(path)
    assert not trace.exists()


@needs_torch
def test_a_file_that_is_not_there(tmp_path):
    assert "missing" in error_of(tmp_path / "none.pth")
    assert "missing" in error_of(tmp_path)


@needs_torch
@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {"arch": "Conv2", "prune_rate": 0.5},
        {"state_dict": {"a": 1}, "arch": "Conv2", "prune_rate": 0.5},
        {"state_dict": {}, "arch": "Conv2"},
        {"state_dict": {}, "arch": "Conv2", "prune_rate": "half"},
        {"state_dict": [], "arch": "Conv2", "prune_rate": 0.5},
    ],
    ids=str,
)
def test_files_that_hold_something_else(content, tmp_path):
    torch.save(content, tmp_path / "file.pth")
    assert "a dictionary with 'arch', 'state_dict'" in error_of(
        tmp_path / "file.pth"
    )


@needs_torch
def test_names_with_and_without_module(conv2, store):
    twice = {**conv2, **{f"module.{n}": v for n, v in conv2.items()}}
    path = store("Conv2", twice)
    assert "with and without 'module.'" in error_of(path)


@pytest.mark.parametrize(
    ("arch", "options", "message"),
    [
        ("AlexNet", {}, r"Expected one of \['Conv2', .*arch='AlexNet'"),
        ("Conv2", {"conv_type": "TiledConv"}, "conv_type='TiledConv'"),
        ("Conv2", {"keep": 0.0}, "prune_rate=0.0"),
        ("Conv2", {"keep": float("nan")}, "prune_rate=nan"),
        ("Conv2", {"conv_type": "DenseConv"}, "convs.0.scores, convs.2.scores"),
        ("Conv4", {}, "without an array: convs.5.scores, convs.5.weight, "),
        ("FC", {}, "without a place in it: convs.0.scores"),
        ("VGG_Small", {}, "linear.2.scores, linear.2.weight, linear.4.scores"),
        ("cResNet18", {}, "'conv1.weight' of four dimensions"),
    ],
)
def test_another_architecture(arch, options, message, conv2, store):
    path = store(arch, conv2, **options)
    assert re.search(message, error_of(path))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("convs.2.scores", None, "places without an array: convs.2.scores"),
        ("convs.9.scores", (3,), "names without a place in it: convs.9.scores"),
        ("convs.2.num_batches_tracked", (), "without a place in it: convs.2.n"),
        ("linear.2.weight", (20, 21, 1, 1), "(20, 21, 1, 1) instead of (20"),
        ("linear.0.weight", (20, 1281, 1, 1), "instead of (20, 1280"),
        ("linear.0.weight", (20, 4, 1, 1), "shapes make no Conv2"),
        ("convs.0.weight", (5, 3), "of four dimensions"),
        ("linear.0.scores", float("nan"), "not finite: linear.0.scores"),
    ],
)
def test_arrays_that_do_not_fit(name, value, message, conv2, store):
    if value is None:
        del conv2[name]
    elif isinstance(value, float):
        conv2[name] = np.full_like(conv2[name], value)
    else:
        conv2[name] = np.ones(value, "float32")
    path = store("Conv2", conv2)
    assert message in error_of(path)


def test_a_threshold_that_empties_a_layer(conv2, store):
    conv2["convs.0.scores"] = np.zeros_like(conv2["convs.0.scores"])
    path = store("Conv2", conv2, conv_type="GlobalSubnetConv")
    assert "leaves no weight in 'conv1_1'" in error_of(path)


def test_pytorch_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"pip install \"mpt_keras\[torch"):
        mpt.checkpoints.load_biprop("file.pth")
