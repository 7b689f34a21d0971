"""What tasks over one network take, in files and in memory."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class TaskSummary:
    """What one task takes beside the network that all share.

    Attributes:
        name: Of the task.
        weights: Number of weights of the masked kernels.
        kept: Those that the task keeps.
        ticket_bytes: Size of its file, which `TaskMasks.save` writes.
        mask_bytes: Of all masks in it.
        memory_bytes: What `TaskMasks` holds of it, in the main memory.
        is_packed: Whether that is its masks, and not its scores.
    """

    name: str
    weights: int
    kept: int
    ticket_bytes: int
    mask_bytes: int
    memory_bytes: int
    is_packed: bool

    @property
    def sparsity(self) -> float:
        """Fraction of the weights that is pruned."""
        return 1.0 - self.kept / self.weights

    @property
    def bits_per_weight(self) -> float:
        """Of the masks in the file, pruned weights counted as well."""
        return 8 * self.mask_bytes / self.weights


@dataclasses.dataclass(frozen=True)
class TasksSummary:
    """What `TaskMasks.summary` returns; `print` shows it as a table.

    Attributes:
        network_bytes: Size of the files that all tasks share.
        rows: A `TaskSummary` for every task.
    """

    network_bytes: int
    rows: tuple[TaskSummary, ...]

    @property
    def total_bytes(self) -> int:
        """Of all files: the network once, and every task."""
        return self.network_bytes + sum(row.ticket_bytes for row in self.rows)

    def table(self) -> list[tuple[str, ...]]:
        """Returns rows of text, the first the names of the columns."""
        names = ("task", "pruned", "kept", "ticket", "masks", "bits/w")
        return [(*names, "memory", "holds")] + [
            (
                row.name,
                f"{row.sparsity:.1%}",
                f"{row.kept:,}",
                f"{row.ticket_bytes:,}",
                f"{row.mask_bytes:,}",
                f"{row.bits_per_weight:.3f}",
                f"{row.memory_bytes:,}",
                "masks" if row.is_packed else "scores",
            )
            for row in self.rows
        ]

    def __str__(self):
        rows = self.table()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            f"{name:<{widths[0]}}  "
            + "  ".join(
                cell.rjust(width)
                for cell, width in zip(cells, widths[1:], strict=True)
            )
            for name, *cells in rows
        ]
        lines.append(
            f"bytes: {self.network_bytes:,} the network, {self.total_bytes:,} "
            f"with {len(self.rows)} tasks"
        )
        return "\n".join(lines)
