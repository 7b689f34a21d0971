"""What is said of a model, against what counting by hand gives."""

import math

import keras
import numpy as np
import pytest
from backend import as_numpy, examples
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops

import mpt_keras as mpt
from mpt_keras.conversion import fold_batch_norms
from mpt_keras.macs import kernel_attributes, kernel_uses, kernels_of
from mpt_keras.summaries import Summary, summary


def quiet(model, **options):
    return summary(model, print_fn=None, **options)


def products(layer, x, kernels):
    """Multiplications of a layer: with ones everywhere, each product is 1."""
    for kernel, values in zip(kernels_of(layer), kernels, strict=True):
        kernel.assign(values)
    return float(as_numpy(ops.sum(layer(np.ones_like(x)))))


# --- Multiply-accumulates -------------------------------------------------

LAYERS = {
    "dense": (lambda: layers.Dense(4, use_bias=False), (6,)),
    "dense_3d": (lambda: layers.Dense(4, use_bias=False), (2, 5, 6)),
    "conv1d": (lambda: layers.Conv1D(4, 3, dilation_rate=2), (9, 3)),
    "causal": (lambda: layers.Conv1D(4, 3, padding="causal"), (9, 3)),
    "conv2d": (lambda: layers.Conv2D(4, (3, 2), strides=2), (8, 9, 3)),
    "same": (lambda: layers.Conv2D(4, 3, strides=2, padding="same"), (7, 8, 3)),
    "groups": (lambda: layers.Conv2D(4, 3, groups=2), (6, 6, 4)),
    "conv3d": (lambda: layers.Conv3D(2, 2), (4, 5, 4, 2)),
    "depthwise": (
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=2),
        (6, 7, 3),
    ),
    "depthwise1d": (lambda: layers.DepthwiseConv1D(3), (6, 3)),
    "transposed": (
        lambda: layers.Conv2DTranspose(4, 2, strides=3),
        (4, 5, 3),
    ),
    "einsum": (
        lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 3)),
        (4, 5),
    ),
    "einsum_with_ellipsis": (
        lambda: layers.EinsumDense("...c,cd->...d", 3),
        (7, 4),
    ),
    "einsum_sums_two": (
        lambda: layers.EinsumDense("abc,bcd->ad", (7,)),
        (4, 5),
    ),
}
# Products with the padding's 0 are counted, and are 0 for the oracle.
PADDED = ("same", "causal")


@pytest.mark.parametrize("case", sorted(set(LAYERS) - set(PADDED)))
def test_macs_are_the_products(case, rng):
    make, shape = LAYERS[case]
    layer = make()
    model = keras.Sequential([keras.Input(shape), layer])
    kernel = as_numpy(layer.kernel)
    mask = rng.random(kernel.shape) < 0.4
    layer.kernel.assign(mask * kernel)
    (row,) = quiet(model).rows
    x = np.ones((1, *shape), "float32")
    assert row.macs == products(layer, x, [np.ones_like(kernel)])
    assert row.macs_kept == products(layer, x, [mask])
    assert row.kept == mask.sum()
    assert row.weights == kernel.size


@pytest.mark.parametrize("case", PADDED)
def test_products_with_the_padding_count(case):
    make, shape = LAYERS[case]
    layer = make()
    model = keras.Sequential([keras.Input(shape), layer])
    (row,) = quiet(model).rows
    positions = math.prod(model.output_shape[1:-1])
    assert row.macs == positions * math.prod(layer.kernel.shape)


@pytest.mark.parametrize(
    ("name", "billions"),
    [("imagenet_resnet18", 1.814), ("imagenet_resnet34", 3.664)],
)
@pytest.mark.usefixtures("no_draws")
def test_published_networks(name, billions):
    """The figures of torchvision's documentation."""
    model = getattr(mpt.models, name)()
    uses, unknown = kernel_uses(model)
    assert unknown == {}
    macs = sum(
        uses[id(kernel)].times * math.prod(kernel.shape)
        for layer in model.layers
        if kernel_attributes(layer)
        for kernel in kernels_of(layer)
    )
    assert round(macs / 1e9, 3) == billions


def test_a_separable_layer_has_two_rows():
    layer = layers.SeparableConv2D(5, 3, name="both")
    model = keras.Sequential([keras.Input((6, 7, 2)), layer])
    deep, point = quiet(model).rows
    assert (deep.name, deep.macs) == ("both/depthwise_kernel", 4 * 5 * 9 * 2)
    assert (point.name, point.macs) == ("both/pointwise_kernel", 4 * 5 * 2 * 5)


