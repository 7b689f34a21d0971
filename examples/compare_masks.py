"""The masks that runs have found: compared with each other, and in pictures.

    python examples/compare_masks.py --output_dir=figures \\
        runs/seed-0 runs/seed-1 runs/seed-2

reads what the runs left in their folders (`masks.npz`, or `last.keras`), or
files of these kinds themselves. How much the masks agree means something only
for runs of one architecture, and beside what chance gives, which stands in
every table and picture. Of a single run there are only pictures.
"""

import csv
import dataclasses
import itertools
import pathlib

import command
import numpy as np
import run_folder
import tables
from absl import flags
from command import RunError

import mpt_keras as mpt

FLAGS = flags.FLAGS

flags.declare_key_flag("output_dir")
flags.DEFINE_list(
    "labels",
    None,
    "What the runs are called, separated by commas; by default as their "
    "folders.",
)


@dataclasses.dataclass(frozen=True)
class Ticket:
    """What is known of one run."""

    source: pathlib.Path
    masks: dict
    churn: list | None

    @classmethod
    def read(cls, source):
        try:
            masks = mpt.analysis.read_masks(source)
        except ValueError as error:
            raise RunError(error) from error
        return cls(source, masks, _churn(source / "history.csv"))

    def figures(self):
        """What to write of it as JSON."""
        return {
            "source": str(self.source),
            "layers": {
                name: {"weights": mask.size, "kept": np.count_nonzero(mask)}
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


def labels_for(sources):
    """One label per source: those asked for, or the ends of the paths.

    Raises:
        RunError: If the labels asked for cannot name files, or there are too
            few, or a source is given twice.
    """
    if FLAGS.labels is None:
        return _ends_of_paths(sources)
    labels = [label.strip() for label in FLAGS.labels]
    name_files = all(
        label and not set(label) & set("/\\\0") for label in labels
    )
    if not name_files or not len(set(labels)) == len(labels) == len(sources):
        raise RunError(
            f"--labels={','.join(labels)}: expected {len(sources)} different "
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
        "once, or give --labels."
    )


def _parts(source):
    path = source.resolve()
    if not path.is_dir():
        path = path.with_suffix("")
    # Without the root, which would be a slash in a label.
    return path.relative_to(path.anchor).parts


# --- Writing --------------------------------------------------------------


def compare(tickets, folder):
    """Prints and writes how much the tickets agree; returns the comparison."""
    masks = {label: ticket.masks for label, ticket in tickets.items()}
    try:
        comparison = mpt.analysis.compare_all(masks)
    except ValueError as error:
        raise RunError(error) from error
    of_two = len(comparison.pairs) == 1
    rows = (comparison.pairs[0] if of_two else comparison).table()
    tables.print_table(rows)
    tables.replace_text(folder / "comparison.md", tables.markdown(rows))
    run_folder.write_json(
        folder / "comparison.json",
        {
            "tickets": {
                label: ticket.figures() for label, ticket in tickets.items()
            },
            "layers": [dataclasses.asdict(row) for row in comparison.layers],
            "total": dataclasses.asdict(comparison.total),
            "pairs": [
                {"first": first, "second": second, **_measures(pair.total)}
                for (first, second), pair in zip(
                    itertools.combinations(tickets, 2),
                    comparison.pairs,
                    strict=True,
                )
            ],
        },
    )
    return comparison


def _measures(row):
    return {
        name: getattr(row, name)
        for measure in ("agreement", "jaccard", "hamming")
        for name in (measure, f"{measure}_by_chance")
    }


def draw(tickets, comparison, folder):
    """Draws and writes one picture after the other; returns their names."""
    analysis = mpt.analysis
    masks = {label: ticket.masks for label, ticket in tickets.items()}
    churn = {label: ticket.churn for label, ticket in tickets.items()}
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
        tables.replace_picture(folder / f"{name}.png", picture())
    return [f"{name}.png" for name in pictures]


def main(arguments):
    sources = [pathlib.Path(argument) for argument in arguments[1:]]
    if not sources:
        raise RunError(
            "Nothing to compare. Expected the folders of runs, or files with "
            "masks: compare_masks.py --output_dir=figures runs/a runs/b"
        )
    if not FLAGS.output_dir:
        raise RunError(
            "--output_dir is missing. Expected a folder for the tables and "
            "pictures."
        )
    folder = pathlib.Path(FLAGS.output_dir)
    labels = labels_for(sources)
    tickets = {
        label: Ticket.read(source)
        for label, source in zip(labels, sources, strict=True)
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        comparison = compare(tickets, folder) if len(tickets) > 1 else None
        try:
            written = draw(tickets, comparison, folder)
        except ImportError as error:
            print(f"No pictures. {error}")
            return
    except OSError as error:
        raise RunError(
            f"Cannot use --output_dir='{folder}': {error}. Expected a folder "
            "that can be written, with space left."
        ) from error
    print(f"Pictures in '{folder}': {', '.join(written)}")


if __name__ == "__main__":
    command.run(main)
