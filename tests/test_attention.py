"""Attention with masked projections, against Keras' and NumPy's."""

import inspect

import keras
import numpy as np
import oracle
import pytest
from backend import NAME, as_numpy, value_and_gradients
from keras import ops

import mpt_keras as mpt
from mpt_keras.layers.ordinary import ordinary_kernels
from mpt_keras.layers.traversal import masked_kernels

# Keras' attention takes values as wide as keys elsewhere.
VALUE = 4 if NAME == "tensorflow" else 3
# Masked layer, Keras layer, arguments.
CASES = {
    "multi_head": (
        mpt.MPTMultiHeadAttention,
        keras.layers.MultiHeadAttention,
        {"num_heads": 2, "key_dim": 3, "value_dim": VALUE},
    ),
    "grouped": (
        mpt.MPTGroupedQueryAttention,
        keras.layers.GroupQueryAttention,
        {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2},
    ),
}
all_cases = pytest.mark.parametrize("case", CASES)
PROJECTIONS = ["query", "key", "value", "attention_output"]
FEATURES = 6


def pair(case, shapes, **options):
    """A masked attention, and Keras' with what NumPy says its kernels are."""
    cls, keras_class, arguments = CASES[case]
    layer = cls(**arguments, **{"seed": 1, "name": "att", **options})
    theirs = ("use_bias", "sliding_window", "use_gate", "dtype")
    kept = {name: options[name] for name in theirs if name in options}
    twin = keras_class(**arguments, **{"use_bias": False, **kept})
    layer.build(*shapes)
    twin.build(*shapes)
    rng = np.random.default_rng(2)
    inner = {one.name: one for one in twin._layers}
    for name, projection in layer.projections.items():
        inner[name].kernel.assign(
            oracle.effective(
                as_numpy(projection.scores),
                as_numpy(projection.kernel),
                options.get("sparsity", 0.5),
                layer.binarize,
            )
        )
        if projection.bias is not None:
            bias = rng.standard_normal(projection.bias.shape)
            projection.bias.assign(bias)
            inner[name].bias.assign(bias)
    return layer, twin


def sequences(rng, *lengths, features=FEATURES):
    return [
        rng.standard_normal((2, n, features)).astype("float32") for n in lengths
    ]


def close(ours, theirs):
    np.testing.assert_allclose(
        as_numpy(ours), as_numpy(theirs), rtol=2e-5, atol=2e-6
    )


CALLS = {
    "plain": ({}, {}),
    "edge_popup": ({"binarize": False, "sparsity": 0.29}, {}),
    "bias": ({"use_bias": True, "sparsity": 0.8}, {}),
    "causal": ({}, {"use_causal_mask": True}),
    "masked": ({}, {"attention_mask": np.tri(5, 7, 1, bool)[None]}),
    "both": (
        {},
        {
            "attention_mask": np.tri(5, 7, 3, bool)[None],
            "use_causal_mask": True,
        },
    ),
    "with_scores": ({}, {"return_attention_scores": True}),
}
NEWER = [("sliding_window", 2), ("use_gate", True)]


@all_cases
@pytest.mark.parametrize("call", CALLS)
def test_it_is_keras_attention_with_the_oracles_kernels(case, call, rng):
    options, arguments = CALLS[call]
    query, value = sequences(rng, 5, 7)
    layer, twin = pair(case, (query.shape, value.shape), **options)
    ours = layer(query, value, **arguments)
    theirs = twin(query, value, **arguments)
    if call == "with_scores":
        close(ours[1], theirs[1])
        ours, theirs = ours[0], theirs[0]
    close(ours, theirs)


@all_cases
@pytest.mark.parametrize(("argument", "value"), NEWER)
def test_what_newer_versions_of_keras_have(case, argument, value, rng):
    if argument not in inspect.signature(CASES[case][1]).parameters:
        pytest.skip(f"Keras {keras.__version__} has no {argument}")
    query, values = sequences(rng, 5, 7)
    shapes = (query.shape, values.shape)
    layer, twin = pair(case, shapes, **{argument: value})
    close(layer(query, values), twin(query, values))
    gate = ["gate"] * (argument == "use_gate")
    assert sorted(layer.projections) == sorted(PROJECTIONS + gate)


def test_queries_keys_and_values_of_other_widths(rng):
    (query,) = sequences(rng, 5)
    (value,) = sequences(rng, 7, features=4)
    (key,) = sequences(rng, 7, features=3)
    shapes = (query.shape, value.shape, key.shape)
    layer, twin = pair("multi_head", shapes)
    close(layer(query, value, key), twin(query, value, key))
    shapes = {
        name: layer.projections[name].kernel.shape for name in PROJECTIONS
    }
    assert shapes == {
        "query": (6, 2, 3),
        "key": (3, 2, 3),
        "value": (4, 2, VALUE),
        "attention_output": (2, VALUE, 6),
    }


