"""One ticket in every format: sizes, differences and times."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from mpt_keras.conversion import freeze
from mpt_keras.engines.comparison import Comparison
from mpt_keras.engines.exporting import ENGINES, export
from mpt_keras.engines.first_answer import first_answers
from mpt_keras.engines.inputs import (
    as_the_model_takes,
    model_inputs,
    random_arrays,
)
from mpt_keras.engines.report import ExportReport, size
from mpt_keras.engines.timing import in_turn, processor
from mpt_keras.layers.traversal import masked_layers
from mpt_keras.runtime.network import load
from mpt_keras.ticket.saving import save_ticket

# Label -> file name, format and options; the runtime has the ticket itself.
VARIANTS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "saved_model": ("saved_model", "saved_model", {}),
    "litert": ("float.tflite", "litert", {}),
    "litert int8": ("int8.tflite", "litert", {"weights": "int8"}),
    "onnx": ("ticket.onnx", "onnx", {}),
    "openvino": ("openvino", "openvino", {}),
    "larq": ("bits.tflite", "larq", {}),
    "hls4ml": ("hls4ml.keras", "hls4ml", {}),
    "c": ("ticket.c", "c", {}),
    "runtime": ("network.ticket", "runtime", {}),
}
_COLUMNS = (
    *("format", "bytes", "smaller", "difference", "same class %", "ms"),
    *("faster", "first answer s"),
)
_KERAS = "frozen.keras"
_INPUTS = 8
_TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class Variant:
    """One format of a ticket.

    Attributes:
        label: A key of `VARIANTS`, or `"keras"`.
        bytes: Of what is loaded; of `"keras"` its float32 weights.
        relative: Largest difference from Keras, as a fraction of the largest
            output.
        same_class: Fraction of the inputs with the same predicted class.
        seconds: Median time of one example; None of a format that only
            hardware runs.
        report: What `export` says of it; None of `"keras"` and `"runtime"`.
        first_answer: Median time, in seconds, of a process that starts, loads
            the file and answers once; None where that was not measured.
    """

    label: str
    bytes: int
    relative: float
    same_class: float | None
    seconds: float | None = None
    report: ExportReport | None = None
    first_answer: float | None = None


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """A ticket's formats beside each other.

    Attributes:
        variants: The first is Keras itself.
        left_out: Label -> why a format is missing.
        threads: Of each engine.
        processor: On which they ran.
    """

    variants: tuple[Variant, ...]
    left_out: Mapping[str, str]
    threads: int
    processor: str

    def table(self, beside: str = "litert") -> list[tuple[str, ...]]:
        """Returns rows of text, the first the names of the columns.

        Args:
            beside: Label of the variant that the others are compared with;
                Keras where it is missing.
        """
        by_label = {variant.label: variant for variant in self.variants}
        base = by_label.get(beside, self.variants[0])
        rows = [_COLUMNS] + [
            (
                row.label,
                f"{row.bytes:,}",
                f"{base.bytes / row.bytes:.2f}",
                f"{row.relative:.1e}",
                "" if row.same_class is None else f"{100 * row.same_class:.1f}",
                "" if row.seconds is None else f"{1e3 * row.seconds:.3f}",
                ""
                if row.seconds is None
                else f"{base.seconds / row.seconds:.2f}",
                "" if row.first_answer is None else f"{row.first_answer:.3f}",
            )
            for row in self.variants
        ]
        is_timed = any(row.first_answer is not None for row in self.variants)
        return rows if is_timed else [row[:-1] for row in rows]


def benchmark(
    model: keras.Model,
    folder: str | pathlib.Path,
    labels: Sequence[str] | None = None,
    threads: int = 1,
    rounds: int = 50,
    first_answer: bool = False,
) -> Benchmark:
    """Brings a ticket into every format, and times them in turn.

    One example at a time, with the same number of threads. TensorFlow, and
    with it Keras and the SavedModel, has the number that it began with
    (`saved_model.limit_threads`).

    `"runtime"` is the ticket itself, as `mpt_keras.runtime` runs it, with its
    best instruction set; the others are exports.

    Args:
        model: A built model, masked or frozen.
        folder: Where the exports are written.
        labels: Keys of `VARIANTS`; by default all whose engine is installed
            and which accept the model.
        threads: Of each engine.
        rounds: How often each is timed.
        first_answer: Whether to time new processes as well, that import the
            engine alone, load the file and answer once; three for each format.

    Raises:
        ImportError: If the engine of a format in `labels` is not installed.
        ValueError: If a format in `labels` does not accept the model, or a
            label is unknown.
        RuntimeError: If a new process ends without an answer.

    Example:

    >>> found = benchmark(model, ".", labels=["saved_model"], rounds=1)
    >>> [variant.label for variant in found.variants]
    ['keras', 'saved_model']
    """
    unknown = sorted(set(labels or ()) - VARIANTS.keys())
    if unknown:
        raise ValueError(
            f"Invalid value for argument `labels`. Expected some of "
            f"{list(VARIANTS)}. Received: labels={labels!r}"
        )
    folder = pathlib.Path(folder)
    frozen = freeze(model) if masked_layers(model) else model
    sources = model_inputs(frozen)
    arrays = random_arrays(sources, count=1)
    variants = {"keras": Variant("keras", 4 * frozen.count_params(), 0.0, 1.0)}
    functions = {"keras": _keras(frozen, arrays)}
    left_out = {}
    for label in labels or VARIANTS:
        name, format, options = VARIANTS[label]
        path = folder / name
        try:
            if format == "runtime":
                variant, run = _runtime(model, frozen, path, sources, threads)
            else:
                report = export(frozen, path, format=format, **options)
                variant = _exported(label, report)
                engine = ENGINES[format](**options)
                is_run = format != "hls4ml"
                run = is_run and engine.load(path, sources, threads)
        except (ImportError, ValueError) as error:
            if labels:
                raise
            left_out[label] = str(error)
            continue
        variants[label] = variant
        if run:
            functions[label] = lambda run=run: run(arrays)
    measured = {"seconds": in_turn(functions, rounds)}
    if first_answer:
        frozen.save(folder / _KERAS)
        files = {
            label: folder / VARIANTS.get(label, (_KERAS,))[0]
            for label in functions
        }
        measured["first_answer"] = first_answers(
            files, sources, arrays, threads
        )
    rows = [
        dataclasses.replace(
            variant,
            **{what: found.get(label) for what, found in measured.items()},
        )
        for label, variant in variants.items()
    ]
    return Benchmark(tuple(rows), left_out, threads, processor())


def _keras(model, arrays):
    """What `predict` does, without its loop."""
    batch = as_the_model_takes(model, arrays)
    return lambda: model.predict_on_batch(batch)


def _exported(label, report):
    found = report.differences
    return Variant(
        label, report.bytes, found.relative, found.same_class, report=report
    )


def _runtime(model, frozen, path, sources, threads):
    """The ticket, and a function that runs it."""
    save_ticket(model, path)
    network = load(path, threads=threads)
    arrays = random_arrays(sources, _INPUTS)
    outputs = [network(*arrays)]
    comparison = Comparison(frozen, sources, arrays)
    found, left_out, is_accepted = comparison.compared(outputs, _TOLERANCE)
    if not is_accepted:
        raise ValueError(
            f"The runtime differs from Keras by {found.relative:.2g} of the "
            f"largest output. Expected at most {_TOLERANCE:.2g}."
            + f" In {left_out.sum()} of the inputs rounding decides the sign "
            "of an activation." * bool(left_out.any())
        )
    variant = Variant("runtime", size(path), found.relative, found.same_class)
    return variant, lambda arrays: [network(*arrays)]
