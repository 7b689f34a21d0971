"""From ordinary Keras models to masked ones."""

import inspect

import keras
import numpy as np
import pytest
from backend import as_numpy
from keras import layers, ops
from test_layers import CASES, arguments_of, inputs_for, that_fit

import mpt_keras as mpt
from mpt_keras.sparsity_rules import ERK, Global

# What predicts the same bits does so as users have it.
pytestmark = pytest.mark.usefixtures("optimized_graphs")

register = keras.saving.register_keras_serializable(package="tests_convert")


def images(rng, shape=(4, 8, 8, 3)):
    return rng.standard_normal(shape).astype("float32")


def network():
    """Of every kind of part: masked ones, batch norm, an activation."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 3), name="images"),
            layers.Conv2D(6, 3, activation="relu", name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.SeparableConv2D(8, 3, name="separable"),
            layers.Flatten(name="flatten"),
            layers.Dropout(0.1, name="dropout"),
            layers.Dense(3, bias_initializer="ones", name="logits"),
        ],
        name="network",
    )


def predictions(model, x):
    return [
        np.asarray(answer)
        for answer in keras.tree.flatten(model.predict_on_batch(x))
    ]


def check_same_bits(one, other, x):
    for ours, theirs in zip(
        predictions(one, x), predictions(other, x), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def state(model):
    """All that must be the same of a model that was given to `convert`."""
    return (
        [(w.path, as_numpy(w).tobytes()) for w in model.variables],
        [
            (layer.name, type(layer), layer.trainable, len(nodes))
            for layer in model._flatten_layers()
            for nodes in [layer._inbound_nodes, layer._outbound_nodes]
        ],
        model.compiled,
        getattr(model, "optimizer", None),
    )


def check_uses(model, x, tmp_path, custom_objects=None):
    """It trains a step, and what it becomes predicts the same bits."""
    y = predictions(model, x)
    model.compile("sgd", ["mse"] * len(y))
    model.train_on_batch(x, [np.zeros_like(answer) for answer in y])
    check_same_bits(mpt.freeze(model), model, x)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    check_same_bits(loaded, model, x)
    mpt.save_ticket(model, tmp_path / "model.ticket")
    loaded = mpt.load_ticket(
        tmp_path / "model.ticket", custom_objects=custom_objects
    )
    check_same_bits(loaded, model, x)


@pytest.mark.parametrize("case", CASES)
def test_every_kind(case, rng):
    masked_class, keras_class, _, shape = CASES[case]
    options = {"activation": "tanh", "use_bias": True, "name": "a"}
    if case != "embedding":
        options["bias_initializer"] = "ones"
    layer = keras_class(**arguments_of(case, that_fit(case, options)))
    x = inputs_for(case, rng)
    model = keras.Sequential([keras.Input(shape[1:], dtype=x.dtype), layer])
    kept = mpt.convert(model, kernel="keep")
    assert type(kept.layers[0]) is masked_class
    check_same_bits(kept, model, x)
    drawn = mpt.convert(model, sparsity=0.7, seed=0).layers[0]
    assert drawn.binarize
    assert set(np.ravel(drawn.sparsity)) == {0.7}
    if case != "embedding":
        np.testing.assert_array_equal(as_numpy(drawn.bias), 1.0)


def test_a_network_in_all(rng, tmp_path):
    model = network()
    model.compile("adam", "mse")
    x = images(rng)
    model.train_on_batch(x, np.zeros((4, 3)))
    before = state(model)
    masked = mpt.convert(model, seed=0)
    assert state(model) == before
    assert not masked.compiled
    assert masked.name == "network"
    assert [one.name for one in masked.layers] == [
        one.name for one in model.layers
    ]
    names = [layer.name for layer in mpt.masked_layers(masked)]
    assert names == ["conv", "separable", "logits"]
    for name in ("norm", "logits"):
        here, there = masked.get_layer(name), model.get_layer(name)
        weight = "gamma" if name == "norm" else "bias"
        np.testing.assert_array_equal(
            as_numpy(getattr(here, weight)), as_numpy(getattr(there, weight))
        )
    check_uses(masked, x, tmp_path)


def test_its_own_kernels_are_kept(rng, tmp_path):
    model, x = network(), images(rng)
    masked = mpt.convert(model, kernel="keep")
    check_same_bits(masked, model, x)
    assert not any(layer.binarize for layer in mpt.masked_layers(masked))
    for layer in mpt.masked_layers(masked):
        for kernel in layer.masked_kernels:
            assert int(kernel.kept()) == kernel.size
    check_uses(masked, x, tmp_path)


@pytest.mark.parametrize("sparsity", [0.3, 0.9])
def test_the_smallest_of_its_own_weights_are_pruned_first(sparsity):
    model = network()
    masked = mpt.convert(model, kernel="keep", sparsity=sparsity)
    kernel = np.abs(as_numpy(model.get_layer("conv").kernel)).ravel()
    kept = as_numpy(masked.get_layer("conv").mask()).ravel()
    assert (~kept).sum() == int(sparsity * kernel.size)
    assert kernel[~kept].max() <= kernel[kept].min()


def test_scores_over_kept_kernels_are_as_large_as_drawn_ones():
    model = network()
    kept = mpt.convert(model, kernel="keep", seed=0).get_layer("conv")
    drawn = mpt.convert(model, seed=0).get_layer("conv")
    ratio = np.abs(as_numpy(kept.scores)).mean()
    ratio /= np.abs(as_numpy(drawn.scores)).mean()
    assert 2**-0.5 <= ratio <= 2**0.5
    # In proportion, by a power of two.
    scale = as_numpy(kept.scores) / np.abs(as_numpy(kept.kernel))
    assert np.unique(scale).size == 1
    assert np.log2(scale.max()) % 1 == 0


@pytest.mark.parametrize("size", [1e-42, 1e-30, 1e38])
def test_scores_over_kernels_of_any_size(size):
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2, name="a")])
    model.get_layer("a").kernel.assign(size * np.array([[1, -2], [3, 2]]))
    masked = mpt.convert(model, 0.75, kernel="keep").get_layer("a")
    np.testing.assert_array_equal(
        masked.mask(), [[False, False], [True, False]]
    )
    scores = np.abs(as_numpy(masked.scores)).mean()
    assert 0.1 < scores < 1.0


def test_kernels_of_zeros_do_not_change():
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(2, kernel_initializer="zeros")]
    )
    masked = mpt.convert(model, kernel="keep")
    x = np.ones((1, 4), "float32")
    check_same_bits(masked, model, x)
    assert as_numpy(masked.layers[0].scores).any()


def test_seeds():
    model = network()

    def kernels(**options):
        masked = mpt.convert(model, **options)
        return [
            as_numpy(kernel.kernel)
            for layer in mpt.masked_layers(masked)
            for kernel in layer.masked_kernels
        ]

    same = kernels(seed=1)
    for ours, theirs in zip(same, kernels(seed=1), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(same[0], kernels(seed=2)[0])
    np.testing.assert_array_equal(kernels(seed=1, layers="logits")[0], same[-1])
    keras.utils.set_random_seed(3)
    one = kernels()
    keras.utils.set_random_seed(3)
    np.testing.assert_array_equal(kernels()[0], one[0])


def shared_and_branched():
    """Two inputs, two outputs, a shared layer, operations, nested models."""
    shared = layers.Dense(6, activation="relu", name="shared")
    one, two = keras.Input((6,), name="one"), keras.Input((6,), name="two")
    inside = keras.Input((6,))
    inner = keras.Model(
        inside, layers.Dense(6, name="dense")(ops.sin(inside)), name="inner"
    )
    tail = keras.Sequential(
        [keras.Input((6,)), layers.Dense(6, name="dense")], name="tail"
    )
    joined = layers.Concatenate()([shared(one), ops.relu(inner(shared(two)))])
    outputs = [
        layers.Dense(3, name="first")(joined),
        layers.Add(name="second")([tail(inner(one)), two]),
    ]
    return keras.Model([one, two], outputs, name="branched")


def test_shared_layers_branches_and_nested_models(rng, tmp_path):
    model = shared_and_branched()
    before = state(model)
    x = [images(rng, (5, 6)) for _ in range(2)]
    kept = mpt.convert(model, kernel="keep")
    check_same_bits(kept, model, x)
    masked = mpt.convert(model, seed=0)
    assert state(model) == before
    assert [layer.name for layer in masked.layers] == [
        layer.name for layer in model.layers
    ]
    names = [row.name for row in mpt.conversion_report(masked).masked]
    assert sorted(names) == ["first", "inner/dense", "shared", "tail/dense"]
    check_uses(masked, x, tmp_path)


def nested_and_shared():
    """A layer in a nested model and in the one around it."""
    shared = layers.Dense(6, name="shared")
    inside, outside = keras.Input((6,)), keras.Input((6,))
    inner = keras.Model(inside, shared(inside), name="inner")
    return keras.Model(outside, shared(inner(outside)))


def test_a_layer_that_nested_models_share(rng):
    model, x = nested_and_shared(), images(rng, (5, 6))
    check_same_bits(mpt.convert(model, kernel="keep"), model, x)
    masked = mpt.convert(model)
    inner = masked.get_layer("inner")
    assert inner.get_layer("shared") is masked.get_layer("shared")


def test_dictionaries_of_inputs(rng):
    inputs = {name: keras.Input((4,), name=name) for name in ("a", "b")}
    joined = layers.Concatenate()(list(inputs.values()))
    model = keras.Model(inputs, {"out": layers.Dense(2)(joined)})
    x = {name: images(rng, (3, 4)) for name in inputs}
    masked = mpt.convert(model, kernel="keep")
    assert masked.predict_on_batch(x).keys() == {"out"}
    check_same_bits(masked, model, x)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (None, ["conv", "separable", "logits"]),
        ("logits", ["logits"]),
        ("*a*", ["separable"]),
        (["conv", "log*"], ["conv", "logits"]),
        (lambda name, layer: layer.use_bias and name != "conv", None),
    ],
)
def test_chosen_layers(chosen, expected):
    model = network()
    masked = mpt.convert(model, layers=chosen)
    names = [layer.name for layer in mpt.masked_layers(masked)]
    assert names == (expected or ["separable", "logits"])
    for row in mpt.conversion_report(masked).rows:
        is_left = row.reason == "excluded by `layers`"
        assert is_left == (
            row.name in ("conv", "separable", "logits")
            and row.name not in names
        )


def test_chosen_by_path():
    masked = mpt.convert(shared_and_branched(), layers=["tail/*"])
    names = [row.name for row in mpt.conversion_report(masked).masked]
    assert names == ["tail/dense"]


def test_what_is_masked_already_stays(rng):
    model, x = network(), images(rng)
    first = mpt.convert(model, layers="logits", sparsity=0.9, seed=0)
    both = mpt.convert(first, kernel="keep")
    check_same_bits(both, first, x)
    assert len(mpt.masked_layers(both)) == 3
    reasons = {row.name: row.reason for row in mpt.conversion_report(both).rows}
    assert reasons["logits"] == "masked already"


def test_sparsity_by_rule():
    masked = mpt.convert(network(), sparsity=ERK(0.8), seed=0)
    report = mpt.conversion_report(masked)
    found = {}
    for row in report.masked:
        found |= row.sparsity
    shapes = {
        "conv": (3, 3, 3, 6),
        "separable/depthwise_kernel": (3, 3, 6, 1),
        "separable/pointwise_kernel": (1, 1, 6, 8),
        "logits": (128, 3),
    }
    assert found == ERK(0.8)(shapes)
    assert masked.get_layer("logits").sparsity == found["logits"]


def gate():
    """The argument for a gate, of the versions of Keras that have it."""
    known = inspect.signature(layers.MultiHeadAttention).parameters
    return {"use_gate": True} if "use_gate" in known else {}


@pytest.mark.parametrize(
    "attention",
    [
        layers.MultiHeadAttention(2, 3, **gate(), name="own"),
        layers.GroupQueryAttention(4, 4, 2, name="own"),
    ],
)
def test_sparsity_of_projections(attention):
    inputs = keras.Input((5, 4))
    outputs = layers.Dense(2, name="query")(attention(inputs, inputs))
    model = keras.Model(inputs, outputs)
    masked = mpt.convert(model, {"own/query": 0.75, "own": 0.25, "*": 0.5})
    row, other = mpt.conversion_report(masked).masked
    found = {f"own/{name}": 0.25 for name in masked.layers[1].projections}
    assert row.sparsity == found | {"own/query": 0.75}
    assert other.sparsity == {"query": 0.5}
    for name, projection in masked.get_layer("own").projections.items():
        assert projection.sparsity == row.sparsity[f"own/{name}"]


def test_one_threshold():
    masked = mpt.convert(network(), sparsity=Global(0.5), seed=0)
    kernels = [
        kernel
        for layer in mpt.masked_layers(masked)
        for kernel in layer.masked_kernels
    ]
    total = sum(kernel.size for kernel in kernels)
    kept = sum(int(kernel.kept()) for kernel in kernels)
    assert kept == total - int(0.5 * total)


def test_the_report():
    model = network()
    model.get_layer("conv").kernel_regularizer = keras.regularizers.L2(0.1)
    report = mpt.conversion_report(mpt.convert(model, layers="conv"))
    rows = {row.name: row for row in report.rows}
    assert rows["conv"].masked_kind == "MPTConv2D"
    assert rows["conv"].weights == 3 * 3 * 3 * 6
    assert rows["conv"].sparsity == {"conv": 0.5}
    assert rows["conv"].remark == "without kernel_regularizer"
    assert rows["norm"].reason == "no kernel"
    assert rows["flatten"].reason == "no weights"
    assert len(report.masked) + len(report.left_alone) == len(report.rows)
    text = str(report)
    assert "Masked: 1 layer, 162 weights" in text
    assert "1 Flatten" in text
    with pytest.raises(ValueError, match="convert"):
        mpt.conversion_report(model)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy, rng):
    inputs = keras.Input((6,))
    hidden = layers.Dense(8, activation="relu", dtype=policy)(inputs)
    model = keras.Model(inputs, layers.Dense(2, dtype="float32")(hidden))
    x = images(rng, (4, 6))
    masked = mpt.convert(model, kernel="keep")
    assert masked.layers[1].dtype_policy.name == policy
    check_same_bits(masked, model, x)


def test_frozen_layers_stay_frozen():
    model = shared_and_branched()
    model.get_layer("inner").trainable = False
    masked = mpt.convert(model)
    assert [layer.trainable for layer in masked.layers] == [
        layer.trainable for layer in model.layers
    ]
    dense = masked.get_layer("inner").get_layer("dense")
    assert dense.trainable_weights == []
    remarks = {r.name: r.remark for r in mpt.conversion_report(masked).masked}
    assert {n for n, why in remarks.items() if why} == {"inner/dense"}
    masked.get_layer("inner").trainable = True
    assert [weight.name for weight in dense.trainable_weights] == [
        "bias",
        "scores",
    ]


def test_activations_that_are_layers(rng):
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, activation=layers.PReLU())]
    )
    x = images(rng, (2, 4))
    check_same_bits(mpt.convert(model, kernel="keep"), model, x)


def test_input_quantizers():
    masked = mpt.convert(network(), input_quantizer="approx_sign")
    for layer in mpt.masked_layers(masked):
        assert type(layer.input_quantizer).__name__ == "ApproxSign"


def test_wrappers(rng, tmp_path):
    model = keras.Sequential(
        [
            keras.Input((5, 4)),
            layers.TimeDistributed(layers.Dense(6, name="each"), name="time"),
            layers.Bidirectional(layers.LSTM(3), name="both_ways"),
            layers.SpectralNormalization(layers.Dense(2), name="spectral"),
        ]
    )
    x = images(rng, (2, 5, 4))
    check_same_bits(mpt.convert(model, kernel="keep"), model, x)
    masked = mpt.convert(model, seed=0)
    reasons = {
        row.name: row.reason for row in mpt.conversion_report(masked).rows
    }
    assert reasons["each"] is None
    assert "wrapper" in reasons["both_ways"]
    assert "wrapper" in reasons["spectral"]
    check_uses(masked, x, tmp_path)


@register
class Block(layers.Layer):
    """Holds layers in attributes and lists, one of them twice."""

    def __init__(self, width=4, **kwargs):
        super().__init__(**kwargs)
        self.width = width

    def build(self, input_shape):
        self.norm = layers.LayerNormalization()
        self.norm.build(input_shape)
        self.dense = [layers.Dense(self.width) for _ in range(2)]
        self._self_again = self.again = self.dense[0]
        for dense in self.dense:
            dense.build(input_shape)

    def call(self, inputs, mask=None, training=False):
        x = self.norm(inputs)
        for dense in self.dense:
            x = ops.relu(dense(x))
        return inputs + self._self_again(x)

    def get_config(self):
        return {**super().get_config(), "width": self.width}


@register
class Particular(Block):
    """Computes something else with a layer of another class."""

    def call(self, inputs):
        is_plain = type(self.again) is layers.Dense
        return self.again(inputs) * (2.0 if is_plain else 1.0)


def blocks(block=Block, count=2):
    x = inputs = keras.Input((4,), name="inputs")
    for number in range(count):
        x = block(name=f"block_{number}")(x)
    return keras.Model(inputs, layers.Dense(2, name="head")(x))


def test_layers_that_custom_layers_hold(rng, tmp_path):
    model = blocks()
    before = state(model)
    x = images(rng, (3, 4))
    check_same_bits(mpt.convert(model, kernel="keep"), model, x)
    masked = mpt.convert(model, sparsity=0.25, seed=0)
    assert state(model) == before
    assert len(mpt.masked_layers(masked)) == 5
    assert isinstance(masked.get_layer("block_0"), Block)
    objects = {"tests_convert>Block": Block}
    check_uses(masked, x, tmp_path, objects)
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [layer.sparsity for layer in mpt.masked_layers(loaded)] == [0.25] * 5


@register
class Joined(Block):
    def call(self, inputs, other=None):
        return super().call(inputs) + self.dense[1](other)


def test_inputs_that_several_custom_layers_share(rng, tmp_path):
    x, other = inputs = [keras.Input((4,), name=name) for name in "xy"]
    for number in range(3):
        x = Joined(name=f"block_{number}")(x, other=other)
    model = keras.Model(inputs, x)
    before = state(model)
    arrays = [images(rng, (3, 4)) for _ in inputs]
    check_same_bits(mpt.convert(model, kernel="keep"), model, arrays)
    masked = mpt.convert(model)
    assert state(model) == before
    masked.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    check_same_bits(loaded, masked, arrays)


@register
class Peeking(Block):
    """Multiplies by the kernel of a layer itself, unmasked as it would be."""

    def call(self, inputs):
        return ops.matmul(inputs, self.again.kernel) + self.again.bias


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (Particular, "predicts something else"),
        (Peeking, "uses kernels otherwise"),
    ],
)
def test_layers_that_a_custom_layer_uses_otherwise_are_left_alone(
    block, reason
):
    model = blocks(block, 1)
    masked = mpt.convert(model)
    assert [layer.name for layer in mpt.masked_layers(masked)] == ["head"]
    reasons = {row.reason for row in mpt.conversion_report(masked).left_alone}
    assert any(reason in (why or "") for why in reasons)


@register
class Transformer(layers.Layer):
    """As in the examples of Keras: without `build`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.attention = layers.MultiHeadAttention(2, 2)
        self.feed_forward = keras.Sequential(
            [layers.Dense(6, activation="relu"), layers.Dense(4)]
        )
        self.each = layers.TimeDistributed(layers.Dense(4))
        self.norm = layers.LayerNormalization()

    def call(self, inputs):
        x = self.norm(inputs + self.attention(inputs, inputs))
        return self.each(x + self.feed_forward(x))