def test_it_is_numpys_attention(rng):
    query, value = sequences(rng, 5, 7)
    layer, _ = pair("multi_head", (query.shape, value.shape), sparsity=0.6)
    q, k, v, out = (
        oracle.effective(
            as_numpy(layer.projections[name].scores),
            as_numpy(layer.projections[name].kernel),
            0.6,
        )
        for name in PROJECTIONS
    )
    products = np.einsum(
        "bthd,bshd->bhts",
        np.einsum("btf,fhd->bthd", query, q),
        np.einsum("bsf,fhd->bshd", value, k),
    )
    weights = np.exp(products / np.sqrt(3))
    weights /= weights.sum(-1, keepdims=True)
    values = np.einsum("bsf,fhd->bshd", value, v)
    attended = np.einsum("bhts,bshd->bthd", weights, values)
    expected = np.einsum("bthd,hdf->btf", attended, out)
    np.testing.assert_allclose(
        as_numpy(layer(query, value)), expected, rtol=1e-4, atol=1e-5
    )


@all_cases
@pytest.mark.parametrize("binarize", [True, False])
def test_scores_gradients_are_those_of_keras_kernels(case, binarize, rng):
    query, value = sequences(rng, 5, 7)
    layer, twin = pair(case, (query.shape, value.shape), binarize=binarize)
    projections = layer.projections
    assert len(layer.trainable_variables) == 4
    _, gradients = value_and_gradients(
        lambda: layer(query, value) ** 2,
        [one.scores for one in projections.values()],
    )
    inner = {one.name: one for one in twin._layers}
    _, upstreams = value_and_gradients(
        lambda: twin(query, value) ** 2,
        [inner[name].kernel for name in projections],
    )
    for one, gradient, upstream in zip(
        projections.values(), gradients, upstreams, strict=True
    ):
        expected = oracle.scores_gradient(
            upstream, as_numpy(one.scores), as_numpy(one.kernel)
        )
        np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4)


def network(case, **options):
    """Self-attention, and attention to it; nothing attends to padding."""
    cls, _, arguments = CASES[case]
    options = {**arguments, "sparsity": 0.7, "use_bias": True, **options}
    tokens = keras.Input((5,), dtype="int32")
    # Keras' grouped attention warns of masks.
    mask_zero = case == "multi_head"
    x = keras.layers.Embedding(9, FEATURES, "orthogonal", mask_zero=mask_zero)(
        tokens
    )
    first = cls(**options, seed=2**63 + 1, name="first")
    last = cls(**options, seed=5, name="last")
    y = first(x, x, use_causal_mask=True)
    return keras.Model(tokens, last(x, y))


def batch(rng):
    return rng.integers(0, 9, (4, 5))


def searched(model, rng):
    """A model after some training, and a change of sparsity."""
    model.compile("adam", "mse")
    model.fit(batch(rng), np.zeros((4, 5, FEATURES)), verbose=0)
    model.get_layer("first").sparsity = 0.4
    last = model.get_layer("last")
    last.sparsity = {**dict.fromkeys(last.projections, 0.5), "query": 0.9}
    last.projections["value"].binarize = False
    return model


@all_cases
def test_it_is_trained_saved_copied_and_stored(case, rng, tmp_path):
    model = network(case, dropout=0.1)
    before = [as_numpy(one.scores) for one in masked_kernels(model).values()]
    model = searched(model, rng)
    for one, old in zip(masked_kernels(model).values(), before, strict=True):
        assert (as_numpy(one.scores) != old).any()
    tokens = batch(rng)
    expected = model.predict_on_batch(tokens)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    mpt.save_ticket(model, tmp_path / "model.ticket")
    clone = keras.models.clone_model(model)
    clone.load_weights(tmp_path / "model.weights.h5")
    for other in (
        keras.models.load_model(tmp_path / "model.keras"),
        mpt.load_ticket(tmp_path / "model.ticket"),
        clone,
    ):
        np.testing.assert_array_equal(other.predict_on_batch(tokens), expected)
        assert other.get_layer("first").sparsity == 0.4
        last = other.get_layer("last")
        assert last.sparsity == {
            **dict.fromkeys(PROJECTIONS, 0.5),
            "query": 0.9,
        }
        assert last.binarize
        assert not last.projections["value"].binarize
        assert last.get_config() == model.get_layer("last").get_config()
    drawn = [
        one.initializer_with_seed("kernel", 0)(one.kernel.shape)
        for one in (
            layer.get_layer("first").projections["key"]
            for layer in (model, clone)
        )
    ]
    np.testing.assert_array_equal(*map(as_numpy, drawn))


