"""What masked layers of all kinds have in one model, and in wrappers."""

import keras
import numpy as np
import pytest
from backend import as_numpy, needs_litert
from keras import layers
from test_layers import CASES, inputs_for, masked_layer

import mpt_keras as mpt
from mpt_keras.layers.traversal import masked_kernels

TOKENS = 13


def network():
    """Tokens, a sequence that is made longer, and a volume."""
    options = {"sparsity": 0.6}
    tokens = keras.Input((6,), dtype="int32")
    x = mpt.MPTEmbedding(TOKENS, 8, seed=1, name="table", **options)(tokens)
    x = mpt.MPTDepthwiseConv1D(3, seed=2, name="depthwise", **options)(x)
    x = mpt.MPTSeparableConv1D(6, 2, seed=3, name="separable", **options)(x)
    x = mpt.MPTConv1DTranspose(4, 3, 2, seed=4, name="longer", **options)(x)
    x = layers.Reshape((1, 7, 1, 4))(layers.ReLU()(x))
    x = mpt.MPTConv3DTranspose(
        3, 2, 2, seed=5, name="larger", binarize=False, **options
    )(x)
    x = layers.GlobalAveragePooling3D()(x)
    return keras.Model(tokens, mpt.MPTDense(2, seed=6, name="last")(x))


def batch(rng):
    return rng.integers(0, TOKENS, (16, 6)).astype("int32")


def trained(model, x, *callbacks):
    model.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    labels = np.arange(len(x)) % 2
    model.fit(x, labels, epochs=3, verbose=0, callbacks=callbacks)
    return model


def test_one_threshold_over_all_kinds(rng):
    model = network()
    kernels = masked_kernels(model).values()
    before = [as_numpy(masked.scores) for masked in kernels]
    trained(model, batch(rng), mpt.callbacks.GlobalSparsity(0.5))
    size = sum(masked.size for masked in kernels)
    kept = sum(int(as_numpy(masked.mask()).sum()) for masked in kernels)
    assert kept == size - int(0.5 * size)
    for masked, old in zip(kernels, before, strict=True):
        assert (as_numpy(masked.scores) != old).any()


def test_weights_of_all_kinds_are_recycled(rng):
    model = network()
    kernels = masked_kernels(model).values()
    before = [as_numpy(masked.kernel) for masked in kernels]
    recycling = mpt.callbacks.WeightRecycling(0.2, every=1, source="random")
    trained(model, batch(rng), recycling)
    for masked, old in zip(kernels, before, strict=True):
        new = as_numpy(masked.kernel)
        assert 0 < (new != old).sum() <= masked.size
        assert np.isfinite(new).all()


def test_a_ticket_of_all_kinds_masked_and_frozen(rng, tmp_path):
    x = batch(rng)
    model = trained(network(), x)
    frozen = mpt.freeze(model)
    expected = model.predict_on_batch(x)
    masks = mpt.analysis.masks_of(model)
    for one in (model, frozen):
        mpt.save_ticket(one, tmp_path / "my.ticket")
        loaded = mpt.load_ticket(tmp_path / "my.ticket")
        np.testing.assert_array_equal(loaded.predict_on_batch(x), expected)
        found = mpt.analysis.masks_of(loaded)
        assert found.keys() == masks.keys()
        for name, mask in masks.items():
            np.testing.assert_array_equal(found[name], mask)
    stored = mpt.ticket.read_ticket(tmp_path / "my.ticket").kernels["table"]
    assert stored.bytes < stored.mask.size  # not four bytes for each weight


def test_the_summary_of_all_kinds_masked_and_frozen():
    model = network()
    masked, frozen = (
        mpt.summary(one, print_fn=None) for one in (model, mpt.freeze(model))
    )
    assert {row.name: (row.macs, row.macs_kept) for row in masked.rows} == {
        "table": (0, 0),  # looked up
        "depthwise": (4 * 24, 4 * 10),
        "separable/depthwise_kernel": (3 * 16, 3 * 7),
        "separable/pointwise_kernel": (3 * 48, 3 * 20),
        "longer": (3 * 72, 3 * 29),
        "larger": (7 * 96, 7 * 39),
        "last": (6, 3),
    }
    assert masked.totals.unknown == frozen.totals.unknown == {}
    assert masked.totals.other_weights == frozen.totals.other_weights == 0
    of_frozen = {row.name: row for row in frozen.rows}
    for row in masked.rows:
        twin = of_frozen[row.name]
        assert (row.macs_kept, row.kept) == (twin.macs_kept, twin.kept)
        assert row.arithmetic == twin.arithmetic


