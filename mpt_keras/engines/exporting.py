"""Exports that are accepted only after their own engine agreed with Keras."""

import dataclasses
import numbers
import pathlib
from typing import Any

import keras
import numpy as np

from mpt_keras import model_checks
from mpt_keras.conversion import fold_batch_norms, freeze
from mpt_keras.engines.c_file import CFile
from mpt_keras.engines.comparison import Comparison, refusing
from mpt_keras.engines.engine import Engine
from mpt_keras.engines.hls4ml import HLS4ML
from mpt_keras.engines.inputs import (
    given_arrays,
    model_inputs,
    random_arrays,
)
from mpt_keras.engines.larq import Larq
from mpt_keras.engines.litert import LiteRT
from mpt_keras.engines.onnx import ONNX
from mpt_keras.engines.openvino import OpenVINO
from mpt_keras.engines.replacing import replaced
from mpt_keras.engines.report import ExportReport
from mpt_keras.engines.saved_model import SavedModel
from mpt_keras.layers.traversal import masked_layers

ENGINES = {
    engine.name: engine
    for engine in (SavedModel, LiteRT, ONNX, OpenVINO, Larq, HLS4ML, CFile)
}
_RANDOM = 8


def export(
    model: keras.Model,
    path: str | pathlib.Path,
    *,
    format: str,
    fold_batch_norm: bool = False,
    inputs: Any = None,
    tolerance: float | None = None,
    seed: int = 0,
    **options: Any,
) -> ExportReport:
    """Writes a ticket for an engine, and accepts it once the engine agrees.

    The model is frozen, written beside `path`, read again by the engine
    itself and compared with the frozen Keras model, on eight random inputs and
    on those given. Only then does it take its place; an earlier export stays
    until then, and stays if anything fails. For outputs `y` of the engine and
    `r` of Keras it is accepted where::

        max |y - r| <= tolerance * max |r|

    Behind binary activations one rounding may turn a sign, and then all that
    follows. Inputs in which that can be (`|x| <= 1e-5 max |x|` in front of a
    sign) are left out if they differ, and counted; at most half of them.

    Formats, what `path` is, the extra that is needed, and options::

        "saved_model"  folder   tensorflow
        "litert"       .tflite  litert               weights="int8",
                                                     activations, batch_size
        "onnx"         .onnx    onnx
        "openvino"     folder   openvino
        "larq"         .tflite  its own environment  target="arm"
        "hls4ml"       .keras   hls4ml               precision, simulate=True
        "c"            .c       a C compiler         vectors, signs="seed",
                                                     function

    `litert` with `weights="int8"` holds a ticket's kernels exactly and is
    nearly four times smaller; LiteRT then also rounds activations to 8 bits
    (`activations="float32"` prevents it), except in front of signs, which it
    would turn. `larq` packs layers between binary activations to bits.

    `c` is one file of C99 with weights and code, which needs no library and
    allocates nothing: `void predict(const float *input, float *output)` for
    one example, in Keras' order. Layers between binary activations compute on
    bits, others skip what is pruned. The comment at its top says how much flash
    and RAM it takes. `vectors=False` is for microcontrollers: plain code, and
    of the forms of a layer the smallest. With `signs="seed"` as well signs are
    drawn from the seed at the first call, where a layer counts bits: that
    takes half of the flash, and twice as much RAM. `function="predict"` names
    the function, so that two files go together. It compiles to WebAssembly as
    well (docs/browser.md).

    Args:
        model: A built model, masked (it is frozen first) or ordinary.
        path: Where to write: free, or an earlier export of this format.
        format: One of the formats above.
        fold_batch_norm: Whether to fold batch norms into the kernels in front
            of them first, where that is exact to rounding.
        inputs: A batch as the model takes it, or a dictionary by the names of
            its inputs, to compare on as well.
        tolerance: Difference to accept; by default 1e-4, where 8 bits are
            used 0.05.
        seed: Of the random inputs.
        options: Of the format.

    Returns:
        An `ExportReport`; `print` shows it as a table.

    Raises:
        ImportError: If the engine is not installed; says how to install it.
        ValueError: If an argument is invalid, the format cannot hold the model
            or would compute something else, or the engine's outputs differ.

    Example:

    >>> report = mpt_keras.export(model, "served", format="saved_model")
    >>> report.differences.relative
    0.0
    """
    engine = _engine(format, options)
    path = _checked_path(path, engine)
    _check_backend(engine)
    _check_tolerance(tolerance)
    _check_seed(seed)
    model_checks.check_is_model(model)
    model_checks.check_is_built(model)
    engine.require()
    frozen = freeze(model) if masked_layers(model) else model
    stored = frozen
    if fold_batch_norm:
        stored = fold_batch_norms(frozen)
    sources = model_inputs(frozen)
    for source in sources:
        if engine.fixed and source.is_open:
            raise ValueError(
                f"format={format!r} needs every size but the batch's. "
                f"Received: input '{source.name}' of shape {source.shape} "
                f"(model '{model.name}')"
            )
    engine.check(stored)
    comparison = Comparison(frozen, sources, _arrays(inputs, sources, seed))
    limit = engine.tolerance(stored) if tolerance is None else tolerance
    with replaced(path) as beside:
        with refusing(engine, frozen):
            engine.write_of(model, stored, beside)
        found, left_out = comparison.accepted(engine, beside, limit)
        with refusing(engine, frozen):
            layers = engine.layers(stored, beside)
        of_weights = None
        exact = engine.exact()
        if exact is not None:
            other = beside.parent.with_name("exact") / beside.name
            other.parent.mkdir()
            with refusing(engine, frozen):
                exact.write(stored, other)
            limit_of_weights = max(exact.tolerance(stored), tolerance or 0)
            alone, _ = comparison.accepted(exact, other, limit_of_weights)
            of_weights = alone.relative
        written = engine.size(beside)
    return ExportReport(
        path=path,
        format=format,
        bytes=written,
        float32_bytes=4 * frozen.count_params(),
        differences=found,
        tolerance=limit,
        of_weights=of_weights,
        undecided=left_out,
        layers=layers,
        notes=engine.notes(stored, path),
    )