# Keras says so wherever it loads such a layer, and builds it by the call.
@pytest.mark.filterwarnings("ignore:`build.*` was called on layer 'block'")
def test_custom_layers_that_build_when_they_are_called(rng, tmp_path):
    inputs = keras.Input((5, 4))
    model = keras.Model(inputs, Transformer(name="block")(inputs))
    x = images(rng, (3, 5, 4))
    check_same_bits(mpt.convert(model, kernel="keep"), model, x)
    masked = mpt.convert(model, seed=0)
    assert len(mpt.masked_layers(masked)) == 7
    check_uses(masked, x, tmp_path, {"tests_convert>Transformer": Transformer})


def test_registered_classes(rng, tmp_path):
    @register
    class Doubled(layers.Dense):
        def call(self, inputs):
            return 2 * super().call(inputs)

    @register
    class MaskedDoubled(mpt.MPTDense):
        def call(self, inputs):
            return 2 * super().call(inputs)

    model = keras.Sequential(
        [keras.Input((4,)), Doubled(3, name="own"), layers.Dense(2)]
    )
    alone = mpt.conversion_report(mpt.convert(model)).rows[0]
    assert "register_conversion" in alone.reason
    seen = []

    @mpt.register_conversion(Doubled)
    def convert_doubled(layer, settings):
        seen.append(settings)
        return MaskedDoubled(
            layer.units, use_bias=layer.use_bias, **settings.arguments()
        )

    x = images(rng, (3, 4))
    check_same_bits(mpt.convert(model, kernel="keep"), model, x)
    masked = mpt.convert(model, sparsity={"own": 0.75, "*": 0.2})
    assert masked.get_layer("own").sparsity == 0.75
    assert seen[-1].kernel == "random"
    mpt.register_conversion(Doubled)(lambda layer, settings: layer)
    with pytest.raises(ValueError, match="'own'"):
        mpt.convert(model)
    mpt.register_conversion(Doubled)(
        lambda layer, settings: mpt.MPTDense(7, **settings.arguments())
    )
    with pytest.raises(ValueError, match=r"Cannot convert layer 'own'.*kernel"):
        mpt.convert(model)
    with pytest.raises(ValueError, match="layer_class"):
        mpt.register_conversion("Dense")


