"""Masked layers that users derive from `MaskedLayer` themselves."""

import keras
import numpy as np
import oracle
import pytest
from backend import as_numpy
from keras import ops

import mpt_keras as mpt


@keras.saving.register_keras_serializable(package="tests")
class MaskedEinsum(mpt.MaskedLayer, keras.layers.EinsumDense):
    def fan_in(self, kernel_name, kernel_shape):
        return kernel_shape[0]

    def apply_kernel(self, inputs, kernel):
        return ops.einsum(self.equation, inputs, kernel)


@keras.saving.register_keras_serializable(package="tests")
class Product(keras.layers.Layer):
    """A layer with a kernel, an initializer of it, and no bias."""

    def __init__(self, units, mixer_initializer="he_normal", **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.mixer_initializer = keras.initializers.get(mixer_initializer)

    def build(self, input_shape):
        self.mixer = self.add_weight(
            name="mixer",
            shape=(input_shape[-1], self.units),
            initializer=self.mixer_initializer,
        )

    def call(self, inputs):
        return ops.matmul(inputs, self.mixer)

    def get_config(self):
        initializer = keras.initializers.serialize(self.mixer_initializer)
        return {
            **super().get_config(),
            "units": self.units,
            "mixer_initializer": initializer,
        }


@keras.saving.register_keras_serializable(package="tests")
class MaskedProduct(mpt.MaskedLayer, Product):
    kernel_initializers = {"mixer": "mixer_initializer"}  # noqa: RUF012

    def apply_kernel(self, inputs, kernel):
        return ops.matmul(inputs, kernel)


LAYERS = {
    "einsum": lambda **options: MaskedEinsum(
        "btd,dhk->bthk", (None, 2, 8), bias_axes="hk", **options
    ),
    "product": lambda **options: MaskedProduct(5, **options),
}


@pytest.fixture(params=LAYERS)
def layer(request):
    layer = LAYERS[request.param](sparsity=0.8, seed=0, name="own")
    layer.build((None, 3, 4))
    return layer


def test_it_computes_with_the_oracles_kernel(layer, rng):
    x = rng.standard_normal((2, 3, 4)).astype("float32")
    (masked,) = layer.masked_kernels
    kernel = oracle.effective(
        as_numpy(masked.scores), as_numpy(masked.kernel), 0.8, True
    )
    expected = np.tensordot(x, kernel, 1)
    np.testing.assert_allclose(as_numpy(layer(x)), expected, rtol=1e-5)
    assert layer.sparsity == 0.8


def test_it_trains_is_saved_and_loaded(layer, rng, tmp_path):
    model = keras.Sequential([keras.Input((3, 4)), layer])
    model.compile("sgd", "mse")
    x = rng.standard_normal((8, 3, 4)).astype("float32")
    y = rng.standard_normal(model(x).shape)
    before = as_numpy(layer.scores)
    model.fit(x, y, verbose=0, callbacks=[mpt.callbacks.GlobalSparsity(0.5)])
    assert (as_numpy(layer.scores) != before).any()
    assert len(layer.trainable_variables) == 1 + hasattr(layer, "bias")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.predict_on_batch(x), model.predict_on_batch(x)
    )
    assert loaded.layers[-1].sparsity == layer.sparsity == 0.5


def test_its_ticket_is_the_keras_layer(layer, rng):
    model = keras.Sequential([keras.Input((3, 4)), layer])
    frozen = mpt.freeze(model)
    derived_from = {MaskedEinsum: keras.layers.EinsumDense}
    derived_from[MaskedProduct] = Product
    assert type(frozen.layers[-1]) is derived_from[type(layer)]
    x = rng.standard_normal((8, 3, 4)).astype("float32")
    np.testing.assert_array_equal(
        frozen.predict_on_batch(x), model.predict_on_batch(x)
    )


@keras.saving.register_keras_serializable(package="tests")
class Doubled(mpt.MaskedLayer, keras.layers.Dense):
    def apply_kernel(self, inputs, kernel):
        return 2 * ops.matmul(inputs, kernel)


def test_a_ticket_that_would_predict_something_else_is_refused():
    model = keras.Sequential([keras.Input((4,)), Doubled(2, name="double")])
    with pytest.raises(
        ValueError, match=r"it predicts something else.*\['double'\]"
    ):
        mpt.freeze(model)


class KeywordOnly(keras.layers.Layer):
    """As many people write them."""

    def __init__(self, units, *, kernel_initializer="he_normal", **options):
        super().__init__(**options)
        self.units = units
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape):
        shape = (input_shape[-1], self.units)
        self.kernel = self.add_weight(
            shape, self.kernel_initializer, name="kernel"
        )


class Seeded(keras.layers.Dense):
    def __init__(self, units, seed=None, **kwargs):
        super().__init__(units, **kwargs)
        self.own_seed = seed


class Other:
    pass


def apply_kernel(self, inputs, kernel):
    return ops.matmul(inputs, kernel)


def masked(*bases):
    methods = {"apply_kernel": apply_kernel}
    return type("Own", (mpt.MaskedLayer, *bases), methods)


def test_constructors_of_any_kind():
    layer = masked(KeywordOnly)(3, sparsity=0.5, name="own")
    assert layer(np.ones((2, 4))).shape == (2, 3)
    assert layer.name == "own"
    assert int(ops.sum(layer.mask())) == 6
    layer = masked(Seeded)(3, seed=7)
    assert layer.own_seed == layer.seed == 7
    assert masked(Other, keras.layers.Dense)(3).units == 3


def test_bases_in_the_wrong_order_are_refused():
    with pytest.raises(TypeError, match="Expected MaskedLayer before Dense"):
        type("Own", (keras.layers.Dense, mpt.MaskedLayer), {})