@all_cases
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_it_freezes_to_keras_own_attention(case, policy, rng, tmp_path):
    model = searched(network(case, dtype=policy), rng)
    frozen = mpt.freeze(model)
    keras_class = CASES[case][1]
    for name in ("first", "last"):
        layer = frozen.get_layer(name)
        assert type(layer) is keras_class
        projections = {one.name: one for one in layer._layers}
        for one in PROJECTIONS:
            assert type(projections[one]) is keras.layers.EinsumDense
    tokens = batch(rng)
    expected = as_numpy(ops.cast(model.predict_on_batch(tokens), "float32"))
    frozen.save(tmp_path / "frozen.keras")
    for one in (frozen, keras.models.load_model(tmp_path / "frozen.keras")):
        found = as_numpy(ops.cast(one.predict_on_batch(tokens), "float32"))
        np.testing.assert_array_equal(found, expected)


@all_cases
def test_signs_go_into_every_projection(case, rng, tmp_path):
    options = {"use_bias": False, "input_quantizer": "approx_sign"}
    model = network(case, **options)
    layer = model.get_layer("first")
    seen = []
    for one in layer.projections.values():
        apply, one.apply_kernel = (
            one.apply_kernel,
            lambda x, kernel, apply=None: (seen.append(x), apply(x, kernel))[1],
        )
        one.apply_kernel.__defaults__ = (apply,)
    query, value = sequences(rng, 5, 5)
    layer(query, value)
    assert len(seen) == 4
    for x in seen:
        assert np.unique(as_numpy(x)).tolist() == [-1.0, 1.0]
    for one in layer.projections.values():
        del one.apply_kernel
    frozen = mpt.freeze(model)
    tokens = batch(rng)
    expected = model.predict_on_batch(tokens)
    frozen.save(tmp_path / "frozen.keras")
    for one in (frozen, keras.models.load_model(tmp_path / "frozen.keras")):
        assert mpt.masked_layers(one) == []
        np.testing.assert_array_equal(one.predict_on_batch(tokens), expected)


