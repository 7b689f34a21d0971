"""Exports: each in its own engine, beside the frozen Keras model."""

import errno
import functools
import importlib.util
import pathlib
import shutil
import sys
import tempfile

import backend
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

import mpt_keras as mpt
from mpt_keras.conversion.copying import copied
from mpt_keras.engines import (
    ENGINES,
    benchmarking,
    comparison,
    differences,
    exporting,
    first_answer,
    kernels,
    larq,
    signs,
    timing,
)
from mpt_keras.engines.exporting import export
from mpt_keras.engines.inputs import (
    ModelInput,
    given_arrays,
    model_inputs,
    predict,
    random_arrays,
)
from mpt_keras.engines.replacing import replaced
from mpt_keras.engines.report import ExportReport, size

PACKAGES = {
    "saved_model": ("tensorflow",),
    "litert": ("ai_edge_litert", "ai_edge_quantizer"),
    "onnx": ("onnxruntime", "onnx", "tf2onnx"),
    "openvino": ("openvino",),
    "larq": ("larq_compute_engine",),
    "hls4ml": ("hls4ml",),
}
NAMES = {
    "saved_model": "served",
    "litert": "ticket.tflite",
    "onnx": "ticket.onnx",
    "openvino": "openvino",
    "larq": "bits.tflite",
    "hls4ml": "hls4ml.keras",
}
FORMATS = list(NAMES)


def missing(format):
    """What the format needs and is not here, in words; empty if nothing."""
    if backend.NAME not in ENGINES[format].backends:
        return "another backend"
    if format == "litert" and backend.KERAS_VERSION < (3, 13):
        return "Keras 3.13"
    return ", ".join(
        package
        for package in PACKAGES[format]
        if importlib.util.find_spec(package) is None
    )


def require(format):
    if missing(format):
        pytest.skip(f"{format} needs {missing(format)}")


def of(format):
    """A test's parameter that is left out where the engine is missing."""
    return pytest.param(
        format,
        marks=pytest.mark.skipif(
            bool(missing(format)), reason=f"needs {missing(format)}"
        ),
    )


def norm():
    return keras.layers.BatchNormalization(center=False, scale=False)