@pytest.mark.parametrize("case", ["conv2d", "transposed", "depthwise"])
def test_channels_first(case):
    make, (*size, channels) = LAYERS[case]
    layer = make()
    config = {**layer.get_config(), "data_format": "channels_first"}
    first = type(layer).from_config(config)
    models = [
        keras.Sequential([keras.Input((*size, channels)), layer]),
        keras.Sequential([keras.Input((channels, *size)), first]),
    ]
    one, other = (quiet(model).rows[0].macs for model in models)
    assert one == other


def test_every_call_counts():
    shared = layers.Dense(4, use_bias=False, name="shared")
    block = keras.Sequential([keras.Input((None, 4)), shared], name="block")
    inputs = keras.Input((6, 4))
    y = layers.TimeDistributed(layers.Dense(2, name="steps"))(block(inputs))
    model = keras.Model(inputs, [shared(block(inputs)), y])
    rows = {row.name: row for row in quiet(model).rows}
    assert rows["shared"].calls == 3
    assert rows["shared"].macs == 3 * 6 * 16
    assert rows["steps"].macs == 6 * 8


def test_what_is_not_known_is_named():
    @keras.saving.register_keras_serializable("tests")
    class Twice(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.inner = mpt.MPTDense(4, name="inner")

        def build(self, shape):
            self.inner.build(shape)

        def call(self, x):
            return self.inner(self.inner(x))

    inputs = keras.Input((5, 4))
    x = Twice(name="twice")(inputs)
    x = layers.LSTM(3, name="lstm", return_sequences=True)(x)
    x = keras.ops.matmul(x, keras.ops.transpose(x, (0, 2, 1)))
    x = layers.Dense(2, name="known", activation="relu")(x)
    x = layers.BatchNormalization()(layers.ReLU()(x))
    found = quiet(keras.Model(inputs, x))
    unknown = found.totals.unknown
    products = {n: k for n, k in unknown.items() if k == "Matmul"}
    assert len(products) == 1
    assert unknown == {
        "twice": "Twice",
        "lstm": "LSTM",
        "inner": "MPTDense",
        **products,
    }
    rows = {row.name: row for row in found.rows}
    assert rows["inner"].macs is None
    assert rows["known"].macs == 5 * 5 * 2
    assert "MACs of 'lstm' (LSTM) are not known" in str(found)


def test_open_sizes_are_not_known():
    model = keras.Sequential([keras.Input((None, 4)), layers.Dense(2)])
    found = quiet(model)
    assert found.rows[0].macs is None
    assert list(found.totals.unknown.values()) == ["Dense"]


def test_subclassed_models_say_what_they_weigh():
    class Model(keras.Model):
        def __init__(self):
            super().__init__(name="own")
            self.dense = mpt.MPTDense(4, sparsity=0.75, name="dense")

        def call(self, x):
            return self.dense(x)

    model = Model()
    model(np.ones((1, 8)))
    found = quiet(model)
    assert found.rows[0].kept == 8
    assert found.totals.unknown == {"own": "Model", "dense": "MPTDense"}


# --- Arithmetic -----------------------------------------------------------


def binary_network(seed=0):
    inputs = keras.Input((8, 8, 3))
    x = mpt.MPTConv2D(4, 3, seed=seed, name="first")(inputs)
    x = layers.BatchNormalization()(x)
    x = mpt.quantizers.ApproxSign()(x)
    x = layers.ZeroPadding2D()(layers.MaxPooling2D()(x))
    x = mpt.MPTConv2D(8, 3, seed=seed, name="second")(x)
    x = mpt.MPTConv2D(
        8, 1, seed=seed, name="third", input_quantizer="ste_sign"
    )(x)
    x = layers.Flatten()(layers.BatchNormalization()(x))
    x = layers.Activation(mpt.quantizers.SteSign())(x)
    real = mpt.MPTDense(8, seed=seed, binarize=False, name="real")(x)
    binary = mpt.MPTDense(8, seed=seed, name="fourth")(x)
    return keras.Model(inputs, layers.Concatenate()([real, binary]))


ARITHMETIC = {
    "first": "binary-weight",
    "second": "binary",
    "third": "binary",
    "real": "float",
    "fourth": "binary",
}


def test_arithmetic_of_masked_frozen_and_folded_models():
    model = binary_network()
    frozen = mpt.freeze(model)
    for one in (model, frozen, fold_batch_norms(frozen)):
        found = quiet(one)
        assert {r.name: r.arithmetic for r in found.rows} == ARITHMETIC
        for kind in ("float", "binary", "binary-weight"):
            rows = [r for r in found.rows if r.arithmetic == kind]
            assert found.totals.macs[kind] == sum(r.macs for r in rows)
            assert found.totals.macs_kept[kind] == sum(
                r.macs_kept for r in rows
            )
        assert found.totals.unknown == {}


# --- Bytes ----------------------------------------------------------------


@settings(deadline=None, max_examples=examples(20))
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 0.99))
def test_bytes_are_the_formulas(rows, columns, sparsity):
    layer = mpt.MPTDense(columns, sparsity=sparsity, seed=0)
    model = keras.Sequential([keras.Input((rows,)), layer])
    (row,) = quiet(model).rows
    n, kept = rows * columns, int(as_numpy(layer.mask()).sum())
    assert (row.weights, row.kept) == (n, kept)
    planes = 1 if kept == n else 2
    assert row.packed_bytes == planes * -(-n // 8) + 4
    p = np.array([kept, n - kept]) / n
    entropy = -sum(q * np.log2(q) for q in p if q > 0) * n / 8
    np.testing.assert_allclose(row.entropy_bytes, entropy, atol=1e-9)
    assert row.float32_bytes == 4 * n
    np.testing.assert_allclose(row.sparsity, 1 - kept / n)


def test_what_count_params_counts_twice():
    model = keras.Sequential(
        [
            keras.Input((8,)),
            mpt.MPTDense(4, use_bias=True),
            layers.BatchNormalization(),
        ]
    )
    totals = quiet(model).totals
    assert totals.params == model.count_params()
    assert (totals.weights, totals.other_weights) == (32, 4 + 4 * 4)
    assert totals.scores == 32 + 1  # and the number of weights pruned
    assert totals.float32_bytes == 4 * mpt.freeze(model).count_params()
    assert "33 of these are scores" in str(quiet(model))


def test_tickets_are_what_is_written(tmp_path):
    model = binary_network()
    path = tmp_path / "network.ticket"
    mpt.save_ticket(model, path)
    stored = mpt.ticket.read_ticket(path)
    unsaved, saved = quiet(model), quiet(path)
    assert unsaved.rows == saved.rows
    for row in saved.rows:
        assert row.ticket_bytes == stored.kernels[row.name].bytes
        assert row.bits_per_weight == 8 * row.ticket_bytes / row.weights
    for found in (unsaved, saved):
        assert found.totals.ticket_bytes == path.stat().st_size
    assert saved.totals.file_bytes == path.stat().st_size
    assert unsaved.totals.file_bytes is None


def test_updates_of_tickets(tmp_path):
    model = binary_network()
    mpt.save_ticket(model, tmp_path / "old")
    for layer in mpt.masked_layers(model):
        layer.scores.assign(layer.scores * np.linspace(1, 1.1, 8)[-1])
    mpt.save_ticket(model, tmp_path / "new", base=tmp_path / "old")
    found = quiet(tmp_path / "new", base=tmp_path / "old")
    assert found.totals.file_bytes == (tmp_path / "new").stat().st_size
    assert len(found.rows) == 5


@pytest.mark.parametrize("is_frozen", [False, True])
def test_keras_files(is_frozen, tmp_path):
    model = binary_network()
    model = mpt.freeze(model) if is_frozen else model
    path = tmp_path / "network.keras"
    model.save(path)
    found = quiet(path)
    assert found.totals.file_bytes == path.stat().st_size
    assert [r.kept for r in found.rows] == [r.kept for r in quiet(model).rows]


def test_ordinary_models(rng):
    model = mpt.models.lenet_300_100(masked=False)
    found = quiet(model)
    assert {row.sparsity for row in found.rows} == {0.0}
    assert found.totals.ticket_bytes is None
    assert "There is no ticket" in found.totals.why_no_ticket
    kernel = model.layers[-1].kernel
    kernel.assign(kernel * (rng.random(kernel.shape) < 0.1))
    found = quiet(model)
    row = found.rows[-1]
    assert row.arithmetic == "float"
    assert row.packed_bytes == row.weights // 8 + 4 * row.kept
    assert row.ticket_bytes > 4 * row.kept
    assert found.rows[0].ticket_bytes is None


@pytest.mark.parametrize(
    ("make", "gains", "packed"),
    [
        (lambda: layers.Conv2D(8, 3), 8, 27 + 27 + 8 * 4),
        (lambda: layers.Conv2DTranspose(8, 3), 8, 27 + 27 + 8 * 4),
        (lambda: layers.DepthwiseConv2D(5, depth_multiplier=2), 6, 19 * 2 + 24),
        (lambda: layers.Dense(4), 4, 2 + 2 + 16),
    ],
)
def test_gains_of_folded_tickets(make, gains, packed, rng):
    layer = make()
    model = keras.Sequential([keras.Input((9, 9, 3)), layer])
    model.add(layers.BatchNormalization())
    kernel = np.where(rng.random(layer.kernel.shape) < 0.3, 0.0, 0.5)
    kernel.flat[0] = 0.0
    layer.kernel.assign(kernel * rng.choice([-1, 1], kernel.shape))
    (row,) = quiet(model).rows
    assert (row.arithmetic, row.gains) == ("binary-weight", 1)
    for weight in model.layers[-1].weights:
        weight.assign(rng.uniform(1, 2, weight.shape))
    folded = fold_batch_norms(model)
    assert len(folded.layers) == 1
    (row,) = quiet(folded).rows
    assert (row.arithmetic, row.gains) == ("binary-weight", gains)
    assert row.packed_bytes == packed


@pytest.mark.parametrize("kept", [0, 1, 5])
def test_few_weights_are_not_binary_by_chance(kept):
    kernel = np.zeros((4, 8), "float32")
    kernel[0, :kept] = np.arange(1, kept + 1)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8)])
    model.layers[0].kernel.assign(kernel)
    (row,) = quiet(model).rows
    assert (row.kept, row.arithmetic, row.gains) == (kept, "float", 0)
    assert row.packed_bytes == 4 + 4 * kept


