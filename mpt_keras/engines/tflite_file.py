"""What a `.tflite` file really holds: its weights, and who reads them."""

import pathlib

import numpy as np

from mpt_keras.engines import requirements

_TYPES = {
    "FLOAT32": "float32",
    "FLOAT16": "float16",
    "INT8": "int8",
    "INT32": "int32",
}


class TFLiteFile:
    """The weights of a file, by the number of their tensor.

    Attributes:
        weights: Tensor -> float32 array, multiplied out by its scales.
    """

    def __init__(self, path: pathlib.Path):
        tools = requirements.load(
            "ai_edge_litert.tools.flatbuffer_utils", "ai-edge-litert", "litert"
        )
        schema = requirements.load(
            "ai_edge_litert.schema_py_generated", "ai-edge-litert", "litert"
        )
        self._types = {
            number: name
            for name, number in vars(schema.TensorType).items()
            if not name.startswith("_")
        }
        model = tools.read_model(str(path))
        self._operations = [
            tools.opcode_to_name(model, number)
            for number in range(len(model.operatorCodes))
        ]
        self._graph = model.subgraphs[0]
        self._buffers = model.buffers
        self.weights = {
            number: self._values(tensor)
            for number, tensor in enumerate(self._graph.tensors)
            if self._type(tensor) in _TYPES
            and self._buffers[tensor.buffer].data is not None
            and len(tensor.shape) > 1
        }

    def encoding(self, tensor: int) -> str:
        """How the file holds a tensor, in words."""
        scales = self._scales(self._graph.tensors[tensor])
        kind = _TYPES[self._type(self._graph.tensors[tensor])]
        if scales is None:
            return kind
        return f"{kind} per {'channel' if scales.size > 1 else 'tensor'}"

    def use(self, tensor: int) -> str:
        """What the engine does with a tensor, in words."""
        operation = self._user(tensor)
        if operation is None:
            return ""
        name = self._operations[operation.opcodeIndex]
        if name == "DEQUANTIZE":
            user = self._user(operation.outputs[0])
            inner = self._operations[user.opcodeIndex]
            return f"{inner} in float32, weights unpacked when loaded"
        if self._scales(self._graph.tensors[tensor]) is None:
            return f"{name} in float32"
        output = self._graph.tensors[operation.outputs[0]]
        if self._type(output) == "FLOAT32":
            return f"{name} in int8, activations rounded in every call"
        return f"{name} in int8"

    def output_of(self, tensor: int) -> str:
        """Name of what the operation gives that reads a tensor."""
        output = self._user(tensor).outputs[0]
        return self._graph.tensors[output].name.decode()

    def _user(self, tensor):
        for operation in self._graph.operators:
            if tensor in operation.inputs:
                return operation
        return None

    def _type(self, tensor):
        return self._types[tensor.type]

    def _scales(self, tensor):
        found = tensor.quantization
        if found is None or found.scale is None or not len(found.scale):
            return None
        return np.asarray(found.scale, "float32")

    def _values(self, tensor):
        data = self._buffers[tensor.buffer].data
        kind = _TYPES[self._type(tensor)]
        values = np.frombuffer(bytes(data), kind).reshape(tensor.shape)
        values = values.astype("float32")
        scales = self._scales(tensor)
        if scales is None:
            return values
        shape = [1] * values.ndim
        if scales.size > 1:
            shape[tensor.quantization.quantizedDimension] = -1
        return values * scales.reshape(shape)