def with_statistics(model):
    """Batch norms that have seen data: sums do not lie on zero any more."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            generator = np.random.default_rng(len(layer.name))
            shape = layer.moving_mean.shape
            layer.moving_mean.assign(generator.normal(0, 0.1, shape))
            layer.moving_variance.assign(generator.uniform(0.5, 2, shape))
    return model


@pytest.fixture(scope="module")
def ticket():
    """Binary weights, real activations; frozen, as all that follow."""
    return mpt.freeze(
        keras.Sequential(
            [
                keras.Input((8, 8, 3), name="images"),
                mpt.MPTConv2D(8, 3, activation="relu", seed=1, name="first"),
                keras.layers.MaxPooling2D(),
                keras.layers.Flatten(),
                mpt.MPTDense(16, activation="relu", seed=2, name="middle"),
                mpt.MPTDense(10, use_bias=True, seed=3, name="last"),
            ],
            name="ticket",
        )
    )


@pytest.fixture(scope="module")
def binary():
    """Binary weights and activations."""
    sign = {"input_quantizer": "approx_sign"}
    return mpt.freeze(
        with_statistics(
            keras.Sequential(
                [
                    keras.Input((8, 8, 3), name="images"),
                    mpt.MPTConv2D(32, 3, padding="same", seed=1, name="first"),
                    norm(),
                    mpt.MPTConv2D(
                        32, 3, padding="same", use_bias=True, seed=2, **sign
                    ),
                    keras.layers.MaxPooling2D(),
                    norm(),
                    keras.layers.Flatten(),
                    mpt.MPTDense(32, seed=3, name="middle", **sign),
                    norm(),
                    keras.layers.ReLU(),
                    mpt.MPTDense(10, seed=4, name="last"),
                ],
                name="binary",
            )
        )
    )


@pytest.fixture(scope="module")
def branches():
    """Two inputs and two outputs by name; one layer is shared."""
    first = keras.Input((6,), name="zeta")
    second = keras.Input((6,), name="alpha")
    shared = mpt.MPTDense(5, activation="relu", seed=1, name="shared")
    joined = keras.layers.Subtract()([shared(first), shared(second)])
    return mpt.freeze(
        keras.Model(
            {"zeta": first, "alpha": second},
            {
                "wide": mpt.MPTDense(7, seed=2, name="wide")(joined),
                "narrow": mpt.MPTDense(3, seed=3, name="narrow")(shared(first)),
            },
            name="branches",
        )
    )


def test_differences_are_those_of_numpy():
    generator = np.random.default_rng(0)
    reference = [
        generator.normal(size=(5, 4)).astype("float32"),
        10 * generator.normal(size=(5, 2, 3)).astype("float32"),
    ]
    outputs = [reference[0] + np.float32(0.01), reference[1] * 1.001]
    found = differences.differences(outputs, reference)
    gaps = [
        np.abs(a.astype("float64") - b).max()
        for a, b in zip(outputs, reference, strict=True)
    ]
    tops = [np.abs(array).max() for array in reference]
    assert found.absolute == pytest.approx(max(gaps))
    assert found.relative == pytest.approx(max(gaps[0] / tops[0], 0.001), 1e-4)
    assert found.ulp == pytest.approx(
        max(
            gap / np.spacing(np.float32(top))
            for gap, top in zip(gaps, tops, strict=True)
        )
    )
    assert found.same_class == 1.0
    assert found.inputs == 5


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_differs_without_end(bad):
    reference = np.ones((2, 3))
    outputs = reference.copy()
    outputs[1, 2] = bad
    assert differences.differences([outputs], [reference]).relative == np.inf
    assert differences.differences([reference], [outputs]).relative == np.inf
    assert differences.differences([outputs], [outputs]).relative == 0.0


def test_outputs_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="other outputs than the model"):
        differences.differences([np.ones((2, 3))], [np.ones((2, 4))])


@given(
    arrays_of.arrays(
        "float32",
        arrays_of.array_shapes(min_dims=2, max_dims=4, min_side=2, max_side=4),
        elements=st.sampled_from([-0.25, 0.0, 0.25]),
    ),
    st.randoms(use_true_random=False),
)
@settings(max_examples=backend.examples(50), deadline=None)
def test_a_kernel_is_found_in_any_order(kernel, random):
    order = list(range(kernel.ndim))
    random.shuffle(order)
    decoy = np.full(kernel.size, 0.1, "float32")
    match = kernels.find(kernel, {"a": decoy, "b": kernel.transpose(order)})
    assert match.tensor == "b"
    assert match.error == 0.0


def test_a_kernel_is_found_behind_a_batch_norm_and_in_eight_bits():
    generator = np.random.default_rng(0)
    kernel = generator.choice([-0.2, 0.0, 0.2], (3, 3, 4, 5)).astype("float32")
    scaled = kernel * generator.uniform(0.5, 2, 5).astype("float32")
    match = kernels.find(kernel, {0: scaled.transpose(3, 0, 1, 2)})
    assert match.is_scaled
    assert match.is_exact
    real = generator.normal(size=(3, 3, 4, 5)).astype("float32")
    step = np.abs(real).max() / 127
    match = kernels.find(real, {0: step * np.round(real / step)})
    assert not match.is_exact
    assert 1e-4 < match.error < 0.004
    assert kernels.find(kernel, {0: real}) is None


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("Dense", (1, 5)),
        ("Conv2D", (1, 1, 1, 5)),
        ("Conv2DTranspose", (1, 1, 5, 1)),
        ("DepthwiseConv2D", (1, 1, 5, 1)),
    ],
)
def test_ternary_kernels_may_have_a_gain_per_channel(kind, shape):
    generator = np.random.default_rng(0)
    size = [6 if place == 0 else n for place, n in enumerate(shape)]
    gains = generator.uniform(1, 2, shape).astype("float32")
    values = generator.choice([-1, 0, 1], size) * gains
    assert kernels.Kernel("a", "a", "a", kind, values).is_ternary
    values[0] *= 1.5
    assert not kernels.Kernel("a", "a", "a", kind, values).is_ternary


def test_a_factor_and_a_larger_file_are_named_so():
    kernel = np.array([[1.0, 0.0], [-1.0, 1.0]], "float32")
    match = kernels.find(kernel, {0: kernel * np.float32([2, 3])})
    assert str(match) == "exact, times a factor per channel"
    found = differences.differences([kernel], [kernel])
    for written, says in ((400, "times larger"), (25, "times smaller")):
        report = ExportReport(
            *(pathlib.Path("a.onnx"), "onnx", written, 100, found, 1e-4, None),
            *(0, ()),
        )
        assert f"4.00 {says} than 100 bytes" in str(report)


def test_a_depthwise_kernel_is_found_with_its_channels_in_one():
    generator = np.random.default_rng(0)
    kernel = generator.choice([-0.2, 0.0, 0.2], (3, 3, 4, 2)).astype("float32")
    stored = kernel.reshape(1, 3, 3, 8)
    assert kernels.find(kernel, {0: stored}).error == 0.0
    factors = generator.uniform(0.5, 2, 8).astype("float32")
    assert kernels.find(kernel, {0: stored * factors}).is_exact


def write_half(path):
    with replaced(path) as beside:
        beside.write_text("half")
        raise RuntimeError


def test_a_file_is_replaced_or_left(tmp_path):
    path = tmp_path / "file.bin"
    path.write_text("old")
    with pytest.raises(RuntimeError):
        write_half(path)
    assert path.read_text() == "old"
    with replaced(path) as beside:
        beside.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["n" * 255, "before", "new"])
def test_names_that_could_collide(name, tmp_path):
    path = tmp_path / name
    for text in ("old", "new"):
        with replaced(path) as beside:
            beside.mkdir()
            (beside / "text").write_text(text)
    assert (path / "text").read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "file.bin", tmp_path / "link.tflite"
    target.write_text("old")
    link.symlink_to(target)
    with replaced(link) as beside:
        assert beside.name == link.name
        beside.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_where_nothing_may_be_written_the_path_is_named(tmp_path, monkeypatch):
    def refuse(prefix, dir):
        raise PermissionError(errno.EACCES, "Permission denied", f"{dir}/.a")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with (
        pytest.raises(PermissionError, match=r"Could not write '.*file\.bin'"),
        replaced(tmp_path / "file.bin"),
    ):
        pass


def test_a_folder_is_replaced_or_left(tmp_path):
    path = tmp_path / "folder"
    for text in ("old", "new"):
        with replaced(path) as beside:
            beside.mkdir()
            (beside / f"{text}.txt").write_text(text)
        assert [file.name for file in path.iterdir()] == [f"{text}.txt"]
    with pytest.raises(RuntimeError):
        write_half(path)
    assert (path / "new.txt").read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_put_there_leaves_the_old(
    tmp_path, monkeypatch
):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old.txt").write_text("old")
    rename = pathlib.Path.rename

    def fails_for_the_new(self, target):
        if self.name == "folder" and self != path:
            raise OSError("no")
        return rename(self, target)

    monkeypatch.setattr(pathlib.Path, "rename", fails_for_the_new)
    with pytest.raises(OSError, match="no"), replaced(path) as beside:
        beside.mkdir()
    assert (path / "old.txt").read_text() == "old"


def sign_layers():
    yield mpt.quantizers.ApproxSign()
    yield mpt.quantizers.SwishSign()
    yield signs.PlainSign()
    x = keras.Input((None, None))
    yield keras.Model(x, keras.ops.where(x < 0, -1.0, 1.0))


@pytest.mark.parametrize("number", range(4))
def test_signs_are_known_by_what_they_compute(number):
    sign = list(sign_layers())[number]
    sign(keras.Input((5, 4)))
    assert signs.is_sign(sign)


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.ReLU(),
        keras.layers.Activation("tanh"),
        keras.layers.Activation("hard_tanh"),
        keras.layers.Flatten(),
        keras.layers.Dense(4),
        keras.Sequential([keras.Input((5, 4)), keras.layers.Reshape((5, 4))]),
    ],
    ids=lambda layer: layer.name,
)
def test_others_are_not_signs(layer):
    layer(keras.Input((5, 4)))
    assert not signs.is_sign(layer)


def test_layers_around_signs(ticket, binary):
    assert signs.layers_around_signs(ticket) == set()
    found = signs.layers_around_signs(binary)
    assert {"first", "middle"} <= found
    assert "last" not in found


def test_rewritten_signs_compute_the_same(binary):
    model = binary
    before = [len(layer._inbound_nodes) for layer in model.layers]
    plain = signs.rewritten(model, signs.PlainSign)
    arrays = random_arrays([ModelInput("images", (8, 8, 3), "float32")], 4)
    np.testing.assert_array_equal(
        predict(plain, arrays)[0], predict(model, arrays)[0]
    )
    after = [len(layer._inbound_nodes) for layer in model.layers]
    assert after == before  # the given model is left as it is


def test_signs_of_keras_own_operations_are_rewritten():
    """As models of their own, which are called with a mask."""
    real = keras.Input((None,))
    sign = keras.Model(real, keras.ops.sign(keras.ops.sign(real) + 0.5))
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(8), sign, keras.layers.Dense(3)]
    )
    plain = signs.rewritten(model, signs.PlainSign)
    assert any(isinstance(layer, signs.PlainSign) for layer in plain.layers)
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    np.testing.assert_allclose(
        predict(plain, [x])[0], predict(model, [x])[0], rtol=1e-6
    )
    assert larq.packed(model).filters == {}  # real weights


def test_rewritten_signs_keep_their_type(binary):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float16")
    try:
        plain = signs.rewritten(binary, signs.PlainSign)
    finally:
        keras.config.set_dtype_policy(before)
    found = [
        layer.compute_dtype
        for layer in plain.layers
        if isinstance(layer, signs.PlainSign)
    ]
    assert found == ["float32", "float32"]


def test_inputs_near_zero_are_undecided(binary):
    model = copied(binary)  # to change
    arrays = random_arrays([ModelInput("images", (8, 8, 3), "float32")], 3)
    first = model.layers[1]
    assert isinstance(first, keras.layers.BatchNormalization)
    decided = signs.undecided(model, arrays)
    arrays[0][1] = 0.0  # then the first batch norm gives its mean, negated
    first.moving_mean.assign(np.zeros(first.moving_mean.shape))
    assert signs.undecided(model, arrays)[1]
    assert not decided.all()


def test_ternary_filters_are_the_mean_of_two_binary_ones(binary):
    model = binary
    bits = larq.packed(model)
    assert set(bits.filters) == {model.layers[3].name, "middle"}
    assert set(bits.filters.values()) == {2}
    assert bits.operations == 4
    for name in bits.filters:
        inner = bits.model.get_layer(name).layers
        filters = [
            backend.as_numpy(layer.kernel)
            for layer in inner
            if isinstance(layer, keras.layers.Conv2D)
        ]
        for kernel in filters:
            assert np.unique(np.abs(kernel)).size == 1
        expected = backend.as_numpy(model.get_layer(name).kernel)
        np.testing.assert_array_equal(
            np.reshape(filters[0] + filters[1], expected.shape), expected
        )
    arrays = random_arrays([ModelInput("images", (8, 8, 3), "float32")], 4)
    np.testing.assert_allclose(
        predict(bits.model, arrays)[0], predict(model, arrays)[0], atol=1e-5
    )


@pytest.fixture(scope="module")
def exported(ticket, tmp_path_factory):
    """Format -> report of the ticket's export, alone in its folder."""

    @functools.cache
    def of_format(format):
        path = tmp_path_factory.mktemp(format) / NAMES[format]
        return export(ticket, path, format=format)

    return of_format


