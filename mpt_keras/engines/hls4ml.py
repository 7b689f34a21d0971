"""hls4ml: a plain Keras file that it turns into firmware."""

import contextlib
import dataclasses
import functools
import io
import pathlib
import shutil
import tempfile
import weakref
import zipfile

import keras
import numpy as np

from mpt_keras.engines import requirements
from mpt_keras.engines.engine import Engine
from mpt_keras.engines.inputs import predict
from mpt_keras.engines.report import layer_reports
from mpt_keras.engines.signs import is_sign, rewritten, sign_names

_GRAPHS = (keras.Sequential, keras.Function)
# The comment of the archive, which tells an export from a saved network.
_MARK = b"mpt_keras.export hls4ml"


@keras.saving.register_keras_serializable(package="mpt_keras")
def binary_tanh(x):
    """`+1 if x >= 0 else -1`, under the name by which hls4ml knows it."""
    return keras.ops.where(
        x < 0, keras.ops.cast(-1, x.dtype), keras.ops.cast(1, x.dtype)
    )


@dataclasses.dataclass(frozen=True)
class HLS4ML(Engine):
    """A `.keras` file of the very Keras classes that hls4ml's reader knows.

    Attributes:
        precision: Of everything, where hls4ml does not choose itself: total
            and integer bits.
        simulate: Whether to compile hls4ml's C++ and compare that, which takes
            a compiler and, for large models, minutes.
    """

    precision: str = "fixed<32,16>"
    simulate: bool = False

    name = "hls4ml"
    ending = ".keras"
    backends = ("tensorflow", "jax", "torch")
    fixed = True

    def tolerance(self, model):
        return 0.01 if self.simulate else super().tolerance(model)

    def require(self):
        requirements.load("hls4ml", "hls4ml", "hls4ml")

    def check(self, model):
        if not isinstance(model, _GRAPHS):
            raise ValueError(
                "hls4ml reads Sequential and functional models. Received: "
                f"'{model.name}' of class {type(model).__name__}"
            )
        for layer in model.layers:
            if isinstance(layer, _GRAPHS) and not is_sign(layer):
                raise ValueError(
                    "hls4ml reads no models inside models. Received: "
                    f"'{layer.name}' in '{model.name}'"
                )
        for layer in model._flatten_layers():
            wrong = _misread(layer)
            if wrong:
                raise ValueError(
                    f"hls4ml accepts {wrong}, and computes something else. "
                    f"Received: layer '{layer.name}' of class "
                    f"{type(layer).__name__} in '{model.name}'. Build it "
                    "otherwise, or use another format."
                )

    def write(self, model, path):
        if sign_names(model):
            model = rewritten(
                model, functools.partial(keras.layers.Activation, binary_tanh)
            )
        model.save(path)
        with zipfile.ZipFile(path, "a") as archive:
            archive.comment = _MARK

    def foreign(self, path):
        if path.is_file():
            with (
                contextlib.suppress(zipfile.BadZipFile),
                zipfile.ZipFile(path) as archive,
            ):
                if archive.comment == _MARK:
                    return ""
            return "a file that this format's export did not write"
        return super().foreign(path)

    def load(self, path, sources, threads=None):
        model = keras.models.load_model(path, compile=False)
        if not self.simulate:
            return lambda arrays: predict(model, arrays)
        folder = tempfile.mkdtemp()
        with _quietly():
            simulation = self._parsed(model, folder)
            simulation.compile()

        def run(arrays):
            arrays = [np.ascontiguousarray(a, "float32") for a in arrays]
            with _quietly():
                outputs = simulation.predict(
                    arrays if len(arrays) > 1 else arrays[0]
                )
            outputs = outputs if isinstance(outputs, list) else [outputs]
            shapes = [tensor.shape[1:] for tensor in model.outputs]
            return [
                np.reshape(output, (len(arrays[0]), *shape))
                for output, shape in zip(outputs, shapes, strict=True)
            ]

        # It computes in there.
        weakref.finalize(run, shutil.rmtree, folder, ignore_errors=True)
        return run

    def layers(self, model, path):
        read = keras.models.load_model(path, compile=False)
        with tempfile.TemporaryDirectory() as folder, _quietly():
            nodes = list(self._parsed(read, folder).get_layers())
        weights = {
            (node.class_name, str(weight.type.precision), weight.name): (
                np.asarray(weight.data, "float32")
            )
            for node in nodes
            for weight in node.get_weights()
        }

        def describe(match):
            node, precision, _ = match.tensor
            return f"float32, {match}", f"{node} in {precision}"

        return layer_reports(model, weights, describe)

    def notes(self, model, path):
        if self.simulate:
            return ("compared with hls4ml's C++, compiled here",)
        return (
            "compared as a Keras file that hls4ml could read; simulate=True "
            "also compiles hls4ml's C++ and compares that",
        )

    def _parsed(self, model, folder):
        hls4ml = requirements.load("hls4ml", "hls4ml", "hls4ml")
        try:
            config = hls4ml.utils.config_from_keras_model(
                model,
                granularity="name",
                default_precision=self.precision,
                backend="Vivado",
            )
            return hls4ml.converters.convert_from_keras_model(
                model,
                hls_config=config,
                backend="Vivado",
                io_type="io_stream",
                output_dir=str(pathlib.Path(folder) / "hls"),
            )
        except Exception as error:
            raise ValueError(
                f"hls4ml cannot read '{model.name}'. It says: {error}"
            ) from error


def _misread(layer):
    """What of a layer hls4ml passes over, in words; empty if nothing."""
    if isinstance(layer, keras.layers.Bidirectional):
        return "layers that run in both directions"
    if np.max(getattr(layer, "dilation_rate", 1)) > 1:
        return "dilated kernels"
    if (getattr(layer, "groups", 1) or 1) > 1 and hasattr(layer, "kernel"):
        return "kernels in groups"
    if getattr(layer, "data_format", None) == "channels_first":
        return "data_format='channels_first'"
    is_nearest = getattr(layer, "interpolation", "nearest") == "nearest"
    if isinstance(layer, keras.layers.UpSampling2D) and not is_nearest:
        return f"interpolation={layer.interpolation!r}"
    return ""


@contextlib.contextmanager
def _quietly():
    """It prints what it does, and what it would have used."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        yield
