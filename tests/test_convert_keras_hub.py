"""Backbones of KerasHub, from configurations, as masked networks."""

import keras
import numpy as np
import pytest

import mpt_keras as mpt

keras_hub = pytest.importorskip("keras_hub")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("optimized_graphs"),
    pytest.mark.filterwarnings("ignore"),
]

SIZES = {
    "vocabulary_size": 100,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 16,
    "intermediate_dim": 32,
    "max_sequence_length": 12,
}


def predictions(model, x):
    return keras.tree.flatten(model.predict_on_batch(x))


def check_same_bits(one, other, x):
    for ours, theirs in zip(
        predictions(one, x), predictions(other, x), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", ["Bert", "DistilBert", "GPT2", "OPT"])
def test_backbones(name, rng, tmp_path):
    model = getattr(keras_hub.models, f"{name}Backbone")(**SIZES)
    x = {key: rng.integers(0, 2, (2, 8)).astype("int32") for key in model.input}
    x["padding_mask"] = np.ones((2, 8), "int32")
    check_same_bits(mpt.convert(model, kernel="keep"), model, x)
    masked = mpt.convert(model, seed=0)
    # Those of the feed-forward parts at least.
    assert len(mpt.masked_layers(masked)) >= 4
    y = masked.predict_on_batch(x)
    masked.compile("sgd", keras.tree.map_structure(lambda _: "mse", y))
    masked.train_on_batch(x, keras.tree.map_structure(np.zeros_like, y))
    check_same_bits(mpt.freeze(masked), masked, x)
    masked.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    check_same_bits(loaded, masked, x)
    mpt.save_ticket(masked, tmp_path / "model.ticket")
    objects = {
        name: keras.saving.get_registered_object(name)
        for name in keras.saving.get_custom_objects()
        if name.startswith("keras_hub>")
    }
    loaded = mpt.load_ticket(tmp_path / "model.ticket", custom_objects=objects)
    check_same_bits(loaded, masked, x)