@pytest.mark.parametrize("format", [of(format) for format in FORMATS])
@pytest.mark.parametrize("name", ["ticket", "binary", "branches"])
def test_an_engine_computes_what_keras_does(
    format, name, exported, request, tmp_path
):
    model = request.getfixturevalue(name)
    if format == "larq" and name != "binary":
        pytest.skip("nothing to pack")
    if name == "ticket":
        report = exported(format)
    else:
        report = export(model, tmp_path / NAMES[format], format=format)
    path = report.path
    assert report.differences.relative <= 1e-5
    assert report.differences.same_class == 1.0
    assert report.differences.inputs + report.undecided == 8
    assert report.bytes == size(path)
    assert list(path.parent.iterdir()) == [path]
    assert report.float32_bytes == 4 * model.count_params()
    expected = {kernel.name for kernel in kernels.kernels_of(model)}
    assert {row.name for row in report.layers} == expected
    for row in report.layers:
        assert "exact" in row.stored or format == "larq", row
        assert row.computes
    assert all(row.name in str(report) for row in report.layers)


@pytest.mark.parametrize(
    "format", [of(format) for format in ["litert", "onnx", "openvino"]]
)
def test_a_reloaded_engine_agrees_on_a_new_batch(format, ticket, exported):
    """Not the export's own comparison, but one made here."""
    path = exported(format).path
    model = ticket
    x = np.random.default_rng(7).normal(size=(3, 8, 8, 3)).astype("float32")
    if format == "litert":
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(str(path))
        interpreter.allocate_tensors()
        outputs = []
        for image in x:
            (source,) = interpreter.get_input_details()
            interpreter.set_tensor(source["index"], image[None])
            interpreter.invoke()
            (output,) = interpreter.get_output_details()
            outputs.append(interpreter.get_tensor(output["index"])[0])
    elif format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(
            str(path), providers=["CPUExecutionProvider"]
        )
        (outputs,) = session.run(None, {"images": x})
    else:
        import openvino

        compiled = openvino.Core().compile_model(
            str(path / "model.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
        )
        outputs = compiled([x])[0]
    np.testing.assert_allclose(
        outputs, model.predict(x, verbose=0), rtol=1e-4, atol=1e-5
    )


def test_eight_bits_hold_a_ticket_exactly(ticket, tmp_path):
    require("litert")
    from ai_edge_litert.interpreter import Interpreter

    path = tmp_path / "int8.tflite"
    report = export(ticket, path, format="litert", weights="int8")
    assert all(
        row.stored == "int8 per channel, exact"
        and row.computes.endswith("rounded in every call")
        for row in report.layers
    )
    assert report.of_weights <= 1e-5
    assert report.of_weights < report.differences.relative < 0.05
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    kernel = backend.as_numpy(ticket.get_layer("first").kernel)
    (stored,) = (
        detail
        for detail in interpreter.get_tensor_details()
        if tuple(detail["shape"]) == (8, 3, 3, 3)
    )
    codes = interpreter.get_tensor(stored["index"])
    assert codes.dtype == np.int8
    assert set(np.unique(codes)) == {-127, 0, 127}
    scales = stored["quantization_parameters"]["scales"]
    np.testing.assert_allclose(
        (codes * scales[:, None, None, None]).transpose(1, 2, 3, 0),
        kernel,
        rtol=1e-6,
    )


def test_eight_bits_and_float_activations_are_exact(ticket, tmp_path):
    require("litert")
    options = {"weights": "int8", "activations": "float32"}
    report = export(ticket, tmp_path / "a.tflite", format="litert", **options)
    assert report.of_weights is None
    assert report.tolerance == 1e-4
    assert report.differences.relative <= 1e-5
    assert all("int8 per channel" in row.stored for row in report.layers)


def test_eight_bits_are_four_times_smaller(tmp_path):
    require("litert")
    model = keras.Sequential(
        [keras.Input((256,)), mpt.MPTDense(256, seed=1), mpt.MPTDense(64)]
    )
    real = export(model, tmp_path / "a.tflite", format="litert")
    small = export(
        model, tmp_path / "b.tflite", format="litert", weights="int8"
    )
    assert real.bytes > 3.5 * small.bytes


def test_layers_around_signs_stay_in_float(binary, tmp_path):
    require("litert")
    path = tmp_path / "a.tflite"
    report = export(binary, path, format="litert", weights="int8")
    rounded = {
        row.name: row.computes.endswith("rounded in every call")
        for row in report.layers
    }
    assert rounded.pop("last")
    assert not any(rounded.values())
    assert all("int8 per channel, exact" in row.stored for row in report.layers)
    assert report.differences.same_class == 1.0
    assert "binary activation" in report.notes[0]


def test_real_kernels_in_front_of_signs_keep_their_bits(tmp_path):
    require("litert")
    model = with_statistics(
        keras.Sequential(
            [
                keras.Input((6, 6, 1)),
                keras.layers.Conv2D(8, 3, name="real"),
                norm(),
                mpt.MPTConv2D(8, 3, seed=1, input_quantizer="ste_sign"),
                keras.layers.Flatten(),
                keras.layers.Dense(4, name="last"),
            ]
        )
    )
    path = tmp_path / "a.tflite"
    report = export(model, path, format="litert", weights="int8")
    rows = {row.name: row for row in report.layers}
    assert rows["real"].stored.startswith("float32, exact")
    assert "off by" in rows["last"].stored
    assert report.differences.same_class == 1.0


def test_batches_of_litert(ticket, tmp_path):
    require("litert")
    path = tmp_path / "a.tflite"
    report = export(ticket, path, format="litert", batch_size=3)
    assert report.differences.relative <= 1e-5


@pytest.mark.parametrize(
    "format", [of(format) for format in ["saved_model", "onnx", "openvino"]]
)
def test_open_sizes(format, tmp_path):
    model = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            mpt.MPTConv2D(4, 3, seed=1),
            keras.layers.GlobalAveragePooling2D(),
            mpt.MPTDense(3, seed=2),
        ]
    )
    path = tmp_path / NAMES[format]
    inputs = np.ones((2, 9, 7, 3), "float32")
    report = export(model, path, format=format, inputs=inputs)
    assert report.differences.inputs == 10
    assert report.differences.relative <= 1e-5
    require("litert")
    with pytest.raises(ValueError, match="every size but the batch's"):
        export(model, tmp_path / "a.tflite", format="litert")


