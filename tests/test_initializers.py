import hashlib
import math

import keras
import numpy as np
import pytest

from mpt_keras import initializers

ALL = [
    initializers.KaimingNormal,
    initializers.SignedConstant,
    initializers.KaimingUniform,
]


def numbers(initializer, shape, **kwargs):
    return keras.ops.convert_to_numpy(initializer(shape, **kwargs))


@pytest.mark.parametrize(
    ("cls", "digest"),
    [
        (initializers.KaimingNormal, "9949292baaad3dc9"),
        (initializers.SignedConstant, "48b1b7d9ec3ea84c"),
        (initializers.KaimingUniform, "da2b308d007b580e"),
    ],
)
def test_a_seed_means_the_same_numbers_for_ever(cls, digest):
    values = numbers(cls(seed=7), (5, 5, 16, 32), stream=1)
    found = hashlib.sha256(values.astype("<f4").tobytes()).hexdigest()
    assert found[:16] == digest


@pytest.mark.parametrize("cls", ALL)
def test_seeds_and_streams_are_independent(cls):
    draws = [
        numbers(cls(seed=seed), (100, 100), stream=stream).ravel()
        for seed in (0, 1)
        for stream in (0, 1)
    ]
    correlations = np.corrcoef(np.sign(draws))
    assert np.abs(correlations - np.eye(4)).max() < 0.05


@pytest.mark.parametrize("cls", ALL)
def test_unseeded_draws_differ_and_follow_set_random_seed(cls):
    keras.utils.set_random_seed(0)
    first, second = (numbers(cls(), (9,)) for _ in range(2))
    assert (first != second).any()
    keras.utils.set_random_seed(0)
    np.testing.assert_array_equal(numbers(cls(), (9,)), first)
    initializer = cls()
    np.testing.assert_array_equal(numbers(initializer, (9,)), second)
    assert (numbers(initializer, (9,)) != second).any()


@pytest.mark.parametrize("cls", ALL)
def test_config_round_trip(cls):
    original = cls(seed=3)
    copy = keras.initializers.deserialize(
        keras.initializers.serialize(original)
    )
    assert copy.get_config() == original.get_config()
    np.testing.assert_array_equal(
        numbers(copy, (4, 5)), numbers(original, (4, 5))
    )


def test_kaiming_normal_is_normal():
    values = numbers(initializers.KaimingNormal(seed=0), (1000, 1000))
    standard = np.sort(values.ravel()) / math.sqrt(2 / 1000)
    assert abs(standard.mean()) < 0.004
    assert abs(standard.std() - 1) < 0.003
    assert abs((standard**4).mean() - 3) < 0.03
    from statistics import NormalDist

    for share in (0.001, 0.1, 0.5, 0.9, 0.999):
        quantile = standard[int(share * standard.size)]
        assert abs(NormalDist().cdf(quantile) - share) < 0.002


def test_signed_constant_has_one_magnitude_and_even_signs():
    values = numbers(initializers.SignedConstant(seed=0), (3, 3, 50, 100))
    np.testing.assert_allclose(np.abs(values), math.sqrt(2 / 450), rtol=1e-6)
    assert abs((values > 0).mean() - 0.5) < 0.01


def test_kaiming_uniform_fills_its_bounds():
    values = numbers(initializers.KaimingUniform(seed=0), (400, 500)) * 20
    assert -1 < values.min() < -0.999
    assert 0.999 < values.max() < 1
    assert abs(values.std() - 1 / math.sqrt(3)) < 0.002
    relu = numbers(initializers.KaimingUniform(a=0, seed=0), (400, 500))
    np.testing.assert_allclose(relu * 20, values * math.sqrt(6), rtol=1e-5)


@pytest.mark.parametrize(
    ("scale_fan", "factor"),
    [(None, 1), ("paper", 1 / 0.2), ("authors", 1 / 0.8)],
)
@pytest.mark.parametrize(
    "cls", [initializers.KaimingNormal, initializers.SignedConstant]
)
def test_scaling_by_the_sparsity(cls, scale_fan, factor):
    plain = numbers(cls(seed=0), (64, 64))
    scaled = numbers(cls(scale_fan, seed=0), (64, 64), sparsity=0.8)
    np.testing.assert_allclose(scaled, plain * math.sqrt(factor), rtol=1e-6)


def test_fan_in_can_be_given():
    values = numbers(initializers.SignedConstant(seed=0), (8, 4), fan_in=2)
    np.testing.assert_array_equal(np.abs(values), 1.0)


def test_dtype_is_as_asked():
    init = initializers.KaimingNormal(seed=0)
    assert keras.backend.standardize_dtype(init((2, 2)).dtype) == "float32"
    half = init((2, 2), dtype="bfloat16")
    assert keras.backend.standardize_dtype(half.dtype) == "bfloat16"


@pytest.mark.parametrize(
    ("scale_fan", "sparsity", "message"),
    [
        ("biprop", 0.5, "Expected None, 'paper'"),
        ("paper", None, "needs the sparsity"),
        ("paper", 1.0, "Expected a number in"),
        ("authors", 0.0, "divides by the fraction pruned"),
    ],
)
def test_impossible_scaling_is_refused(scale_fan, sparsity, message):
    with pytest.raises(ValueError, match=message):
        initializers.KaimingNormal(scale_fan)((2, 2), sparsity=sparsity)