def test_layers_with_lora_are_not_counted():
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(4, name="adapted"),
            layers.Dense(2, name="plain"),
        ]
    )
    model.layers[0].enable_lora(2)
    found = quiet(model)
    assert [row.name for row in found.rows] == ["plain"]
    assert found.totals.unknown == {"adapted": "Dense"}
    assert found.totals.weights == 8
    assert found.totals.other_weights == model.count_params() - 8
    assert "'adapted' (Dense)" in str(found)


def test_what_is_printed(capsys):
    model = binary_network()
    found = summary(model)
    assert isinstance(found, Summary)
    printed = capsys.readouterr().out
    assert printed == str(found) + "\n"
    for row in found.rows:
        assert row.name in printed
    lines = []
    summary(model, print_fn=lines.append, line_length=90)
    assert max(map(len, lines[0].splitlines())) <= 90


def test_uses_are_of_this_model_alone():
    inputs = keras.Input((4,))
    dense = layers.Dense(3)
    keras.Model(inputs, dense(inputs))
    model = keras.Model(inputs, dense(inputs))
    before = len(dense._inbound_nodes)
    uses, _ = kernel_uses(model)
    assert uses[id(dense.kernel)].calls == 1
    assert len(dense._inbound_nodes) == before


def test_the_text_is_the_same_in_notebooks_and_with_colours(monkeypatch):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    expected = str(quiet(model))
    monkeypatch.setenv("FORCE_COLOR", "1")  # as Jupyter's kernels have it
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert str(quiet(model)) == expected
    assert "2" in expected


# --- Bad input ------------------------------------------------------------


def test_what_is_no_model(tmp_path):
    with pytest.raises(ValueError, match="Expected a Keras model or a file"):
        summary(3)
    with pytest.raises(ValueError, match="is not built"):
        summary(keras.Sequential([layers.Dense(3)]))
    with pytest.raises(FileNotFoundError):
        summary(tmp_path / "nothing.keras")
    with pytest.raises(FileNotFoundError):
        summary(tmp_path / "nothing.ticket")
    with pytest.raises(ValueError, match="says nothing of the model"):
        summary(tmp_path / "w.weights.h5")
    (tmp_path / "broken.ticket").write_bytes(b"no ticket")
    with pytest.raises(mpt.TicketError):
        summary(tmp_path / "broken.ticket")
    (tmp_path / "broken.keras").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"broken\.keras"):
        summary(tmp_path / "broken.keras")


@pytest.mark.parametrize("line_length", [0, -1, 39, "wide", 80.5])
def test_lines_that_are_too_short_are_refused(line_length):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="line_length"):
        summary(model, line_length=line_length)
    assert summary(model, line_length=40, print_fn=None)
