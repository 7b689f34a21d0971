"""The masks that runs have found: compared with each other, and in pictures.

What runs leave in their folders is read (`masks.npz`, or `last.keras`), or
files of these kinds themselves. How much the masks agree means something only
for runs of one architecture, and beside what chance gives, which stands in
every table and picture. Of a single run there are only pictures.
"""

import csv
import dataclasses
import itertools
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from mpt_keras import analysis, figures, files
from mpt_keras.experiments import tables
from mpt_keras.experiments.errors import RunError


def compare(
    sources: Sequence[str | os.PathLike],
    folder: str | os.PathLike,
    labels: Sequence[str] | None = None,
) -> analysis.PairwiseComparison | None:
    """Prints and writes how much the masks of runs agree, and draws them.

    Args:
        sources: Folders of runs, or files with masks; one at least.
        folder: Where `comparison.md`, `comparison.json` (of two runs or more)
            and the pictures are written.
        labels: What the runs are called; by default as much of their paths as
            tells them apart.

    Returns:
        The `PairwiseComparison` that `mpt_keras.analysis.compare_all`
        describes; None for a single run.

    Raises:
        RunError: If masks cannot be read or compared, labels cannot name
            files, or the folder cannot be written.

    Example:

    >>> for name in ("a", "b"):
    ...     model.save(f"{name}.keras")
    >>> comparison = compare(["a.keras", "b.keras"], "figures")
    layer ...
    >>> comparison.total.agreement.mean
    1.0
    """
    sources = [pathlib.Path(source) for source in sources]
    if not sources:
        raise RunError(
            "Nothing to compare. Expected the folders of runs, or files with "
            "masks."
        )
    folder = pathlib.Path(folder)
    labels = labels_for(sources, labels)
    found = {
        label: Found.read(source)
        for label, source in zip(labels, sources, strict=True)
    }
    comparison = _compared(found) if len(found) > 1 else None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if comparison:
            _write(found, comparison, folder)
        try:
            written = _draw(found, comparison, folder)
        except ImportError as error:
            print(f"No pictures. {error}")
        else:
            print(f"Pictures in '{folder}': {', '.join(written)}")
    except OSError as error:
        raise RunError(
            f"Cannot write into '{folder}': {error}. Expected a folder that "
            "can be written, with space left."
        ) from error
    return comparison


@dataclasses.dataclass(frozen=True)
class Found:
    """What is known of one run."""

    source: pathlib.Path
    masks: dict
    churn: list | None

    @classmethod
    def read(cls, source):
        try:
            masks = analysis.read_masks(source)
        except ValueError as error:
            raise RunError(error) from error
        return cls(source, masks, _churn(source / "history.csv"))

    def figures(self):
        """What to write of it as JSON."""
        return {
            "source": str(self.source),
            "layers": {
                name: {
                    "weights": mask.size,
                    "kept": int(np.count_nonzero(mask)),
                }
                for name, mask in self.masks.items()
            },
            **({"mask_churn": self.churn} if self.churn else {}),
        }


def _churn(path):
    """Per epoch, where a run has logged it; other columns may hold anything."""
    if not path.exists():
        return None
    try:
        with path.open(newline="") as file:
            epochs = list(csv.DictReader(file))
            return [float(row["mask_churn"]) for row in epochs] or None
    except KeyError:
        return None
    except (ValueError, TypeError) as error:
        raise RunError(
            f"'{path}' is not the history of a run: {error}. Repair or remove "
            "it; the masks can be compared without."
        ) from error


# --- Labels ---------------------------------------------------------------


def labels_for(sources, labels=None):
    """One label per source: those asked for, or the ends of the paths.

    Raises:
        RunError: If the labels asked for cannot name files, or there are too
            few, or a source is given twice.
    """
    if labels is None:
        return _ends_of_paths(sources)
    labels = [label.strip() for label in labels]
    name_files = all(
        label and not set(label) & set("/\\\0") for label in labels
    )
    if not name_files or not len(set(labels)) == len(labels) == len(sources):
        raise RunError(
            f"labels={','.join(labels)}: expected {len(sources)} different "
            "names, one per run, without slashes."
        )
    return labels


def _ends_of_paths(sources):
    """As much of each path as tells all of them apart."""
    paths = [_parts(source) for source in sources]
    for length in range(1, max(map(len, paths)) + 1):
        labels = ["-".join(parts[-length:]) for parts in paths]
        if len(set(labels)) == len(labels):
            return labels
    raise RunError(
        f"A run is given twice: {', '.join(map(str, sources))}. Name each "
        "once, or give labels."
    )


def _parts(source):
    path = source.resolve()
    if not path.is_dir():
        path = path.with_suffix("")
    # Without the root, which would be a slash in a label.
    return path.relative_to(path.anchor).parts


# --- Writing --------------------------------------------------------------


def _compared(found):
    """How much masks agree."""
    masks = {label: one.masks for label, one in found.items()}
    try:
        return analysis.compare_all(masks)
    except ValueError as error:
        raise RunError(error) from error


def _write(found, comparison, folder):
    """Prints and writes how much masks agree."""
    of_two = len(comparison.pairs) == 1
    rows = (comparison.pairs[0] if of_two else comparison).table()
    tables.print_table(rows)
    files.write_text(folder / "comparison.md", tables.markdown(rows))
    files.write_json(
        folder / "comparison.json",
        {
            "tickets": {label: one.figures() for label, one in found.items()},
            "layers": [dataclasses.asdict(row) for row in comparison.layers],
            "total": dataclasses.asdict(comparison.total),
            "pairs": [
                {"first": first, "second": second, **_measures(pair.total)}
                for (first, second), pair in zip(
                    itertools.combinations(found, 2),
                    comparison.pairs,
                    strict=True,
                )
            ],
        },
    )


def _measures(row):
    return {
        name: getattr(row, name)
        for measure in ("agreement", "jaccard", "hamming")
        for name in (measure, f"{measure}_by_chance")
    }


def _draw(found, comparison, folder):
    """Draws and writes one picture after the other; returns their names."""
    masks = {label: one.masks for label, one in found.items()}
    churn = {label: one.churn for label, one in found.items()}
    churn = {label: epochs for label, epochs in churn.items() if epochs}
    pictures = {
        f"masks-{label}": lambda one=one: analysis.draw_masks(one)
        for label, one in masks.items()
    }
    pictures["layers"] = lambda: analysis.draw_layers(masks)
    if comparison:
        pictures |= {
            "agreement": lambda: analysis.draw_agreement(comparison),
            "jaccard": lambda: analysis.draw_jaccard(comparison),
        }
    if churn:
        pictures["churn"] = lambda: analysis.draw_churn(churn)
    for name, picture in pictures.items():
        figures.save(picture(), folder / f"{name}.png")
    return [f"{name}.png" for name in pictures]
