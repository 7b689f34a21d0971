"""OpenVINO's intermediate representation."""

import contextlib
import dataclasses
import importlib.metadata
import re
import sys
from unittest import mock

import keras

from mpt_keras.engines import requirements
from mpt_keras.engines.engine import Engine, by_name
from mpt_keras.engines.inputs import signature
from mpt_keras.engines.report import layer_reports
from mpt_keras.engines.signs import PlainSign, rewritten, sign_names

_FILE = "model.xml"
# As TensorFlow names what a function returns.
_OUTPUT = re.compile(r"Identity(_\d+)?:0")


@dataclasses.dataclass(frozen=True)
class OpenVINO(Engine):
    """A folder with `model.xml` and `model.bin`, float32 weights."""

    name = "openvino"
    holds = _FILE
    contents = (_FILE, "model.bin")

    def require(self):
        requirements.load("openvino", "openvino", "openvino")

    def write(self, model, path):
        # Of a sign with a gradient of its own it would make outputs.
        plain = rewritten(model, PlainSign)
        if isinstance(plain, keras.Function):
            # Keras names the inputs of a dictionary in another order.
            plain = keras.Model(plain.inputs, plain.outputs, name=plain.name)
        path.mkdir()
        whole = path / "whole.xml"
        with _finding_tensorflow():
            plain.export(
                str(whole),
                format="openvino",
                verbose=False,
                input_signature=signature(plain, batch_size=None),
            )
        openvino = requirements.load("openvino", "openvino", "openvino")
        graph = openvino.Core().read_model(str(whole))
        # It also makes outputs of what only gradients use.
        for result in graph.get_results():
            names = result.input_value(0).get_names()
            if not any(map(_OUTPUT.fullmatch, names)):
                graph.remove_result(result)
        openvino.serialize(graph, str(path / _FILE))
        del graph, result  # which hold the file open
        whole.unlink()
        whole.with_suffix(".bin").unlink()

    def load(self, path, sources, threads=None):
        openvino = requirements.load("openvino", "openvino", "openvino")
        options = {"INFERENCE_PRECISION_HINT": "f32"}
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = str(threads)
        compiled = openvino.Core().compile_model(
            str(path / _FILE), "CPU", options
        )
        names = [source.get_any_name() for source in compiled.inputs]

        def run(arrays):
            outputs = compiled(by_name(arrays, sources, names))
            return [outputs[port].copy() for port in compiled.outputs]

        return run

    def layers(self, model, path):
        openvino = requirements.load("openvino", "openvino", "openvino")
        graph = openvino.Core().read_model(str(path / _FILE))
        constants = {
            node.get_friendly_name(): node
            for node in graph.get_ops()
            if node.get_type_name() == "Constant"
        }
        arrays = {
            name: node.get_data()
            for name, node in constants.items()
            if node.get_element_type().get_type_name() in ("f32", "f16")
        }

        def describe(match):
            (port,) = constants[match.tensor].outputs()
            user = next(iter(port.get_target_inputs())).get_node()
            return (
                f"{arrays[match.tensor].dtype}, {match}",
                f"{user.get_type_name()}, float32 when asked for",
            )

        return layer_reports(model, arrays, describe)

    def notes(self, model, path):
        note = (
            "compared with INFERENCE_PRECISION_HINT=f32: by default OpenVINO "
            "computes in bfloat16 on processors that have it"
        )
        if sign_names(model):
            note += ", which turns signs of binary activations"
        return (note,)


@contextlib.contextmanager
def _finding_tensorflow():
    """A scope in which OpenVINO finds TensorFlow's version on Python 3.13.

    OpenVINO 2026.4 deletes a name by `exec` that another `exec` has bound in
    a function, which from Python 3.13 on (PEP 667) is a NameError.
    """
    if sys.version_info < (3, 13):
        yield
        return

    def environment(framework):
        return {"tensorflow": importlib.metadata.version("tensorflow")}

    module = "openvino.frontend.tensorflow.utils"
    with mock.patch(f"{module}.get_environment_setup", environment):
        yield