def test_batches_may_be_counted_by_numpy():
    assert type(ENGINES["litert"](batch_size=np.int64(4)).batch_size) is int


def test_litert_computes_in_float32():
    half = keras.layers.Dense(2, dtype="mixed_float16", name="half")
    model = keras.Sequential([keras.Input((4,)), half])
    with pytest.raises(ValueError, match=r"layer 'half'.*set_dtype_policy"):
        ENGINES["litert"]().check(model)


@pytest.mark.parametrize("format", [of("onnx"), of("openvino"), of("litert")])
def test_adapted_normalization(format, tmp_path):
    normalization = keras.layers.Normalization()
    data = np.random.default_rng(0).normal(3, 2, (50, 4)).astype("float32")
    normalization.adapt(data)
    model = keras.Sequential(
        [keras.Input((4,)), normalization, keras.layers.Dense(2)]
    )
    report = export(model, tmp_path / NAMES[format], format=format, inputs=data)
    assert report.differences.relative < 1e-5


@pytest.mark.parametrize("format", [of("openvino")])
def test_only_a_models_outputs_are_outputs(format, tmp_path):
    source = keras.Input((4, 4))
    image = keras.layers.Reshape((4, 4, 1))(source)
    inside = (
        keras.layers.Dense(3, activation="silu")(source),
        keras.layers.UpSampling2D(interpolation="bilinear")(image),
        keras.layers.MultiHeadAttention(2, 3)(source, source),
    )
    outputs = [
        keras.layers.Dense(n, name=f"d{n}_{kind}")(inner)
        for kind, inner in enumerate(inside)
        for n in (2, 3)
    ]
    model = keras.Model(source, outputs)
    report = export(model, tmp_path / NAMES[format], format=format)
    assert report.differences.relative < 1e-4
    assert sorted(path.name for path in report.path.iterdir()) == [
        "model.bin",
        "model.xml",
    ]


