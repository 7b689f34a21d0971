"""What an export holds, and how near it comes to the model."""

import dataclasses
import pathlib

from mpt_keras.engines.differences import Differences
from mpt_keras.engines.kernels import find, kernels_of

_COLUMNS = ("layer", "kind", "kernel", "stored as", "the engine")


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """One kernel of the model, as it stands in the file.

    Attributes:
        name: Name of the layer; a layer with two kernels has two rows.
        kind: Its Keras class.
        shape: Of its kernel, in Keras' order.
        stored: How the file holds the kernel, and whether exactly.
        computes: What the engine does with it.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    stored: str
    computes: str


def layer_reports(model, tensors, describe):
    """Looks up every kernel of a model among the tensors of a file.

    Args:
        model: The model that was written.
        tensors: Dictionary, key of a tensor -> array of its float values.
        describe: Function of a `Match`; returns how the file holds the tensor
            and what the engine does with it.

    Returns:
        Tuple of `LayerReport`s.
    """
    reports = []
    for kernel in kernels_of(model):
        match = find(kernel.values, tensors)
        stored, computes = "not found by its values", ""
        if match is not None:
            stored, computes = describe(match)
        reports.append(
            LayerReport(
                kernel.name,
                kernel.kind,
                kernel.values.shape,
                stored,
                computes,
            )
        )
    return tuple(reports)


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """What `export` wrote and compared.

    Attributes:
        path: The file or folder.
        format: Its format.
        bytes: What the engine loads: its size on the disk, of all files in
            it; of a C file the tables, which lie in flash.
        float32_bytes: All weights of the frozen model at four bytes each.
        differences: From the frozen Keras model, over all inputs.
        tolerance: The `relative` difference up to which it was accepted.
        of_weights: `relative` difference that comes from the weights as they
            are stored; the rest of it comes from how the engine computes
            (activations rounded to eight bits). None where the engine rounds
            nothing.
        undecided: Inputs that were left out, because an activation lies so
            near zero in them that rounding decides its sign.
        layers: A row per kernel.
        notes: What whoever runs the file should know.
    """

    path: pathlib.Path
    format: str
    bytes: int
    float32_bytes: int
    differences: Differences
    tolerance: float
    of_weights: float | None
    undecided: int
    layers: tuple[LayerReport, ...]
    notes: tuple[str, ...] = ()

    def table(self) -> list[tuple[str, ...]]:
        """Returns rows of text, the first the names of the columns."""
        return [_COLUMNS] + [
            (
                row.name,
                row.kind,
                "x".join(map(str, row.shape)),
                row.stored,
                row.computes,
            )
            for row in self.layers
        ]

    def __str__(self):
        found = self.differences
        ratio, than = self.float32_bytes / self.bytes, "smaller"
        if ratio < 1:
            ratio, than = self.bytes / max(self.float32_bytes, 1), "larger"
        lines = [
            f"{self.path} ({self.format}): {self.bytes:,} bytes, {ratio:.2f} "
            f"times {than} than {self.float32_bytes:,} bytes of float32 "
            "weights",
            f"largest difference over {found.inputs} inputs: "
            f"{found.absolute:.3g}, {found.relative:.2g} of the largest "
            f"output ({found.ulp:.0f} ULP of it); accepted up to "
            f"{self.tolerance:.2g}",
        ]
        if self.of_weights is not None:
            lines.append(
                f"of it from the weights as stored {self.of_weights:.2g}, the "
                "rest from activations that the engine rounds to 8 bits"
            )
        if self.undecided:
            lines.append(
                f"{self.undecided} more inputs were left out: an activation "
                "lies so near zero in them that rounding decides its sign"
            )
        if found.same_class is not None:
            lines.append(f"same predicted class: {found.same_class:.1%}")
        rows = self.table()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines += [
            "  ".join(
                cell.ljust(width)
                for cell, width in zip(row, widths, strict=True)
            ).rstrip()
            for row in rows
        ]
        return "\n".join([*lines, *self.notes])


def size(path: pathlib.Path) -> int:
    """Bytes of a file, or of all files in a folder.

    Example:

    >>> _ = pathlib.Path("a.bin").write_bytes(bytes(3))
    >>> size(pathlib.Path("a.bin"))
    3
    """
    if path.is_file():
        return path.stat().st_size
    return sum(
        file.stat().st_size for file in path.rglob("*") if file.is_file()
    )
