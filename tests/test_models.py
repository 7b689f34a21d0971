import inspect

import keras
import numpy as np
import pytest
from backend import as_numpy

import mpt_keras as mpt

BUILDERS = {
    "conv2": mpt.models.conv2,
    "conv4": mpt.models.conv4,
    "conv6": mpt.models.conv6,
    "conv8": mpt.models.conv8,
}
# Scored weights of the papers' networks by width multiplier.
WEIGHTS = {
    ("conv2", 1): 4_300_992,
    ("conv4", 1): 2_425_024,
    ("conv6", 1): 2_261_184,
    ("conv8", 1): 5_275_840,
    ("conv2", 0.1): 39_761,
    ("conv2", 0.25): 269_616,
    ("conv2", 0.5): 1_076_320,
    ("conv4", 0.1): 22_505,
    ("conv4", 0.25): 152_368,
    ("conv4", 0.5): 607_328,
    ("conv6", 0.1): 21_630,
    ("conv6", 0.25): 142_128,
    ("conv6", 0.5): 566_368,
    ("conv8", 0.1): 51_614,
    ("conv8", 0.25): 330_544,
    ("conv8", 0.5): 1_320_032,
}


def weights_of(model):
    return sum(
        masked.size
        for layer in mpt.masked_layers(model)
        for masked in layer.masked_kernels
    )


@pytest.mark.parametrize("binary_activations", [False, True])
@pytest.mark.parametrize(("name", "width"), WEIGHTS)
def test_weight_counts_are_the_papers(name, width, binary_activations):
    model = BUILDERS[name](width=width, binary_activations=binary_activations)
    assert weights_of(model) == WEIGHTS[name, width]
    assert model.output_shape == (None, 10)
    assert model.name == name


def kinds(model):
    return [type(layer).__name__ for layer in model.layers]


def test_real_activations_come_without_batch_norm():
    conv, dense, relu, pool = "MPTConv2D", "MPTDense", "ReLU", "MaxPooling2D"
    assert kinds(mpt.models.conv4()) == [
        *(conv, relu, conv, relu, pool),
        *(conv, relu, conv, relu, pool),
        *("Flatten", dense, relu, dense, relu, dense),
    ]


def test_binary_activations_pool_before_the_batch_norm():
    conv, dense, pool = "MPTConv2D", "MPTDense", "MaxPooling2D"
    norm, sign = "BatchNormalization", "ApproxSign"
    model = mpt.models.conv4(binary_activations=True)
    assert kinds(model) == [
        *(conv, norm, sign, conv, pool, norm, sign),
        *(conv, norm, sign, conv, pool, norm, sign),
        *("Flatten", dense, norm, sign, dense, norm, sign, dense),
    ]
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            assert layer.epsilon == 1e-5
            assert layer.momentum == 0.9
            assert not layer.trainable_variables


def test_trained_batch_norm_is_regularized_like_the_scores():
    regularizer = keras.regularizers.L2(0.1)
    model = mpt.models.conv2(
        binary_activations=True,
        trained_batch_norm=True,
        regularizer=regularizer,
        width=0.1,
    )
    assert len(model.trainable_variables) == 5 + 2 * 4
    assert all(v.regularizer is regularizer for v in model.trainable_variables)


@pytest.mark.parametrize(
    "quantizer",
    [mpt.quantizers.SteSign(1.2), keras.activations.tanh, "swish_sign"],
)
def test_any_quantizer_has_a_layer_in_every_place(quantizer, tmp_path, rng):
    model = mpt.models.conv2(width=0.1, binary_activations=quantizer)
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    assert len({id(layer) for layer in model.layers}) == 15
    assert kinds(reloaded) == kinds(model)
    x = rng.standard_normal((2, 32, 32, 3)).astype("float32")
    np.testing.assert_array_equal(
        reloaded.predict(x, verbose=0), model.predict(x, verbose=0)
    )


def test_help_shows_the_options():
    options = inspect.signature(mpt.models.conv6).parameters
    assert list(options)[:3] == ["sparsity", "binarize", "binary_activations"]


def test_options_reach_every_layer():
    model = mpt.models.conv4(
        sparsity=0.8,
        binarize=False,
        kernel_initializer="signed_constant",
        scale_fan="authors",
        width=0.25,
        classes=7,
        input_shape=(28, 28, 1),
        seed=3,
        name="mine",
    )
    layers = mpt.masked_layers(model)
    assert model.name == "mine"
    assert model.output_shape == (None, 7)
    assert len({layer.seed for layer in layers}) == len(layers) == 7
    for layer in layers:
        assert not layer.binarize
        assert layer.initial_sparsity == 0.8
        fan_in = np.prod(layer.kernel.shape[:-1])
        np.testing.assert_allclose(
            np.abs(layer.kernel), np.sqrt(2 / (fan_in * 0.8)), rtol=1e-6
        )


def test_a_seed_gives_the_same_network():
    def first_kernel(**options):
        model = mpt.models.conv2(width=0.1, **options)
        return as_numpy(mpt.masked_layers(model)[0].kernel)

    np.testing.assert_array_equal(first_kernel(seed=1), first_kernel(seed=1))
    assert (first_kernel(seed=1) != first_kernel(seed=2)).any()
    assert (first_kernel() != first_kernel()).any()


def test_dense_twin_has_the_same_weights_trained():
    model = mpt.models.conv4(
        masked=False,
        binary_activations=True,
        regularizer=keras.regularizers.L2(0.1),
        width=0.25,
        seed=0,
    )
    assert not mpt.masked_layers(model)
    kernels = [v for v in model.trainable_variables if v.name == "kernel"]
    assert sum(np.prod(k.shape) for k in kernels) == WEIGHTS["conv4", 0.25]
    assert all(kernel.regularizer is not None for kernel in kernels)


def test_any_keras_initializer_will_do():
    model = mpt.models.conv2(width=0.1, kernel_initializer="glorot_uniform")
    kernel = mpt.masked_layers(model)[0].kernel
    assert np.abs(kernel).max() <= np.sqrt(6 / (27 + 54))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stages": 5}, "Expected 1 to 4"),
        ({"stages": 2, "width": 0}, "width=0"),
        ({"stages": 2, "width": 0.01}, "at least one of 64"),
        ({"stages": 2, "sparsity": 1.0}, r"Expected a number in \[0, 1\)"),
        ({"stages": 2, "sparsity": "0.5"}, r"Expected a number in \[0, 1\)"),
        ({"stages": 2, "masked": False, "sparsity": 7}, "sparsity=7"),
        ({"stages": 2, "seed": -1}, "seed=-1"),
        ({"stages": 2, "width": "a"}, "width='a'"),
        ({"stages": 2, "binary_activations": "tanh"}, "approx_sign"),
    ],
)
def test_impossible_networks_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        mpt.models.conv_net(**options)
