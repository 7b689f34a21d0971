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


@backend.needs_tensorflow
def test_a_layer_remembers_its_last_threshold(images, rng, tmp_path):
    model = network(1)
    masked = mpt.masked_layers(model)[1].masked_kernels[0]
    weights = [variable.path for variable in model.variables]

    def threshold_key():
        magnitudes = np.sort(np.abs(backend.as_numpy(masked.scores)), axis=None)
        lowest_kept = magnitudes[masked.size - int(masked.kept())]
        return lowest_kept.view("int32"), magnitudes

    for _ in range(2):
        model.predict(images, verbose=0)
        lowest, magnitudes = threshold_key()
        below = magnitudes[magnitudes.view("int32") < lowest].max()
        # Whatever lies between the last one pruned and the first one kept.
        assert below.view("int32") < int(masked.last_key) <= lowest
        # Far away from what it was.
        scores = rng.standard_normal(masked.scores.shape)
        masked.scores.assign(1e3 * scores)
    assert [variable.path for variable in model.variables] == weights
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_same(loaded, model, images)


@backend.needs_tensorflow
@pytest.mark.parametrize("jit_compile", [False, True])
def test_calls_within_loops_and_branches(jit_compile, rng):
    """Where what is remembered is assigned within a graph in a graph."""
    tf = backend.tf
    layer = mpt.MPTDense(4, seed=0)
    x = rng.standard_normal((3, 5, 6)).astype("float32")
    expected = layer(x)

    @tf.function(jit_compile=jit_compile)
    def called(x):
        rows = tf.while_loop(
            lambda i, _: i < 3,
            lambda i, rows: (
                i + 1,
                tf.tensor_scatter_nd_update(rows, [[i]], [layer(x[i])]),
            ),
            (0, tf.zeros((3, 5, 4))),
        )[1]
        return tf.cond(
            rows[0, 0, 0] > -9.0, lambda: rows + layer(x), lambda: rows
        )

    np.testing.assert_allclose(called(x), 2 * expected, rtol=1e-5)


@backend.needs_tensorflow
def test_gradients_of_single_examples(rng):
    tf = backend.tf
    layer = mpt.MPTDense(4, seed=0)
    x = rng.standard_normal((3, 6)).astype("float32")
    layer(x)

    def gradient(row):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(row[None]) ** 2)
        return tape.gradient(loss, layer.scores.value)

    together = tf.vectorized_map(gradient, tf.constant(x))
    for row, found in zip(x, together, strict=True):
        np.testing.assert_allclose(
            found, gradient(tf.constant(row)), rtol=1e-5, atol=1e-6
        )
