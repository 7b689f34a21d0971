"""Tickets whose masked layers stand in wrappers and in code of the user's."""

import functools
import random

import keras
import numpy as np
import pytest
from backend import KERAS_VERSION, as_numpy, needs_tensorflow, tf
from keras import layers, ops

import mpt_keras as mpt

register = keras.saving.register_keras_serializable(package="tests")


@register
class TransformerBlock(layers.Layer):
    """That of Keras' examples."""

    def __init__(self, width=8, heads=2, hidden=16, rate=0.1, **kwargs):
        super().__init__(**kwargs)
        self.sizes = {"width": width, "heads": heads, "hidden": hidden}
        self.att = layers.MultiHeadAttention(heads, width)
        self.ffn = keras.Sequential(
            [mpt.MPTDense(hidden, activation="relu"), mpt.MPTDense(width)]
        )
        self.layernorm1 = layers.LayerNormalization(epsilon=1e-6)
        self.layernorm2 = layers.LayerNormalization(epsilon=1e-6)
        self.dropout1 = layers.Dropout(rate)
        self.dropout2 = layers.Dropout(rate)

    def call(self, inputs, training=False):
        attended = self.dropout1(self.att(inputs, inputs), training=training)
        first = self.layernorm1(inputs + attended)
        passed = self.dropout2(self.ffn(first), training=training)
        return self.layernorm2(first + passed)

    def get_config(self):
        return {**super().get_config(), **self.sizes}


