"""What a run logged, epoch by epoch, and what its epochs say together."""

import csv

from mpt_keras import files

FILE = "history.csv"


def read(path):
    """The epochs that a `CSVLogger` wrote, a list of dictionaries."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            {name: float(value) for name, value in row.items()}
            for row in csv.DictReader(file)
        ]


def cut(path, epochs):
    """Leaves the epochs before a number; the others will be repeated.

    The first row may be that of a later epoch, where a network was set back.
    """
    if not path.exists():
        return
    with path.open() as file:
        header, *rows = file.readlines() or [""]
    kept = [row for row in rows if int(row.partition(",")[0]) < epochs]
    files.write_whole(path, "".join([header, *kept] if kept else []).encode())


def figures(rows, steps_per_epoch, images_per_epoch, batch_size):
    """What the epochs say together, as a line of results has it.

    The best epoch is that of the highest accuracy on validation images, the
    first of equals; training could have stopped at their least loss. Where no
    images were held out, nothing is chosen.
    """
    tests = [row["test_accuracy"] for row in rows]
    held_out = "val_accuracy" in rows[-1]
    validation = [row["val_accuracy"] for row in rows] if held_out else None
    # The first step of an epoch may have waited for a compiler.
    timed = min(images_per_epoch, steps_per_epoch * batch_size)
    timed -= batch_size if steps_per_epoch > 1 else 0
    training = sum(row["training_seconds"] for row in rows)
    return {
        "epochs": int(rows[-1]["epoch"]) + 1,
        "steps_per_epoch": steps_per_epoch,
        "test_accuracy": tests[-1],
        "best": _best(rows) if held_out else None,
        "early_stop": _early_stop(rows, steps_per_epoch) if held_out else None,
        "test_accuracy_per_epoch": tests,
        "validation_accuracy_per_epoch": validation,
        "test_loss": _loss(rows[-1], "test_"),
        "train_loss": _loss(rows[-1], ""),
        "seconds": round(sum(row["seconds"] for row in rows), 1),
        "training_seconds": round(training, 1),
        "images_per_second": round(len(rows) * timed / max(training, 1e-9), 1),
    }


def _best(rows):
    best = max(rows, key=lambda row: row["val_accuracy"])
    return {
        "epoch": int(best["epoch"]) + 1,
        "validation_accuracy": best["val_accuracy"],
        "test_accuracy": best["test_accuracy"],
    }


def _early_stop(rows, steps_per_epoch):
    stop = min(rows, key=lambda row: _loss(row, "val_"))
    epoch = int(stop["epoch"]) + 1
    return {
        "iteration": epoch * steps_per_epoch,
        "epoch": epoch,
        "test_accuracy": stop["test_accuracy"],
    }


def _loss(row, prefix):
    """That of the labels, also where a teacher has a part in the whole."""
    return row.get(f"{prefix}student_loss", row[f"{prefix}loss"])