@pytest.mark.parametrize("format", [of("litert"), of("saved_model")])
@pytest.mark.parametrize("kind", [dict, list])
def test_numbered_outputs(format, kind, tmp_path):
    source = keras.Input((4,))
    names = [f"head_{number}" for number in (9, 10, *range(9))]
    heads = {name: keras.layers.Dense(2)(source) for name in names}
    outputs = heads if kind is dict else list(heads.values())
    model = keras.Model(source, outputs)
    report = export(model, tmp_path / NAMES[format], format=format)
    assert report.differences.relative < 1e-5


@backend.needs_tensorflow
def test_a_saved_model_holds_each_weight_once(tmp_path):
    model = keras.Sequential([keras.Input((256,)), mpt.MPTDense(256, seed=1)])
    report = export(model, tmp_path / "served", format="saved_model")
    assert report.bytes < 1.5 * report.float32_bytes
    assert report.differences.absolute == 0.0


@backend.needs_tensorflow
def test_a_saved_model_with_tables(tmp_path):
    words = keras.Input((), dtype="int32")
    table = keras.layers.IntegerLookup(
        vocabulary=[1, 2, 3], output_mode="one_hot"
    )
    model = keras.Model(words, mpt.MPTDense(3, seed=1)(table(words)))
    report = export(model, tmp_path / "served", format="saved_model")
    assert report.differences.absolute == 0.0


@backend.needs_tensorflow
def test_given_inputs_are_compared_as_well(ticket, tmp_path):
    inputs = np.ones((3, 8, 8, 3))
    path = tmp_path / "served"
    report = export(ticket, path, format="saved_model", inputs=inputs)
    assert report.differences.inputs == 11


@backend.needs_tensorflow
def test_a_masked_model_is_frozen_first(tmp_path):
    model = keras.Sequential([keras.Input((4,)), mpt.MPTDense(3, seed=1)])
    report = export(model, tmp_path / "served", format="saved_model")
    assert report.differences.absolute == 0.0
    assert report.float32_bytes == 4 * 12  # no scores
    assert mpt.masked_layers(model)


def break_engine(monkeypatch, change):
    """Lets an engine give outputs that are not its own."""
    engine = ENGINES["saved_model"]
    load = engine.load

    def broken(self, *arguments, **options):
        run = load(self, *arguments, **options)
        return lambda arrays: [change(output) for output in run(arrays)]

    monkeypatch.setattr(engine, "load", broken)


@backend.needs_tensorflow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda output: output * 1.01, "differ from Keras' by up to"),
        (lambda output: output[:, ::-1], "differ from Keras' by up to"),
        (lambda output: np.where(output > 0, np.nan, output), "inf of the"),
        (lambda output: output[:, :-1], "other outputs than the model"),
    ],
    ids=["scaled", "turned", "nan", "short"],
)
def test_a_broken_export_is_refused(
    ticket, tmp_path, monkeypatch, change, message
):
    path = tmp_path / "served"
    export(ticket, path, format="saved_model")
    before = {
        file: file.read_bytes() for file in path.rglob("*") if file.is_file()
    }
    break_engine(monkeypatch, change)
    with pytest.raises(ValueError, match=message):
        export(ticket, path, format="saved_model")
    after = {
        file: file.read_bytes() for file in path.rglob("*") if file.is_file()
    }
    assert after == before
    assert list(tmp_path.iterdir()) == [path]


@backend.needs_tensorflow
def test_a_tolerance_may_be_larger(ticket, tmp_path, monkeypatch):
    break_engine(monkeypatch, lambda output: output * 1.01)
    path = tmp_path / "served"
    report = export(ticket, path, format="saved_model", tolerance=0.02)
    assert report.differences.relative == pytest.approx(0.01, 1e-3)


@backend.needs_tensorflow
def test_an_engine_that_fails_leaves_nothing(ticket, tmp_path, monkeypatch):
    def fail(self, model, path):
        path.mkdir()
        raise RuntimeError("no such operation")

    monkeypatch.setattr(ENGINES["saved_model"], "write", fail)
    with pytest.raises(ValueError, match=r"cannot hold 'ticket'.*no such"):
        export(ticket, tmp_path / "served", format="saved_model")
    assert not list(tmp_path.iterdir())


@backend.needs_tensorflow
def test_other_outputs_name_the_format_and_layers(
    ticket, tmp_path, monkeypatch
):
    break_engine(monkeypatch, lambda output: output[:, :-1])
    message = r"'saved_model' cannot hold 'ticket', of layers Conv2D.*was writt"
    with pytest.raises(ValueError, match=message):
        export(ticket, tmp_path / "served", format="saved_model")