@register
class TextClassifier(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.embedding = layers.Embedding(20, 8)
        self.block = TransformerBlock()
        self.pool = layers.GlobalAveragePooling1D()
        self.head = mpt.MPTDense(3)

    def call(self, tokens, training=False):
        x = self.block(self.embedding(tokens), training=training)
        return self.head(self.pool(x))


@register
class Containers(layers.Layer):
    """Masked layers wherever an attribute can hold them, some twice."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        shared = mpt.MPTDense(6, input_quantizer="ste_sign", name="shared")
        self.listed = [mpt.MPTDense(6), [shared, layers.Dense(6)]]
        self.named = {"a": shared, "b": {"c": mpt.MPTDense(6)}}
        self.pair = (mpt.MPTDense(6), shared)
        self.again = self.listed[0]
        self.wrapped = layers.TimeDistributed(mpt.MPTDense(6))
        inputs = keras.Input((None, 6))
        self.inner = keras.Model(inputs, mpt.MPTDense(6)(inputs))

    def call(self, x):
        for layer in (self.listed[0], *self.listed[1], self.inner):
            x = layer(x)
        x = self.named["a"](x) + self.named["b"]["c"](x)
        x = self.pair[0](x) + self.pair[1](x) + self.again(x)
        return self.wrapped(x)


@register
class Cell(layers.Layer):
    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.state_size = units
        self.to_hidden = mpt.MPTDense(units)
        self.hidden_to_hidden = mpt.MPTDense(units, input_quantizer="ste_sign")

    def build(self, shape):
        self.to_hidden.build(shape)
        self.hidden_to_hidden.build((None, self.state_size))

    def call(self, x, states):
        (state,) = states
        state = ops.tanh(self.to_hidden(x) + self.hidden_to_hidden(state))
        return state, [state]

    def get_config(self):
        return {**super().get_config(), "units": self.state_size}


@register
class Sampling(layers.Layer):
    """Draws at random in every call."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.mean = mpt.MPTDense(4)
        self.seed_generator = keras.random.SeedGenerator()

    def build(self, shape):
        self.mean.build(shape)

    def call(self, x):
        x = self.mean(x)
        noise = keras.random.normal(ops.shape(x), seed=self.seed_generator)
        return x + noise


def text_classifier():
    tokens = keras.Input((10,), dtype="int32")
    x = TransformerBlock(name="block")(mpt.MPTEmbedding(20, 8)(tokens))
    x = TransformerBlock()(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(tokens, mpt.MPTDense(3, name="head")(x))


def subclassed():
    model = TextClassifier()
    model(np.zeros((2, 10), "int32"))
    model.compile("adam", "mse")
    return model


def containers():
    return keras.Sequential([keras.Input((5, 6)), Containers()])


def time_distributed():
    inputs = keras.Input((5, 8, 8, 1))
    convolution = mpt.MPTConv2D(2, 3, input_quantizer="approx_sign")
    x = layers.TimeDistributed(convolution)(inputs)
    return keras.Model(inputs, layers.TimeDistributed(layers.Flatten())(x))


def bidirectional():
    x = inputs = keras.Input((5, 6))
    x = layers.Bidirectional(layers.RNN(Cell(), return_sequences=True))(x)
    x = layers.RNN(layers.StackedRNNCells([Cell(3), Cell(2)]))(x)
    return keras.Model(inputs, x)


def two_uses():
    """A custom layer that is shared, and inputs and outputs by name."""
    shared = TransformerBlock(4, 1, 4)
    a, b = (keras.Input((3, 4), name=name) for name in "ab")
    outputs = {"sum": layers.Add()([shared(a), shared(b)]), "a": a}
    return keras.Model({"a": a, "b": b}, outputs)


def sampling():
    return keras.Sequential([keras.Input((6,)), Sampling()])


keeps_weights = pytest.mark.skipif(
    KERAS_VERSION < (3, 15),
    reason="Keras 3.14 loses weights of nested lists and dictionaries",
)
MODELS = (
    *(text_classifier, subclassed, time_distributed, bidirectional),
    *(two_uses, sampling),
    pytest.param(containers, marks=keeps_weights),
)
every_model = pytest.mark.parametrize("make", MODELS)
# Keras says so of layers that it builds by calling them a moment later.
pytestmark = pytest.mark.filterwarnings("ignore:`build.*` was called on layer")


def random_batch(model, rng):
    """Tokens for models that embed them."""
    if isinstance(model, TextClassifier) or "int" in model.inputs[0].dtype:
        return rng.integers(0, 20, (4, 10)).astype("int32")
    draws = {
        tensor.name: rng.standard_normal((4, *tensor.shape[1:])).astype("f4")
        for tensor in model.inputs
    }
    return draws if len(draws) > 1 else next(iter(draws.values()))


def predictions(model, x):
    return [as_numpy(output) for output in keras.tree.flatten(model(x))]


def assert_equal(received, expected):
    for one, other in zip(received, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@every_model
def test_tickets_predict_the_same_and_reload(make, rng, tmp_path):
    model = make()
    x = random_batch(model, rng)
    frozen = mpt.freeze(model)
    assert not mpt.masked_layers(frozen)
    expected = predictions(model, x)
    frozen.save(tmp_path / "frozen.keras")
    assert_equal(predictions(frozen, x), expected)
    reloaded = keras.models.load_model(tmp_path / "frozen.keras")
    assert not mpt.masked_layers(reloaded)
    assert not reloaded.trainable_variables
    assert_equal(
        [as_numpy(weight) for weight in reloaded.weights],
        [as_numpy(weight) for weight in frozen.weights],
    )
    if make is not sampling:  # Keras' files lack the random state
        assert_equal(predictions(reloaded, x), expected)


@needs_tensorflow
@every_model
def test_tickets_are_served(make, rng, tmp_path):
    model = make()
    x = random_batch(model, rng)
    if make is subclassed:  # which Keras exports for floats
        x = x.astype("float32")
    frozen = mpt.freeze(model)
    frozen.export(tmp_path / "saved_model", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "saved_model"))
    served = keras.tree.flatten(
        loaded.serve(keras.tree.map_structure(tf.constant, x))
    )
    for one, other in zip(served, predictions(frozen, x), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@every_model
def test_the_given_model_stays_as_it_is(make, rng):
    model = make()
    before = [as_numpy(variable) for variable in model.variables]
    calls = [len(layer._inbound_nodes) for layer in model.layers]
    held = mpt.masked_layers(model)
    mpt.freeze(model)
    assert mpt.masked_layers(model) == held
    assert calls == [len(layer._inbound_nodes) for layer in model.layers]
    assert_equal([as_numpy(variable) for variable in model.variables], before)


@keeps_weights
def test_what_is_shared_stays_shared():
    layer = mpt.freeze(containers()).layers[0]
    assert layer.listed[1][0] is layer.named["a"] is layer.pair[1]
    assert layer.again is layer.listed[0]
    assert type(layer.again) is layers.Dense
    assert type(layer.wrapped.layer) is layers.Dense
    # Seven kernels, and that and the bias of the ordinary layer.
    assert len(layer.weights) == 8


def test_tickets_of_custom_layers_have_masks():
    model = text_classifier()
    masks = mpt.analysis.masks_of(model)
    frozen = mpt.analysis.masks_of(mpt.freeze(model))
    assert_equal([frozen[name] for name in masks], list(masks.values()))


@register
class Curious(layers.Layer):
    """Looks into its masked layer."""

    def __init__(self, how="effective", **kwargs):
        super().__init__(**kwargs)
        self.how = how
        self.dense = mpt.MPTDense(3)
        dense = self.dense
        self.hidden = lambda x: dense(x)

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        if self.how == "hidden":
            return self.hidden(x)
        if self.how == "kernel":
            return ops.matmul(x, self.dense.kernel)
        return ops.matmul(x, self.dense.effective_kernel())

    def get_config(self):
        return {**super().get_config(), "how": self.how}


@pytest.mark.parametrize(
    ("how", "found"),
    [
        ("effective", "it fails: .*effective_kernel"),
        ("hidden", "it fails: .*has no kernel"),
        ("kernel", "it predicts something else"),
    ],
)
def test_code_that_uses_more_than_a_call_is_refused(how, found):
    model = keras.Sequential([keras.Input((4,)), Curious(how, name="curious")])
    with pytest.raises(ValueError, match=rf"(?s){found}.*\['curious'\]"):
        mpt.freeze(model)


def test_models_that_take_no_random_input_are_not_compared():
    @keras.saving.register_keras_serializable(package="tests")
    class Picky(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = mpt.MPTDense(3)

        def build(self, shape):
            self.dense.build(shape)

        def compute_output_shape(self, shape):
            return (*shape[:-1], 3)

        def call(self, x):
            if x.shape[0] not in (None, 3):
                raise ValueError("three at a time")
            return self.dense(x)

    model = keras.Sequential([keras.Input((4,)), Picky()])
    with pytest.warns(UserWarning, match=r"(?s)not compared.*three at"):
        frozen = mpt.freeze(model)
    x = np.ones((3, 4), "float32")
    assert_equal(predictions(frozen, x), predictions(model, x))


class Unregistered(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = mpt.MPTDense(3)

    def call(self, x):
        return self.dense(x)


def test_classes_that_keras_cannot_load_are_refused():
    layer = Unregistered(name="unknown")
    model = keras.Sequential([keras.Input((4,)), layer])
    with pytest.raises(ValueError, match=r"'unknown' \(Unregistered\).*regist"):
        mpt.freeze(model)


@register
class TwoInputs(keras.Model):
    """Keras saves it, and loses weights without a word."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.stack = [mpt.MPTDense(4), mpt.MPTDense(2)]

    def call(self, a, b):
        x = a + b
        for layer in self.stack:
            x = layer(x)
        return x


def test_copies_that_lost_weights_are_refused():
    model = TwoInputs(name="two")
    model(np.ones((1, 4)), np.ones((1, 4)))
    with pytest.raises(ValueError, match=r"'two' \(TwoInputs\).*weights saved"):
        mpt.freeze(model)


@keras.saving.register_keras_serializable(package="tests")
class Temperature(keras.layers.Layer):
    """Its config does not say what a callback has set."""

    temperature = 1.0

    def call(self, inputs):
        return inputs / self.temperature


def test_copies_that_compute_otherwise_are_refused():
    layer = Temperature(name="hot")
    model = keras.Sequential([keras.Input((4,)), mpt.MPTDense(3), layer])
    layer.temperature = 0.1
    with pytest.raises(ValueError, match=r"something else.*\['hot'\]"):
        mpt.freeze(model)


def hard_tanh(x):
    """Keras has a function of this name, and saves this one by it."""
    return ops.clip(x, -0.2, 0.2)


def test_functions_that_keras_takes_for_its_own_are_noticed():
    model = keras.Sequential(
        [
            keras.Input((8,)),
            mpt.MPTDense(4, seed=0),
            keras.layers.Dense(2, activation=hard_tanh, name="cut"),
        ]
    )
    with pytest.raises(ValueError, match=r"\['cut'\]"):
        mpt.freeze(model)


class Doubled(keras.Model):
    def predict_step(self, data):
        return 2 * super().predict_step(data)


def test_models_that_predict_in_their_own_way_are_refused():
    inputs = keras.Input((4,))
    model = Doubled(inputs, mpt.MPTDense(3)(inputs))
    with pytest.raises(ValueError, match="`predict_step` of its own"):
        mpt.freeze(model)


def levels(x):
    return ops.round(ops.clip(x, -1, 1) * 7) / 7


@pytest.mark.parametrize("kind", ["sequential", "functional"])
def test_one_function_quantizes_in_several_precisions(kind, rng):
    layers = [
        mpt.MPTDense(8, input_quantizer=levels, dtype="mixed_bfloat16", seed=0),
        keras.layers.LayerNormalization(dtype="float32"),
        mpt.MPTDense(3, input_quantizer=levels, dtype="float32", seed=1),
        mpt.MPTDense(3, input_quantizer=levels, dtype="float32", seed=2),
    ]
    model = keras.Sequential([keras.Input((6,)), *layers])
    if kind == "functional":
        model = keras.Model(model.inputs, model.outputs)
    x = rng.standard_normal((16, 6)).astype("float32")
    np.testing.assert_array_equal(
        mpt.freeze(model).predict_on_batch(x), model.predict_on_batch(x)
    )


def test_activations_that_keras_cannot_save(rng):
    activation = functools.partial(ops.leaky_relu, negative_slope=0.3)
    layer = mpt.MPTDense(3, activation=activation, seed=0)
    model = keras.Sequential([keras.Input((8,)), layer])
    x = rng.standard_normal((4, 8)).astype("float32")
    np.testing.assert_array_equal(
        mpt.freeze(model).predict_on_batch(x), model.predict_on_batch(x)
    )
    assert layer.activation is activation


def test_freezing_draws_no_numbers():
    model = keras.Sequential([keras.Input((8, 4)), TransformerBlock(width=4)])
    before = random.getstate()
    mpt.freeze(model)
    assert random.getstate() == before
