"""LiteRT (TensorFlow Lite), with float or with 8-bit weights.

8 bits with one scale per output channel hold a ticket exactly: each kernel is
`{-a, 0, +a}`, so the scale `a / 127` gives the codes -127, 0 and 127. LiteRT
then also rounds the activations to 8 bits, anew in every call, which is what
makes it fast and what an export differs by. In front of a sign that would turn
signs, and behind one it would break the ties of sums of `{-a, +a}`; so these
layers compute in float, from the same 8-bit weights.
"""

import contextlib
import dataclasses
import io
import numbers
import re
from typing import Literal

import keras
import numpy as np

from mpt_keras.engines import requirements
from mpt_keras.engines.engine import Engine, by_name, in_order
from mpt_keras.engines.inputs import signature
from mpt_keras.engines.kernels import find, kernels_of, only_ternary
from mpt_keras.engines.report import layer_reports
from mpt_keras.engines.signs import layers_around_signs
from mpt_keras.engines.tflite_file import TFLiteFile

# They compute nothing themselves, and have the policy of when they were made.
_HOLDERS = (keras.Sequential, keras.Function, keras.layers.InputLayer)


@dataclasses.dataclass(frozen=True)
class LiteRT(Engine):
    """A `.tflite` file for one example at a time, or `batch_size` of them.

    Attributes:
        weights: `"float32"` or `"int8"`.
        activations: With `"int8"` weights, `"int8"` (fast; where no sign
            follows) or `"float32"` (exact).
        batch_size: Examples in one call.
    """

    weights: Literal["float32", "int8"] = "float32"
    activations: Literal["float32", "int8", None] = None
    batch_size: int = 1

    name = "litert"
    ending = ".tflite"
    fixed = True

    def __post_init__(self):
        if self.weights not in ("float32", "int8"):
            few_bits = str(self.weights) in ("int2", "int4")
            raise ValueError(
                "Invalid value for argument `weights`. Expected 'float32' or "
                f"'int8'. Received: weights={self.weights!r}"
                + few_bits
                * (
                    ". (LiteRT computes 2-bit convolutions wrongly and says "
                    "nothing, and 4-bit ones slowly.)"
                )
            )
        allowed = ("int8", "float32") if self.weights == "int8" else ()
        if self.activations not in (*allowed, None):
            raise ValueError(
                "Invalid value for argument `activations`. Expected one of "
                f"{allowed} with weights='int8', None otherwise. Received: "
                f"activations={self.activations!r}, weights={self.weights!r}"
            )
        size = self.batch_size
        is_integer = isinstance(size, numbers.Integral)
        if not is_integer or isinstance(size, bool) or size < 1:
            raise ValueError(
                "Invalid value for argument `batch_size`. Expected a positive "
                f"integer. Received: batch_size={self.batch_size!r}"
            )
        object.__setattr__(self, "batch_size", int(size))

    def tolerance(self, model):
        if self.weights == "float32":
            return super().tolerance(model)
        is_exact = self.exact() is None and only_ternary(model)
        return super().tolerance(model) if is_exact else 0.05

    def exact(self):
        if self.weights == "float32" or self.activations == "float32":
            return None
        return dataclasses.replace(self, activations="float32")

    def require(self):
        requirements.check_keras_version((3, 13), "LiteRT files")
        requirements.load("ai_edge_litert", "ai-edge-litert", "litert")
        if self.weights == "int8":
            requirements.load(
                "ai_edge_quantizer", "ai-edge-quantizer", "litert"
            )

    def check(self, model):
        for layer in model._flatten_layers():
            if isinstance(layer, _HOLDERS):
                continue
            if layer.compute_dtype in ("float16", "bfloat16"):
                raise ValueError(
                    "LiteRT has no float16 or bfloat16 operations. Received: "
                    f"layer '{layer.name}', which computes in "
                    f"{layer.compute_dtype} (model '{model.name}'). Build the "
                    "network under keras.config.set_dtype_policy('float32'), "
                    "give it the weights, new.set_weights(old.get_weights()), "
                    "and export that."
                )

    def write(self, model, path):
        model.export(
            str(path),
            format="litert",
            verbose=False,
            input_signature=signature(model, self.batch_size),
        )
        if self.weights == "int8":
            in_float = layers_around_signs(model)
            path.write_bytes(
                _quantized(model, path, in_float, self.activations)
            )

    def load(self, path, sources, threads=None):
        litert = requirements.load(
            "ai_edge_litert.interpreter", "ai-edge-litert", "litert"
        )
        interpreter = litert.Interpreter(str(path), num_threads=threads or 1)
        runner = interpreter.get_signature_runner()
        details = runner.get_input_details()
        size = next(iter(details.values()))["shape"][0]

        def one(arrays):
            return in_order(runner(**by_name(arrays, sources, list(details))))

        return in_batches(one, size)

    def notes(self, model, path):
        if self.exact() is None or not layers_around_signs(model):
            return ()
        return (
            "the layers up to the first behind the last binary activation "
            "compute in float32: 8-bit activations would turn its signs",
        )

    def layers(self, model, path):
        file = TFLiteFile(path)

        def describe(match):
            stored = f"{file.encoding(match.tensor)}, {match}"
            return stored, file.use(match.tensor)

        return layer_reports(model, file.weights, describe)