def test_the_runtime_says_what_it_cannot_run(tmp_path):
    mpt.save_ticket(network(), tmp_path / "my.ticket")
    with pytest.raises(ValueError, match=r"^Layer.*cannot run here.*\.$"):
        mpt.runtime.load(tmp_path / "my.ticket")
    volume = keras.Sequential(
        [keras.Input((2, 2, 2, 1)), mpt.MPTConv3DTranspose(1, 2, name="large")]
    )
    with pytest.raises(ValueError, match=r"cannot hold .*Conv3DTranspose, and"):
        mpt.export(volume, tmp_path / "my.c", format="c")
    assert not (tmp_path / "my.c").exists()


@needs_litert
def test_frozen_embeddings_are_exported(rng, tmp_path):
    report = mpt.export(network(), tmp_path / "my.tflite", format="litert")
    assert report.differences.same_class == 1.0


# --- In wrappers ----------------------------------------------------------

STEPS = 3


@pytest.mark.parametrize(
    "case", ["dense", "conv2d", "separable1d", "transpose3d", "embedding"]
)
def test_a_layer_for_every_step(case, rng, tmp_path):
    layer = masked_layer(case, input_quantizer="ste_sign", name="masked")
    steps = [inputs_for(case, rng) for _ in range(STEPS)]
    x = np.stack(steps, axis=1)
    model = keras.Sequential(
        [
            keras.Input(x.shape[1:], dtype=x.dtype),
            layers.TimeDistributed(layer),
        ]
    )
    assert mpt.masked_layers(model) == [layer]
    expected = np.stack([as_numpy(layer(step)) for step in steps], axis=1)
    np.testing.assert_allclose(
        model.predict_on_batch(x), expected, rtol=1e-5, atol=1e-6
    )

    before = [as_numpy(masked.scores) for masked in layer.masked_kernels]
    kernels = [as_numpy(masked.kernel) for masked in layer.masked_kernels]
    model.compile("adam", "mse")
    model.fit(x, np.zeros_like(expected), verbose=0)
    for masked, old, kernel in zip(
        layer.masked_kernels, before, kernels, strict=True
    ):
        assert (as_numpy(masked.scores) != old).any()
        np.testing.assert_array_equal(as_numpy(masked.kernel), kernel)

    expected = model.predict_on_batch(x)
    model.save(tmp_path / "model.keras")
    mpt.save_ticket(model, tmp_path / "my.ticket")
    frozen = mpt.freeze(model)
    frozen.save(tmp_path / "frozen.keras")
    reloaded = keras.models.load_model(tmp_path / "frozen.keras")
    for one in (frozen, reloaded):
        assert not mpt.masked_layers(one)
        assert CASES[case][1] in map(type, one._flatten_layers())
    for one in (
        *(frozen, reloaded, mpt.load_ticket(tmp_path / "my.ticket")),
        keras.models.load_model(tmp_path / "model.keras"),
    ):
        np.testing.assert_array_equal(one.predict_on_batch(x), expected)


def test_padding_passes_through_a_layer_for_every_step(rng):
    """Zeros among the tokens stay masked behind it, for Bidirectional."""
    x = batch(rng)
    x[:, 4:] = 0
    model = keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            mpt.MPTEmbedding(TOKENS, 4, mask_zero=True, seed=0),
            layers.TimeDistributed(mpt.MPTDense(3, seed=1)),
            layers.Bidirectional(layers.LSTM(2)),
            mpt.MPTDense(2, seed=2),
        ]
    )
    frozen = mpt.freeze(model)
    np.testing.assert_array_equal(
        frozen.predict_on_batch(x), model.predict_on_batch(x)
    )
    np.testing.assert_allclose(  # without what is padded
        as_numpy(model(x[:, :4])), as_numpy(model(x)), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("case", ["dense", "conv1d", "embedding"])
def test_no_layer_without_a_direction_runs_both_ways(case):
    with pytest.raises(
        ValueError, match=r"Received: MPT.* layer 'once', which has no dir"
    ):
        layers.Bidirectional(masked_layer(case, name="once"))
