"""ONNX, run by ONNX Runtime."""

import dataclasses
import warnings

import keras

from mpt_keras.conversion.copying import copied
from mpt_keras.engines import requirements
from mpt_keras.engines.engine import Engine, by_name
from mpt_keras.engines.inputs import signature
from mpt_keras.engines.report import layer_reports


@dataclasses.dataclass(frozen=True)
class ONNX(Engine):
    """A `.onnx` file with float32 weights."""

    name = "onnx"
    ending = ".onnx"

    def require(self):
        requirements.load("onnxruntime", "onnxruntime", "onnx")
        requirements.load("onnx", "onnx", "onnx")
        requirements.load("tf2onnx", "tf2onnx", "onnx")

    def write(self, model, path):
        if _adapted(model):
            model = copied(model)
        for layer in _adapted(model):
            # tf2onnx takes tensors that are no variables for inputs.
            layer.mean = keras.ops.convert_to_numpy(layer.mean)
            layer.variance = keras.ops.convert_to_numpy(layer.variance)
        with warnings.catch_warnings():
            # Keras asks NumPy for a name of old, for tf2onnx.
            warnings.simplefilter("ignore", FutureWarning)
            model.export(
                str(path),
                format="onnx",
                verbose=False,
                input_signature=signature(model, batch_size=None),
            )

    def load(self, path, sources, threads=None):
        runtime = requirements.load("onnxruntime", "onnxruntime", "onnx")
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
        session = runtime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        names = [source.name for source in session.get_inputs()]
        return lambda arrays: session.run(None, by_name(arrays, sources, names))

    def layers(self, model, path):
        onnx = requirements.load("onnx", "onnx", "onnx")
        graph = onnx.load(str(path)).graph
        arrays = {
            tensor.name: onnx.numpy_helper.to_array(tensor)
            for tensor in graph.initializer
            if tensor.data_type
            in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
        }
        users = {}
        for node in graph.node:
            for name in node.input:
                users.setdefault(name, node.op_type)

        def describe(match):
            dtype = arrays[match.tensor].dtype
            computes = f"{users.get(match.tensor)} in {dtype}"
            return f"{dtype}, {match}", computes

        return layer_reports(model, arrays, describe)


def _adapted(model):
    return [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.Normalization)
    ]
