import subprocess
import sys

import keras
import numpy as np
import pytest
from backend import as_numpy, value_and_gradients
from keras import ops

from mpt_keras import MPTDense, larq, quantizers

POINTS = np.array(
    [-30, -2, -1, -0.7, -1e-4, -0.0, 0.0, 1e-4, 0.3, 1, 1.5, 30], "float32"
)
NAMES = ["approx_sign", "ste_sign", "swish_sign"]


def value_and_slope(quantizer, x=POINTS):
    variable = keras.Variable(x)
    values, (slopes,) = value_and_gradients(
        lambda: quantizer(ops.copy(variable)), [variable]
    )
    return values, slopes


@pytest.mark.parametrize("name", NAMES)
def test_forward_is_a_sign_with_zero_positive(name):
    values, _ = value_and_slope(quantizers.get(name))
    np.testing.assert_array_equal(values, np.where(POINTS < 0, -1.0, 1.0))


@pytest.mark.parametrize("name", NAMES)
def test_nan_stays_nan(name):
    values, _ = value_and_slope(
        quantizers.get(name), np.array([np.nan, 1, -np.inf], "float32")
    )
    np.testing.assert_array_equal(values, [np.nan, 1, -1])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_swish_gradient_ends_in_zero(dtype):
    x = ops.cast(np.array([-6e4, -9e3, 9e3, 6e4], "float32"), dtype)
    _, slopes = value_and_slope(quantizers.SwishSign(dtype=dtype), x)
    np.testing.assert_allclose(slopes, 0, atol=1e-12)


def test_whole_numbers_have_signs():
    signs = quantizers.SteSign()(np.array([-3, 0, 2], "int32"))
    np.testing.assert_array_equal(as_numpy(signs), [-1, 1, 1])


def test_gradients_are_the_formulas():
    x = POINTS.astype("float64")
    inside = np.abs(x) <= 1
    for quantizer, expected in [
        (quantizers.ApproxSign(), np.where(inside, 2 - 2 * np.abs(x), 0)),
        (quantizers.SteSign(), inside),
        (quantizers.SteSign(clip_value=1.6), np.abs(x) <= 1.6),
        (quantizers.SteSign(clip_value=None), np.ones_like(x)),
        (
            quantizers.SwishSign(beta=3.0),
            3 * (2 - 3 * x * np.tanh(1.5 * x)) / (1 + np.cosh(3 * x)),
        ),
    ]:
        _, slopes = value_and_slope(quantizer)
        np.testing.assert_allclose(slopes, expected, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_stays_finite(name, dtype):
    quantizer = type(quantizers.get(name))(dtype=dtype)
    values, slopes = value_and_slope(quantizer, ops.cast(POINTS, dtype))
    assert values.dtype == slopes.dtype == dtype
    assert np.isfinite(slopes.astype("float32")).all()


@pytest.mark.parametrize("cls", ["ApproxSign", "SteSign", "SwishSign"])
def test_keras_own_layer_test(cls, run_layer_test):
    run_layer_test(
        getattr(quantizers, cls),
        {},
        input_shape=(2, 3),
        expected_output_shape=(2, 3),
        expected_num_trainable_weights=0,
        expected_num_non_trainable_weights=0,
        supports_masking=True,
    )


def test_get_takes_names_classes_objects_and_callables():
    own = quantizers.SwishSign(beta=2.0)
    assert quantizers.get(own) is own
    assert quantizers.get(None) is None
    assert quantizers.get(keras.ops.sign) is keras.ops.sign
    assert isinstance(quantizers.get(quantizers.SteSign), quantizers.SteSign)
    serialized = keras.saving.serialize_keras_object(own)
    assert quantizers.get(serialized).beta == 2.0


@pytest.mark.parametrize("unknown", ["sign", 3, int])
def test_unknown_quantizer_is_named(unknown):
    with pytest.raises(ValueError, match=r"'approx_sign', 'ste_sign'.*Receiv"):
        MPTDense(3, input_quantizer=unknown)


def test_bad_slope_parameters_are_refused():
    with pytest.raises(ValueError, match="clip_value=-1"):
        quantizers.SteSign(clip_value=-1)
    with pytest.raises(ValueError, match="beta=0"):
        quantizers.SwishSign(beta=0)


# --- Larq -----------------------------------------------------------------


def larq_or_skip():
    try:
        return larq.quantizers
    except ImportError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (quantizers.ApproxSign, lambda q: q.ApproxSign()),
        (quantizers.SteSign, lambda q: q.SteSign()),
        (
            lambda: quantizers.SteSign(clip_value=0.5),
            lambda q: q.SteSign(clip_value=0.5),
        ),
        (quantizers.SwishSign, lambda q: q.SwishSign()),
    ],
)
def test_native_quantizers_equal_larqs(ours, theirs, rng):
    x = np.concatenate([POINTS, rng.standard_normal(1000).astype("float32")])
    values, slopes = value_and_slope(ours(), x)
    larq_values, larq_slopes = value_and_slope(theirs(larq_or_skip()), x)
    np.testing.assert_array_equal(values, larq_values)
    np.testing.assert_allclose(slopes, larq_slopes, atol=1e-6)


def test_larq_is_not_left_hollow():
    assert larq_or_skip().__name__ == "larq.quantizers"
    assert "larq" not in sys.modules


def test_a_model_with_a_larq_quantizer_reloads_elsewhere(tmp_path):
    quantizer = larq_or_skip().SteSign(clip_value=1.2)
    model = keras.Sequential(
        [keras.Input((4,)), MPTDense(3, input_quantizer=quantizer)]
    )
    x = np.linspace(-2, 2, 8, dtype="float32").reshape(2, 4)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "y.npy", model.predict(x, verbose=0))
    script = (
        "import sys, numpy as np, keras, mpt_keras\n"
        "model = keras.models.load_model(sys.argv[1])\n"
        "quantizer = model.layers[0].input_quantizer\n"
        "assert type(quantizer).__module__ == 'larq.quantizers'\n"
        "assert quantizer.clip_value == 1.2\n"
        "x = np.linspace(-2, 2, 8, dtype='float32').reshape(2, 4)\n"
        "y = model.predict(x, verbose=0)\n"
        "assert np.array_equal(y, np.load(sys.argv[2]))\n"
    )
    paths = [tmp_path / "model.keras", tmp_path / "y.npy"]
    subprocess.run([sys.executable, "-c", script, *paths], check=True)


def test_missing_larq_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'mpt_keras\[larq\]'"):
        larq._import_quantizers()


def test_numpy_that_larq_refuses_is_named(monkeypatch):
    larq_or_skip()
    monkeypatch.setattr("numpy.__version__", "2.3.1")
    with pytest.raises(ImportError, match=r"needs numpy .*<2.*numpy 2.3.1"):
        larq._import_quantizers()


def test_a_larq_that_breaks_leaves_nothing_behind(monkeypatch, tmp_path):
    package = tmp_path / "larq"
    package.mkdir()
    (package / "__init__.py").write_text("raise AttributeError('Keras 3')")
    (package / "quantizers.py").write_text("raise RuntimeError('broken')")
    before = {n: m for n, m in sys.modules.items() if n.startswith("larq")}
    larq._forget_larq()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("importlib.metadata.requires", lambda name: [])
    try:
        with pytest.raises(RuntimeError, match="broken"):
            larq._import_quantizers()
        assert not [n for n in sys.modules if n.startswith("larq")]
    finally:
        sys.modules.update(before)


def test_larq_module_has_nothing_else():
    with pytest.raises(AttributeError, match="no attribute 'layers'"):
        larq.layers  # noqa: B018
