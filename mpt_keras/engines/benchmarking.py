"""One ticket in every format: sizes, differences and times."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from mpt_keras.conversion import freeze
from mpt_keras.engines.exporting import ENGINES, export
from mpt_keras.engines.inputs import (
    as_the_model_takes,
    model_inputs,
    random_arrays,
)
from mpt_keras.engines.report import ExportReport
from mpt_keras.engines.timing import in_turn, processor
from mpt_keras.layers.traversal import masked_layers

# Label -> file name, format and options.
VARIANTS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "saved_model": ("saved_model", "saved_model", {}),
    "litert": ("float.tflite", "litert", {}),
    "litert int8": ("int8.tflite", "litert", {"weights": "int8"}),
    "onnx": ("ticket.onnx", "onnx", {}),
    "openvino": ("openvino", "openvino", {}),
    "larq": ("bits.tflite", "larq", {}),
    "hls4ml": ("hls4ml.keras", "hls4ml", {}),
    "c": ("ticket.c", "c", {}),
}
_COLUMNS = (
    *("format", "bytes", "smaller", "difference", "same class %", "ms"),
    "faster",
)


@dataclasses.dataclass(frozen=True)
class Variant:
    """One format of a ticket.

    Attributes:
        label: A key of `VARIANTS`, or `"keras"`.
        bytes: On the disk; of `"keras"` its float32 weights.
        relative: Largest difference from Keras, as a fraction of the largest
            output.
        same_class: Fraction of the inputs with the same predicted class.
        seconds: Median time of one example; None of a format that only
            hardware runs.
        report: What `export` says of it; None of `"keras"`.
    """

    label: str
    bytes: int
    relative: float
    same_class: float | None
    seconds: float | None
    report: ExportReport | None = None


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
        return [_COLUMNS] + [
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
            )
            for row in self.variants
        ]


def benchmark(
    model: keras.Model,
    folder: str | pathlib.Path,
    labels: Sequence[str] | None = None,
    threads: int = 1,
    rounds: int = 50,
) -> Benchmark:
    """Exports a ticket to every format, and times them in turn.

    One example at a time, with the same number of threads. TensorFlow, and
    with it Keras and the SavedModel, has the number that it began with
    (`saved_model.limit_threads`).

    Args:
        model: A built model, masked or frozen.
        folder: Where the exports are written.
        labels: Keys of `VARIANTS`; by default all whose engine is installed
            and which accept the model.
        threads: Of each engine.
        rounds: How often each is timed.

    Raises:
        ImportError: If the engine of a format in `labels` is not installed.
        ValueError: If a format in `labels` does not accept the model, or a
            label is unknown.

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
    reports, left_out = {}, {}
    functions = {"keras": _keras(frozen, arrays)}
    for label in labels or VARIANTS:
        name, format, options = VARIANTS[label]
        try:
            report = export(frozen, folder / name, format=format, **options)
        except (ImportError, ValueError) as error:
            if labels:
                raise
            left_out[label] = str(error)
            continue
        reports[label] = report
        if format != "hls4ml":
            engine = ENGINES[format](**options)
            run = engine.load(report.path, sources, threads)
            functions[label] = lambda run=run: run(arrays)
    seconds = in_turn(functions, rounds)
    size = 4 * frozen.count_params()
    variants = [Variant("keras", size, 0.0, 1.0, seconds["keras"])]
    for label, report in reports.items():
        found = report.differences
        variants.append(
            Variant(
                label,
                report.bytes,
                found.relative,
                found.same_class,
                seconds.get(label),
                report,
            )
        )
    return Benchmark(tuple(variants), left_out, threads, processor())


def _keras(model, arrays):
    """What `predict` does, without its loop."""
    batch = as_the_model_takes(model, arrays)
    return lambda: model.predict_on_batch(batch)