def _arrays(inputs, sources, seed):
    """Random inputs, and behind them those that the user gives."""
    if inputs is None:
        return random_arrays(sources, _RANDOM, seed)
    given = given_arrays(inputs, sources)
    drawn = random_arrays(sources, _RANDOM, seed, like=given)
    return [np.concatenate(pair) for pair in zip(drawn, given, strict=True)]


def _engine(format, options) -> Engine:
    if not isinstance(format, str) or format not in ENGINES:
        raise ValueError(
            f"Invalid value for argument `format`. Expected one of "
            f"{sorted(ENGINES)}. Received: format={format!r}"
        )
    known = {field.name for field in dataclasses.fields(ENGINES[format])}
    unknown = sorted(options.keys() - known)
    if unknown:
        raise ValueError(
            f"format={format!r} has no option {unknown[0]!r}. Expected "
            f"{sorted(known) or 'no options'}. Received: {options}"
        )
    return ENGINES[format](**options)


def _checked_path(path, engine):
    path = pathlib.Path(path)
    if engine.ending and path.suffix != engine.ending:
        raise ValueError(
            f"Invalid value for argument `path`. Expected a file that ends in "
            f"'{engine.ending}', for format={engine.name!r}. Received: "
            f"path='{path}'"
        )
    if any(character in engine.patterns for character in str(path)):
        raise ValueError(
            f"Invalid value for argument `path`. Expected none of the "
            f"characters {' '.join(engine.patterns)}, which the engine of "
            f"format={engine.name!r} would take for patterns when it reads "
            f"the file. Received: path='{path}'"
        )
    if not path.absolute().parent.is_dir():
        raise ValueError(
            f"Invalid value for argument `path`. Expected a file or folder in "
            f"a folder that exists. Received: path='{path}'"
        )
    found = engine.foreign(path) if path.exists() else ""
    if not found:
        return path
    raise ValueError(
        f"Invalid value for argument `path`. Expected one that is free, or an "
        f"earlier export of format={engine.name!r}. Received: path='{path}', "
        f"which is {found}"
    )


def _check_backend(engine):
    backend = keras.backend.backend()
    if backend not in engine.backends:
        raise ValueError(
            f"format={engine.name!r} cannot be written by Keras' backend "
            f"'{backend}'. Save the ticket, mpt_keras.freeze(model).save("
            "'ticket.keras'), and export it in a process of "
            f"KERAS_BACKEND={engine.backends[0]}."
        )


def _check_tolerance(tolerance):
    if tolerance is None:
        return
    if not isinstance(tolerance, numbers.Real) or not tolerance >= 0:
        raise ValueError(
            "Invalid value for argument `tolerance`. Expected a number that is "
            f"not negative, or None. Received: tolerance={tolerance!r}"
        )


def _check_seed(seed):
    if not isinstance(seed, numbers.Integral) or seed < 0:
        raise ValueError(
            "Invalid value for argument `seed`. Expected an integer that is "
            f"not negative. Received: seed={seed!r}"
        )
