import keras
import numpy as np
import oracle
import pytest
from backend import (
    FORMS,
    NAME,
    as_numpy,
    second_gradient,
    value_and_gradients,
)
from keras import ops

from mpt_keras import MPTDense, masking
from mpt_keras.sparsity import pruned_count


def kept_of(scores, sparsity):
    size = scores.size
    return ops.convert_to_tensor(size - pruned_count(sparsity, size), "int32")


@pytest.mark.parametrize("binarize", [True, False])
def test_second_gradients_go_straight_through_as_well(binarize, rng):
    scores, kernel = rng.standard_normal((2, 60)).astype("float32")

    def energy(scores):
        return ops.sum(masking.masked_kernel(scores, kernel, 20, binarize) ** 2)

    # The first one is 2 * masked_kernel * kernel * sign(scores).
    np.testing.assert_allclose(
        second_gradient(energy, scores), 2 * kernel**2, rtol=1e-5
    )


@pytest.mark.parametrize("binarize", [True, False])
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.9, 0.9999])
def test_forward_and_gradient_are_the_formulas(binarize, sparsity, rng):
    scores, kernel, upstream = rng.standard_normal((3, 3, 3, 4, 8)).astype(
        "float32"
    )
    scores[0, 0, 0, 0] = 0.0
    kernel[1, 1, 1, 1] = 0.0
    variable = keras.Variable(scores)

    def masked_kernel():
        return masking.masked_kernel(
            ops.copy(variable),
            ops.convert_to_tensor(kernel),
            kept_of(scores, sparsity),
            binarize,
        )

    output, (gradient,) = value_and_gradients(
        masked_kernel, [variable], upstream
    )
    expected = oracle.effective(scores, kernel, sparsity, binarize)
    np.testing.assert_allclose(output, expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(
        gradient,
        oracle.scores_gradient(upstream, scores, kernel),
        rtol=1e-6,
    )


def test_kernel_gets_no_gradient(rng):
    values = rng.standard_normal((2, 4, 4)).astype("float32")
    scores, kernel = (keras.Variable(value) for value in values)
    _, (by_scores, by_kernel) = value_and_gradients(
        lambda: masking.masked_kernel(
            ops.copy(scores), ops.copy(kernel), kept_of(values[0], 0.5)
        ),
        [scores, kernel],
    )
    assert by_scores.any()
    assert not by_kernel.any()


def test_binary_kernel_holds_three_values(rng):
    scores, kernel = rng.standard_normal((2, 50, 20)).astype("float32")
    output = as_numpy(
        masking.masked_kernel(
            ops.convert_to_tensor(scores),
            ops.convert_to_tensor(kernel),
            kept_of(scores, 0.8),
        )
    )
    values = np.unique(output)
    assert len(values) == 3
    assert values[0] == -values[2]
    assert values[1] == 0
    gain = masking.gain(
        ops.convert_to_tensor(kernel), ops.convert_to_tensor(output != 0)
    )
    np.testing.assert_allclose(as_numpy(gain), values[2], rtol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_kept_may_be_a_python_number(form, rng):
    scores, kernel = rng.standard_normal((2, 3, 4)).astype("float32")
    masked = FORMS[form](
        lambda scores, kernel: masking.masked_kernel(scores, kernel, kept=3)
    )
    found = masked(*map(ops.convert_to_tensor, (scores, kernel)))
    expected = oracle.effective(scores, kernel, 0.75, True)
    np.testing.assert_allclose(as_numpy(found), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", [keras.Variable, np.asarray, list])
def test_what_stands_for_tensors(kind, rng):
    scores, kernel = rng.standard_normal((2, 12)).astype("float32")
    found = masking.masked_kernel(kind(scores), kind(kernel), kept=3)
    expected = oracle.effective(scores, kernel, 0.75, True)
    np.testing.assert_allclose(as_numpy(found), expected, rtol=1e-6)


def test_gain_survives_half_precision():
    """A float16 sum would overflow at 65,504."""
    kernel = ops.full((300, 300), 2.0, dtype="float16")
    mask = ops.ones((300, 300), dtype="bool")
    assert float(masking.gain(kernel, mask)) == 2.0


def test_scores_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"scores.shape=\(3,\), kernel"):
        masking.masked_kernel(
            ops.ones((3,)), ops.ones((4,)), ops.convert_to_tensor(1, "int32")
        )


@pytest.mark.skipif(NAME != "jax", reason="needs the JAX backend")
@pytest.mark.parametrize("how", ["jit", "checkpoint", "vmap"])
def test_gradients_in_what_jax_transforms(how, rng):
    import jax

    scores, kernel = rng.standard_normal((2, 3, 4)).astype("float32")

    def loss(scores, kernel):
        masked = masking.masked_kernel(scores, kernel, kept=3)
        return ops.sum(masked * masked)

    expected = jax.grad(loss)(scores, kernel)
    if how == "vmap":
        batched = jax.vmap(jax.grad(loss), (0, None))(scores[None], kernel)
        found = batched[0]
    else:
        found = jax.grad(getattr(jax, how)(loss))(scores, kernel)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.skipif(
    NAME == "tensorflow", reason="Keras' scope fails there for every layer"
)
def test_a_layer_in_a_remat_scope(rng):
    x, y = rng.standard_normal((8, 4)), rng.standard_normal((8, 3))
    results = []
    for mode in ("full", None):
        with keras.RematScope(mode=mode):
            model = keras.Sequential(
                [keras.Input((4,)), MPTDense(8, seed=0), MPTDense(3, seed=1)]
            )
        model.compile("sgd", "mse")
        model.fit(x, y, verbose=0)
        results.append(as_numpy(model.layers[0].scores))
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-7)


def test_whole_numbers_count_as_floats():
    masked = masking.masked_kernel([0.1, -0.9, 0.5], [1, -3, 6], kept=2)
    np.testing.assert_array_equal(as_numpy(masked), [0, -4.5, 4.5])


@pytest.mark.parametrize("kept", [0, 4, 2.9, True, "2"])
def test_impossible_counts_are_refused(kept):
    with pytest.raises(ValueError, match=r"an integer in \[1, 3\]"):
        masking.masked_kernel([0.1, -0.9, 0.5], [1.0, 2.0, 3.0], kept)


def test_the_gain_of_a_mask_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"mask.shape=\(1,\)"):
        masking.gain(np.arange(6.0), np.array([True]))