def unbuilt():
    return keras.Sequential([layers.Dense(2)])


def subclassed():
    class Own(keras.Model):
        pass

    return Own()


def quantized():
    model = network()
    model.get_layer("logits").quantize("int8")
    return model


def with_lora():
    model = network()
    model.get_layer("logits").enable_lora(2)
    return model


def without_kernels():
    return keras.Sequential([keras.Input((4,)), layers.ReLU()])


def shared_with_a_block():
    """A layer in the graph, and in the list of a custom layer."""
    inputs = keras.Input((4,))
    block = Block(name="block")
    x = block(inputs)
    return keras.Model(inputs, block.dense[0](x))


def with_a_variable_in_the_graph():
    """A layer's kernel, in an operation that is no layer."""
    inputs = keras.Input((4,))
    dense = layers.Dense(4, name="dense")
    return keras.Model(inputs, ops.matmul(dense(inputs), dense.kernel))


def diverged():
    model = network()
    kernel = model.get_layer("conv").kernel
    kernel.assign(as_numpy(kernel) * np.inf)
    return model


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (with_a_variable_in_the_graph, {}, "'dense/kernel'.*share"),
        (diverged, {"kernel": "keep"}, "'conv' holds.*not finite"),
        (unbuilt, {}, "not built"),
        (subclassed, {}, "subclassed.*keras.Model"),
        (without_kernels, {}, "nothing to mask"),
        (quantized, {}, "'logits' is quantized"),
        (with_lora, {}, "'logits' is fine-tuned with LoRA"),
        (shared_with_a_block, {}, "is shared between"),
        (nested_and_shared, {"layers": "inner/*"}, "is shared"),
        (network, {"layers": "logit"}, r"close: \['logits'\]"),
        (network, {"layers": "norm"}, "no kernel"),
        (network, {"layers": []}, "layers"),
        (network, {"layers": [3]}, "layers"),
        (network, {"layers": 3}, "layers"),
        (network, {"layers": layers.Dense(2)}, "names or patterns"),
        (network, {"layers": lambda name, layer: False}, "true of none"),
        (network, {"kernel": "own"}, "'random'"),
        (network, {"sparsity": 1.0}, "sparsity"),
        (network, {"sparsity": {"conv": 0.5}}, "'separable/"),
        (network, {"binarize": 1}, "binarize"),
        (network, {"seed": -1}, "seed"),
        (network, {"sparsity": {0: 0.5}}, "strings"),
        (network, {"scores_regularizer": 3}, "scores_regularizer=3"),
        (network, {"scores_regularizer": "l3"}, "scores_regularizer='l3'"),
        (network, {"input_quantizer": "sign"}, "sign"),
        (lambda: 3, {}, "Expected a Keras model"),
    ],
)
def test_bad_input(make, options, message):
    model = make()
    before = state(model) if isinstance(model, keras.Model) else None
    with pytest.raises(ValueError, match=message):
        mpt.convert(model, **options)
    if before is not None:
        assert state(model) == before


def test_what_is_quantized_may_be_left_out(rng):
    model = quantized()
    masked = mpt.convert(model, layers="conv", kernel="keep")
    check_same_bits(masked, model, images(rng))