@backend.needs_tensorflow
def test_inputs_that_rounding_decides_are_left_out(
    binary, tmp_path, monkeypatch
):
    def one_is_off(output):
        output = output.copy()
        output[2] += 1.0
        return output

    break_engine(monkeypatch, one_is_off)
    path = tmp_path / "served"
    third = np.arange(8) == 2
    monkeypatch.setattr(comparison, "undecided", lambda *arguments: third)
    report = export(binary, path, format="saved_model")
    assert report.undecided == 1
    assert report.differences.inputs == 7
    assert report.differences.absolute == 0.0
    assert "1 more inputs were left out" in str(report)
    monkeypatch.setattr(comparison, "undecided", lambda *arguments: ~third)
    with pytest.raises(ValueError, match="differ from Keras'"):
        export(binary, path, format="saved_model")


@backend.needs_tensorflow
def test_too_many_undecided_inputs_are_explained(binary, tmp_path, monkeypatch):
    break_engine(monkeypatch, lambda output: output + 1.0)
    every = np.ones(8, bool)
    monkeypatch.setattr(comparison, "undecided", lambda *arguments: every)
    with pytest.raises(ValueError, match="so near zero in front of a sign"):
        export(binary, tmp_path / "served", format="saved_model")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "pickle"}, "Expected one of .*'hls4ml'"),
        ({"format": "onnx", "weights": "int8"}, "has no option 'weights'"),
        ({"format": "litert", "weights": "int2"}, "2-bit convolutions wrongly"),
        ({"format": "litert", "weights": "float64"}, "argument `weights`"),
        ({"format": "litert", "activations": "int8"}, "with weights='int8'"),
        ({"format": "litert", "batch_size": 0}, "argument `batch_size`"),
        ({"format": "litert", "batch_size": True}, "argument `batch_size`"),
        ({"format": "larq", "target": "x86"}, "argument `target`"),
    ],
)
def test_options_that_do_not_fit(ticket, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        export(ticket, tmp_path / "a.tflite", **options)


@backend.needs_tensorflow
def test_arguments_that_do_not_fit(ticket, tmp_path):
    path = tmp_path / "served"

    def refused(message, model=ticket, path=path, **options):
        options = {"format": "saved_model", **options}
        with pytest.raises(ValueError, match=message):
            export(model, path, **options)

    refused("argument `tolerance`", tolerance=-1.0)
    refused("argument `tolerance`", tolerance=float("nan"))
    refused("argument `tolerance`", tolerance="x")
    refused("argument `seed`", seed=-1)
    refused("argument `seed`", seed=0.5)
    refused("argument `format`", format=["onnx"])
    refused("argument `inputs`", inputs=np.ones((2, 8, 8, 1)))
    refused("argument `inputs`", inputs=np.ones((0, 8, 8, 3)))
    refused("argument `inputs`", inputs=[np.ones((2, 8, 8, 3))] * 2)
    refused("Expected a Keras model", model="ticket")
    refused("is not built", model=keras.Sequential([keras.layers.Dense(2)]))
    refused("a folder that exists", path=tmp_path / "a" / "b")
    refused("ends in '.onnx'", format="onnx")
    refused("would take for patterns", path=tmp_path / "a[1]")
    assert not list(tmp_path.iterdir())


@backend.needs_tensorflow
def test_what_is_not_an_export_is_not_overwritten(ticket, tmp_path):
    precious = tmp_path / "served"
    precious.mkdir()
    (precious / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match=r"a folder without saved_model\.pb"):
        export(ticket, precious, format="saved_model")
    assert (precious / "thesis.txt").read_text() == "precious"
    file = tmp_path / "file"
    file.write_text("precious")
    with pytest.raises(ValueError, match="which is a file"):
        export(ticket, file, format="saved_model")
    folder = tmp_path / "a.onnx"
    folder.mkdir()
    (tmp_path / "beside").mkdir()
    for name in ("model.xml", "thesis.txt"):
        (tmp_path / "beside" / name).write_text("precious")
    with pytest.raises(ValueError, match=r"also holds 'thesis\.txt'"):
        export(ticket, tmp_path / "beside", format="openvino")
    with pytest.raises(ValueError, match="which is a folder"):
        export(ticket, folder, format="onnx")


def test_exports_are_not_foreign_to_themselves(ticket, exported, tmp_path):
    for format in ("saved_model", "openvino"):
        require(format)
        shutil.copytree(exported(format).path, tmp_path / format)
        export(ticket, tmp_path / format, format=format)


def test_hls4ml_leaves_saved_networks(ticket, tmp_path):
    require("hls4ml")
    path = tmp_path / "a.keras"
    ticket.save(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="export did not write"):
        export(ticket, path, format="hls4ml")
    assert path.read_bytes() == before
    for _ in range(2):
        export(ticket, tmp_path / "b.keras", format="hls4ml")


@pytest.mark.parametrize("format", FORMATS)
def test_a_missing_engine_names_the_command(
    format, ticket, tmp_path, monkeypatch
):
    if missing(format) in ("another backend", "Keras 3.13"):
        pytest.skip(f"{format} needs {missing(format)}")
    monkeypatch.setitem(sys.modules, PACKAGES[format][0], None)
    with pytest.raises(ImportError, match="pip install"):
        export(ticket, tmp_path / NAMES[format], format=format)


def test_a_missing_version_of_keras_is_named(ticket, tmp_path, monkeypatch):
    if backend.NAME not in ENGINES["litert"].backends:
        pytest.skip("not written on this backend")
    monkeypatch.setattr(keras, "__version__", "3.12.4")
    with pytest.raises(ImportError, match=r"LiteRT files from version 3\.13"):
        export(ticket, tmp_path / "a.tflite", format="litert")


def test_another_backend_is_named(ticket, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "numpy")
    with pytest.raises(ValueError, match="KERAS_BACKEND=tensorflow"):
        export(ticket, tmp_path / "a.tflite", format="litert")


@pytest.mark.parametrize("size", [3, 5])
def test_zeros_in_front_of_strides_become_part_of_the_kernel(size):
    """Larq's converter would put them on one side."""
    sign = {"input_quantizer": "approx_sign"}
    model = mpt.freeze(
        with_statistics(
            keras.Sequential(
                [
                    keras.Input((8, 6, 3)),
                    keras.layers.ZeroPadding2D(size // 2),
                    mpt.MPTConv2D(4, size, strides=2, use_bias=True, seed=1),
                    norm(),
                    keras.layers.ZeroPadding2D(1),
                    mpt.MPTConv2D(4, 3, seed=2, **sign),
                ]
            )
        )
    )
    bits = larq.packed(model).model
    x = np.random.default_rng(0).normal(size=(3, 8, 6, 3)).astype("float32")
    np.testing.assert_allclose(
        predict(bits, [x])[0], predict(model, [x])[0], atol=1e-5
    )
    padded = [
        layer
        for layer in bits.layers
        if isinstance(layer, keras.layers.ZeroPadding2D)
    ]
    assert len(padded) == 1


@pytest.mark.slow
@backend.needs_tensorflow
def test_a_strided_residual_network_on_bits(tmp_path):
    model = with_statistics(
        mpt.models.resnet20(binary_activations=True, width=0.5, seed=1)
    )
    bits = larq.packed(mpt.freeze(model))
    expected = {
        layer.name
        for layer in mpt.masked_layers(model)
        if layer.name not in ("stem_conv", "logits")
    }
    assert set(bits.filters) == expected
    require("larq")
    report = export(model, tmp_path / "a.tflite", format="larq")
    assert report.differences.relative <= 1e-5


def test_nothing_to_pack(ticket):
    with pytest.raises(ValueError, match="would pack nothing"):
        larq.Larq().check(ticket)


def test_hls4ml_reads_no_nested_models():
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    model = keras.Sequential([keras.Input((4,)), inner, keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="no models inside models"):
        ENGINES["hls4ml"]().check(model)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (lambda **k: keras.layers.Conv2D(4, 3, dilation_rate=2, **k), "dilat"),
        (lambda **k: keras.layers.Conv2D(4, 3, groups=2, **k), "in groups"),
        (
            lambda **k: keras.layers.MaxPooling2D(
                data_format="channels_first", **k
            ),
            "channels_first",
        ),
        (
            lambda **k: keras.layers.UpSampling2D(
                interpolation="bilinear", **k
            ),
            "bilinear",
        ),
        (
            lambda **k: keras.layers.TimeDistributed(
                keras.layers.Bidirectional(keras.layers.LSTM(2), **k)
            ),
            "both directions",
        ),
    ],
)
def test_hls4ml_is_given_nothing_that_it_misreads(layer, message):
    model = keras.Sequential([keras.Input((8, 8, 4)), layer(name="odd")])
    with pytest.raises(ValueError, match=f"{message}.*layer 'odd'"):
        ENGINES["hls4ml"]().check(model)


@pytest.mark.slow
def test_hls4ml_simulated(tmp_path):
    """Its C++, compiled here, signs included."""
    require("hls4ml")
    model = with_statistics(
        keras.Sequential(
            [
                keras.Input((6, 6, 1)),
                mpt.MPTConv2D(4, 3, seed=1),
                norm(),
                mpt.MPTConv2D(4, 3, seed=2, input_quantizer="approx_sign"),
                keras.layers.Flatten(),
                mpt.MPTDense(3, seed=3),
            ]
        )
    )
    path = tmp_path / "a.keras"
    report = export(model, path, format="hls4ml", simulate=True)
    assert report.differences.relative < 1e-3
    assert report.differences.same_class == 1.0


@backend.needs_tensorflow
def test_what_is_folded_wrongly_is_refused(ticket, tmp_path, monkeypatch):
    def fold(model):
        other = copied(model)
        other.layers[-1].bias.assign(np.ones(10))
        return other

    monkeypatch.setattr(exporting, "fold_batch_norms", fold)
    with pytest.raises(ValueError, match="differ from Keras'"):
        export(
            ticket,
            tmp_path / "served",
            format="saved_model",
            fold_batch_norm=True,
        )


@backend.needs_tensorflow
def test_batch_norms_are_folded_first(ticket, tmp_path, monkeypatch):
    folded = []
    monkeypatch.setattr(
        exporting,
        "fold_batch_norms",
        lambda model: folded.append(model) or model,
    )
    path = tmp_path / "served"
    export(ticket, path, format="saved_model", fold_batch_norm=True)
    (model,) = folded
    assert not mpt.masked_layers(model)


def test_random_inputs_are_those_of_the_model():
    sources = [
        ModelInput("a", (3,), "float32"),
        ModelInput("b", (None, 2), "uint8"),
        ModelInput("c", (), "int32"),
    ]
    first, again = (random_arrays(sources, 4, seed=1) for _ in range(2))
    assert [array.shape for array in first] == [(4, 3), (4, 32, 2), (4,)]
    assert [array.dtype.name for array in first] == [
        "float32",
        "uint8",
        "int32",
    ]
    assert set(np.unique(first[2])) <= {0, 1}
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="Cannot draw random inputs of type"):
        random_arrays([ModelInput("d", (2,), "string")], 1)