@keras.saving.register_keras_serializable(package="tests")
class Block(keras.layers.Layer):
    """As people write them."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.attention = mpt.MPTMultiHeadAttention(2, 3, seed=0)

    def build(self, input_shape):
        self.attention.build(input_shape, input_shape)

    def call(self, inputs):
        return inputs + self.attention(inputs, inputs)


def test_it_freezes_in_a_layer_of_ones_own(rng):
    model = keras.Sequential([keras.Input((5, FEATURES)), Block()])
    frozen = mpt.freeze(model)
    attention = frozen.layers[-1].attention
    assert type(attention) is keras.layers.MultiHeadAttention
    (x,) = sequences(rng, 5)
    np.testing.assert_array_equal(
        frozen.predict_on_batch(x), model.predict_on_batch(x)
    )


def test_projections_have_telling_names_and_seeds_of_their_own():
    model = network("multi_head")
    names = [f"{n}/{one}" for n in ("first", "last") for one in PROJECTIONS]
    assert sorted(masked_kernels(model)) == sorted(names)
    layers = mpt.masked_layers(model)
    assert {type(layer) for layer in layers} == {mpt.MPTEinsumDense}
    assert len({layer.seed for layer in layers}) == 8
    again = mpt.masked_layers(network("multi_head"))
    assert [layer.seed for layer in again] == [layer.seed for layer in layers]
    for one, other in zip(layers, again, strict=True):
        np.testing.assert_array_equal(
            *map(as_numpy, (one.kernel, other.kernel))
        )


def test_alone_they_have_the_same_names():
    x = keras.Input((5, FEATURES))
    layer = mpt.MPTMultiHeadAttention(2, 3, name="only")
    model = keras.Model(x, layer(x, x))
    names = {f"only/{one}" for one in PROJECTIONS}
    assert set(masked_kernels(model)) == names
    frozen = mpt.freeze(model)
    assert set(ordinary_kernels(frozen, trainable=False)) == names


@pytest.mark.parametrize("frozen", [False, True])
def test_macs_of_the_projections(frozen):
    queries, values = keras.Input((5, FEATURES)), keras.Input((7, FEATURES))
    layer = mpt.MPTMultiHeadAttention(2, 3, value_dim=4, name="att")
    model = keras.Model([queries, values], layer(queries, values))
    found = mpt.summary(mpt.freeze(model) if frozen else model, print_fn=None)
    assert {row.name: row.macs for row in found.rows} == {
        "att/query": 5 * 6 * 2 * 3,
        "att/key": 7 * 6 * 2 * 3,
        "att/value": 7 * 6 * 2 * 4,
        "att/attention_output": 5 * 2 * 4 * 6,
    }
    assert list(found.totals.unknown) == ["att"]


def test_sparsity_of_all_and_of_each():
    layer = mpt.MPTGroupedQueryAttention(3, 4, 2, sparsity=0.29)
    assert layer.sparsity == 0.29
    layer.sparsity = {**dict.fromkeys(PROJECTIONS, 0.25), "key": 0.75}
    layer.build((2, 5, 4), (2, 5, 4))
    kept = {
        name: int(ops.sum(one.mask()))
        for name, one in layer.projections.items()
    }
    assert kept == {"query": 36, "key": 6, "value": 18, "attention_output": 36}
    layer.sparsity = 0.5
    assert layer.sparsity == 0.5
    assert layer.projections["key"].sparsity == 0.5
    assert "projections" in layer.get_config()  # how they were drawn
    layer.binarize = False
    assert not layer.projections["key"].binarize


def test_flash_attention_is_as_keras_has_it(rng):
    """Where Keras refuses it, as on CPUs, so does the masked layer."""
    (x,) = sequences(rng, 5)
    found = []
    for cls in (mpt.MPTMultiHeadAttention, keras.layers.MultiHeadAttention):
        layer = cls(2, 8, flash_attention=True)
        try:
            layer(x, x)
            found.append("it runs")
        except Exception as error:
            found.append(type(error))
    assert found[0] == found[1]


def test_einsum_in_a_wrapper_freezes_to_keras_own(rng):
    inner = mpt.MPTEinsumDense("ab,bcd->acd", (2, 3), bias_axes="d", seed=0)
    model = keras.Sequential(
        [keras.Input((5, FEATURES)), keras.layers.TimeDistributed(inner)]
    )
    frozen = mpt.freeze(model)
    assert type(frozen.layers[-1].layer) is keras.layers.EinsumDense
    (x,) = sequences(rng, 5)
    np.testing.assert_array_equal(
        frozen.predict_on_batch(x), model.predict_on_batch(x)
    )


# --- Bad input ------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": 1.0}, r"\[0, 1\).*layer 'first'"),
        ({"sparsity": {"query": 0.5}}, "for each of .*layer 'first'"),
        (
            {"sparsity": dict.fromkeys(PROJECTIONS, -1)},
            r"\[0, 1\).*layer 'first'",
        ),
        ({"seed": -1}, "Expected an integer.*layer 'first'"),
        ({"binarize": 1}, "Expected True or False.*layer 'first'"),
        ({"kernel_regularizer": "l2"}, "has no effect on a masked layer"),
        ({"kernel_constraint": "non_neg"}, "has no effect on a masked layer"),
        ({"dtype": "int8_from_float32"}, "cannot be quantized"),
        ({"input_quantizer": "none"}, "quantizer"),
    ],
)
def test_bad_arguments_are_refused_when_it_is_made(options, message):
    with pytest.raises(ValueError, match=message):
        mpt.MPTMultiHeadAttention(2, 3, name="first", **options)


def test_lora_and_quantize_point_to_freeze():
    layer, _ = pair("multi_head", [(2, 5, FEATURES)] * 2)
    for method, argument in ((layer.enable_lora, 2), (layer.quantize, "int8")):
        with pytest.raises(ValueError, match=r"mpt_keras.freeze\(model\)"):
            method(argument)


@pytest.mark.parametrize("frozen", [False, True])
def test_the_runtime_says_that_it_has_no_attention(frozen, tmp_path):
    x = keras.Input((5, FEATURES))
    layer = mpt.MPTMultiHeadAttention(2, 3, name="only")
    y = mpt.MPTDense(3)(layer(mpt.MPTDense(FEATURES)(x), x))
    model = keras.Model(x, y)
    model = mpt.freeze(model) if frozen else model
    mpt.save_ticket(model, tmp_path / "model.ticket")
    with pytest.raises(
        ValueError, match=r"'only' \(.*MultiHeadAttention\) cannot run"
    ):
        mpt.runtime.load(tmp_path / "model.ticket")


def test_a_part_of_each_projection_can_be_frozen():
    layer = mpt.MPTMultiHeadAttention(
        2, 4, sparsity=0.5, frozen_pruned=0.25, frozen_kept=0.25, seed=1
    )
    layer.build((None, 5, 6), (None, 5, 6))
    copy = mpt.MPTMultiHeadAttention.from_config(layer.get_config())
    copy.build((None, 5, 6), (None, 5, 6))
    for name, projection in layer.projections.items():
        (masked,) = projection.masked_kernels
        assert masked.free().sum() == masked.size // 2
        np.testing.assert_array_equal(
            masked.free(), copy.projections[name].masked_kernels[0].free()
        )
    with pytest.raises(ValueError, match="frozen_pruned"):
        mpt.MPTMultiHeadAttention(2, 4, frozen_pruned=1.5, name="heads")