def in_batches(run, size):
    """Runs an engine of a fixed batch size on a batch of any.

    The last one is filled up with its first example.
    """

    def all_of(arrays):
        count = len(arrays[0])
        parts = []
        for start in range(0, count, size):
            some = [array[start : start + size] for array in arrays]
            missing = size - len(some[0])
            if missing:
                some = [
                    np.concatenate([part, np.repeat(part[:1], missing, axis=0)])
                    for part in some
                ]
            parts.append([np.array(output) for output in run(some)])
        return [
            np.concatenate(outputs)[:count]
            for outputs in zip(*parts, strict=True)
        ]

    return all_of


def _quantized(model, path, in_float, activations):
    """Bytes of the file with weights in 8 bits, one scale per channel.

    Args:
        model: The frozen model.
        path: The float file.
        in_float: Names of the layers around signs.
        activations: The option.
    """
    aeq = requirements.load(
        "ai_edge_quantizer.quantizer", "ai-edge-quantizer", "litert"
    )
    types = requirements.load(
        "ai_edge_quantizer.qtyping", "ai-edge-quantizer", "litert"
    )
    weights = types.TensorQuantizationConfig(
        num_bits=8,
        symmetric=True,
        granularity=types.QuantGranularity.CHANNELWISE,
    )
    fast = types.OpQuantizationConfig(
        weight_tensor_config=weights,
        compute_precision=types.ComputePrecision.INTEGER,
    )
    exact = types.OpQuantizationConfig(
        weight_tensor_config=weights,
        compute_precision=types.ComputePrecision.FLOAT,
        explicit_dequantize=True,
    )
    quantizer = aeq.Quantizer(str(path))
    every = types.TFLOperationName.ALL_SUPPORTED

    def use(config, scope, algorithm="min_max_uniform_quantize"):
        quantizer.update_quantization_recipe(
            regex=scope,
            operation_name=every,
            op_config=config,
            algorithm_key=algorithm,
        )

    file = TFLiteFile(path)
    use(exact if activations == "float32" else fast, ".*")
    for kernel in kernels_of(model):
        if kernel.layer not in in_float:
            continue
        match = find(kernel.values, file.weights)
        if match is None:
            raise ValueError(
                f"Cannot tell where LiteRT has the kernel of layer "
                f"'{kernel.name}', beside a sign, which 8-bit activations "
                "would turn. Expected weights='float32', or "
                "activations='float32'."
            )
        scope = f"^{re.escape(file.output_of(match.tensor))}(;|$)"
        if kernel.is_ternary:
            use(exact, scope)
        else:  # rounded, it would turn signs
            use(exact, scope, algorithm="no_quantize")
    with (  # it prints sizes, and how far it is
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        return bytes(quantizer.quantize().quantized_model)
