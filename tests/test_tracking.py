"""Each backend sees all variables of a masked layer, by its own means."""

import backend
import keras
import numpy as np
import pytest

import mpt_keras as mpt


def network(seed):
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            mpt.MPTSeparableConv2D(6, 3, seed=seed, sparsity=0.2),
            keras.layers.Flatten(),
            mpt.MPTDense(
                4, seed=seed, input_quantizer=keras.layers.BatchNormalization()
            ),
        ]
    )


@pytest.fixture
def images(rng):
    return rng.standard_normal((4, 8, 8, 3)).astype("float32")


@pytest.fixture
def trained(images, rng):
    model = network(1)
    model.compile("adam", "mse")
    model.fit(images, rng.standard_normal((4, 4)), epochs=2, verbose=0)
    mpt.masked_layers(model)[1].sparsity = 0.8
    return model


def assert_same(found, expected, images):
    np.testing.assert_array_equal(
        found.predict(images, verbose=0), expected.predict(images, verbose=0)
    )
    for ours, theirs in zip(found.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(
            backend.as_numpy(ours), backend.as_numpy(theirs), ours.path
        )


@backend.needs_tensorflow
def test_checkpoints_of_tensorflow(trained, images, tmp_path):
    checkpoint = backend.tf.train.Checkpoint(model=trained)
    path = checkpoint.save(tmp_path / "checkpoint")
    other = network(2)
    other.compile("adam", "mse")
    other.optimizer.build(other.trainable_variables)
    status = backend.tf.train.Checkpoint(model=other).restore(path)
    status.assert_consumed()
    status.assert_existing_objects_matched()
    assert_same(other, trained, images)


@backend.needs_tensorflow
def test_saved_models_of_tensorflow(trained, images, tmp_path):
    serve = backend.tf.function(
        lambda x: trained(x, training=False),
        input_signature=[backend.tf.TensorSpec((None, 8, 8, 3))],
    )
    path = str(tmp_path / "saved_model")
    backend.tf.saved_model.save(trained, path, {"serving_default": serve})
    served = backend.tf.saved_model.load(path).signatures["serving_default"]
    (outputs,) = served(backend.tf.constant(images)).values()
    expected = trained.predict(images, verbose=0)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(backend.NAME != "torch", reason="needs PyTorch")
def test_state_dict_of_pytorch(trained, images):
    other = network(2)
    state = trained.state_dict()
    names = {name.partition("torch_params.")[2] for name in state}
    assert names == {variable.path for variable in trained.weights}
    other.load_state_dict(
        dict(zip(other.state_dict(), state.values(), strict=True))
    )
    assert_same(other, trained, images)


@pytest.mark.skipif(backend.NAME != "jax", reason="needs JAX")
def test_stateless_calls_of_jax(trained, images):
    outputs, _ = network(2).stateless_call(
        *(
            [v.value for v in variables]
            for variables in (
                trained.trainable_variables,
                trained.non_trainable_variables,
            )
        ),
        images,
    )
    expected = trained.predict(images, verbose=0)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)


def test_a_quantizer_with_state_has_its_weights_before_the_first_call(
    trained, images, tmp_path
):
    trained.save_weights(tmp_path / "trained.weights.h5")
    other = network(2)
    other.load_weights(tmp_path / "trained.weights.h5")
    assert_same(other, trained, images)
