"""Ready networks as masked ones: what `docs/converted.md` says of them."""

import dataclasses
import importlib.util

import keras
import programs
import pytest
from backend import needs_tensorflow
from conftest import ROOT

import mpt_keras as mpt

with programs.modules_of(ROOT / "benchmarks"):
    import converted

pytestmark = [
    needs_tensorflow,
    pytest.mark.usefixtures("optimized_graphs"),
    # Keras counts how often networks are traced, and KerasHub masks more
    # than its layers use.
    pytest.mark.filterwarnings("ignore"),
]
_QUICK = ("MobileNet",)
# KerasHub cannot save and load a layer of theirs.
_NOT_COPIED = ("GPTNeoXBackbone", "LlamaBackbone", "ViTBackbone")


def check(name, make):
    row = converted.examine(name, make)
    assert not row.failed
    assert (row.unpruned, row.frozen, row.ticket) == (True, True, True)
    assert row.masked_kernels > 0
    return row


@pytest.mark.parametrize(
    "name",
    [
        name if name in _QUICK else pytest.param(name, marks=pytest.mark.slow)
        for name in converted.MODELS
    ],
)
def test_every_family(name):
    row = check(name, converted.MODELS[name])
    assert row.step == f"{row.masked_kernels} of {row.masked_kernels} moved"
    reasons = [part.split(": ")[1] for part in row.left_alone.split("; ")]
    assert not row.left_alone or reasons == ["no kernel"]


needs_hub = pytest.mark.skipif(
    importlib.util.find_spec("keras_hub") is None, reason="needs KerasHub"
)


@pytest.mark.slow
@needs_hub
@pytest.mark.parametrize("name", converted.BACKBONES)
def test_backbones(name):
    if name not in _NOT_COPIED:
        check(name, converted.BACKBONES[name])
        return
    row = converted.examine(name, converted.BACKBONES[name])
    assert "Cannot copy layer" in row.failed


@pytest.mark.slow
@needs_hub
def test_a_backbone_is_saved_and_loaded(rng, tmp_path):
    model, inputs, _ = converted.BACKBONES["BertBackbone"](rng)
    masked = mpt.convert(model, seed=0)
    expected = converted._predictions(masked, inputs)
    for number, one in enumerate((masked, mpt.freeze(masked))):
        path = tmp_path / f"{number}.keras"
        one.save(path)
        loaded = keras.models.load_model(path)
        assert converted._are_same(
            converted._predictions(loaded, inputs), expected
        )


def test_the_document_has_a_row_for_each():
    text = (ROOT / "docs/converted.md").read_text(encoding="utf-8")
    for name in converted.MODELS | converted.BACKBONES:
        assert text.count(f"\n| {name} |") == 1


def test_a_row_says_what_failed():
    def make(rng):
        raise ValueError("It cannot be made.\nMore of it.")

    row = converted.examine("network", make)
    assert row.failed == "ValueError: It cannot be made."
    line = dataclasses.replace(
        row, unpruned=False, step="1 of 2 moved", seconds=1.2
    ).line()
    assert line == (
        "| network |  |  |  | **differs** | 1 of 2 moved |  |  |  | 1 "
        "| ValueError: It cannot be made. |"
    )


def test_the_same_bits_are_numbers():
    nan = converted.np.array([float("nan")])
    assert not converted._are_same([nan], [nan])
    with pytest.raises(AssertionError, match="not finite"):
        converted._check_they_tell_examples_apart([nan])
    with pytest.raises(AssertionError, match="the same for all"):
        converted._check_they_tell_examples_apart([converted.np.ones((4, 3))])