def test_given_inputs_may_be_a_dictionary():
    sources = [ModelInput("a", (3,), "float32"), ModelInput("b", (2,), "int32")]
    b, a = np.zeros((4, 2), int), np.ones((4, 3))
    found = given_arrays({"b": b, "a": a}, sources)
    assert [array.shape for array in found] == [(4, 3), (4, 2)]
    assert [array.dtype.name for array in found] == ["float32", "int32"]
    # By name, wherever the model has them.
    found = given_arrays({"b": b, "a": a}, sources[::-1])
    assert [array.shape for array in found] == [(4, 2), (4, 3)]
    with pytest.raises(ValueError, match=r"keys \['a', 'b'\]"):
        given_arrays({"a": a, "c": b}, sources)


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.full((2, 3), 0.5), "int32"),
        (np.full((2, 3), 1j), "float32"),
        (np.full((2, 3), 256), "uint8"),
        (np.full((2, 3), "1"), "float32"),
    ],
)
def test_given_inputs_are_not_cast_to_others(array, dtype):
    with pytest.raises(ValueError, match=f"numbers that {dtype} holds"):
        given_arrays(array, [ModelInput("a", (3,), dtype)])


def test_given_integers_may_be_of_another_width():
    (found,) = given_arrays(
        np.full((2, 3), 255), [ModelInput("a", (3,), "uint8")]
    )
    assert found.dtype == "uint8"
    np.testing.assert_array_equal(found, 255)


def test_times_are_taken_in_turn():
    calls = []
    found = timing.in_turn(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")},
        rounds=3,
        warm_up=1,
    )
    assert "".join(calls) == "ab" + "ab" * 3
    assert set(found) == {"a", "b"}
    with pytest.raises(ValueError, match="argument `rounds`"):
        timing.in_turn({}, rounds=0)


@backend.needs_tensorflow
def test_benchmark(ticket, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "openvino", None)
    found = mpt.engines.benchmark(ticket, tmp_path, rounds=1)
    labels = [variant.label for variant in found.variants]
    assert labels[:2] == ["keras", "saved_model"]
    assert "pip install" in found.left_out["onnx"]
    assert set(labels) | set(found.left_out) == {
        "keras",
        *benchmarking.VARIANTS,
    }
    assert len(found.table()) == len(labels) + 1
    assert "first answer s" not in found.table()[0]
    times = {variant.label: variant.seconds for variant in found.variants}
    assert times.pop("hls4ml", None) is None
    assert all(seconds > 0 for seconds in times.values())
    with pytest.raises(ValueError, match="argument `labels`"):
        mpt.engines.benchmark(ticket, tmp_path, labels=["onyx"])
    with pytest.raises(ImportError, match="pip install"):
        mpt.engines.benchmark(ticket, tmp_path, labels=["onnx"])


def test_benchmark_of_the_runtime(ticket, tmp_path, monkeypatch):
    once = functools.partial(benchmarking.first_answers, rounds=1)
    monkeypatch.setattr(benchmarking, "first_answers", once)
    found = mpt.engines.benchmark(
        ticket, tmp_path, labels=["runtime", "c"], rounds=1, first_answer=True
    )
    keras_itself, runtime, c_file = found.variants
    file = tmp_path / "network.ticket"
    mpt.save_ticket(ticket, tmp_path / "again.ticket")
    assert runtime.bytes == file.stat().st_size < keras_itself.bytes
    assert file.read_bytes() == (tmp_path / "again.ticket").read_bytes()
    for variant in runtime, c_file:
        assert variant.relative < 1e-5
        assert variant.same_class == 1.0
        assert 0 < variant.first_answer < keras_itself.first_answer
    assert found.table()[0][-1] == "first answer s"


def test_benchmark_without_what_the_runtime_does_not_run(tmp_path):
    layers = [keras.Input((4, 3)), keras.layers.LSTM(2), mpt.MPTDense(2)]
    model = keras.Sequential(layers)
    with pytest.raises(ValueError, match="'lstm' \\(LSTM\\)"):
        mpt.engines.benchmark(model, tmp_path, labels=["runtime"])


def test_benchmark_refuses_a_runtime_that_differs(
    ticket, tmp_path, monkeypatch
):
    def load(path, threads):
        return lambda images: np.ones((len(images), *ticket.output_shape[1:]))

    monkeypatch.setattr(benchmarking, "load", load)
    with pytest.raises(ValueError, match="The runtime differs from Keras by"):
        mpt.engines.benchmark(ticket, tmp_path, labels=["runtime"])


@backend.needs_tensorflow
@pytest.mark.parametrize(
    "label",
    [
        # Importing TensorFlow takes long; the benchmark above does so once.
        pytest.param(label, marks=pytest.mark.slow if label == "keras" else ())
        for label in first_answer.PROGRAMS
    ],
)
def test_first_answers_of_two_inputs(label, tmp_path):
    one, two = keras.Input((3,), name="one"), keras.Input((2,), name="two")
    joined = keras.layers.Concatenate()([one, two])
    model = keras.Model([two, one], keras.layers.Dense(2)(joined))
    if label in ("larq", "runtime"):
        pytest.skip("takes one input")
    path = tmp_path / "frozen.keras"
    if label == "keras":
        model.save(path)
    else:
        name, format, options = benchmarking.VARIANTS[label]
        require(format)
        path = tmp_path / name
        export(model, path, format=format, **options)
    sources = model_inputs(model)
    arrays = random_arrays(sources, 1)
    found = first_answer.first_answers({label: path}, sources, arrays, rounds=1)
    assert found[label] > 0


def test_a_process_without_an_answer(tmp_path):
    sources = [ModelInput("x", (3,), "float32")]
    path = tmp_path / "no.ticket"
    path.write_bytes(bytes(9))
    with pytest.raises(RuntimeError, match=r"without an answer: .*TicketError"):
        first_answer.first_answers(
            {"runtime": path}, sources, random_arrays(sources, 1)
        )
