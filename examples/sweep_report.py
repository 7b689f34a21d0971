"""The lines of a sweep's finished runs, and what they say together.

Each line of `runs.jsonl` is the JSON of one run. From these alone come the
table (mean and sample standard deviation over the seeds, per method and
sparsity) and the plot.
"""

import dataclasses
import json
import statistics

import tables
from command import RunError

LINES = "runs.jsonl"

_NEEDED = {"method", "sparsity", "folder", "test_accuracy", "seconds"}
_NEEDED |= {"best_test_accuracy", "model", "data"}
_COLUMNS = (
    *("method", "pruned", "seeds"),
    *("last test accuracy", "best test accuracy"),
)
_NONE = "-"
_MOST_TICKS = 8


@dataclasses.dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation, None where there is but one value."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values):
        several = len(values) > 1
        return cls(
            statistics.fmean(values),
            statistics.stdev(values) if several else None,
        )

    def __str__(self):
        one = self.deviation is None
        deviation = _NONE if one else f"{100 * self.deviation:.2f}"
        return f"{100 * self.mean:.2f} ± {deviation} %"


@dataclasses.dataclass(frozen=True)
class Summary:
    """What the seeds of one method at one sparsity found."""

    method: str
    sparsity: float | None
    seeds: int
    last: Spread
    best: Spread

    def row(self):
        """In words, as in `_COLUMNS`."""
        pruned = self.sparsity is not None
        return (
            self.method,
            f"{100 * self.sparsity:.4g} %" if pruned else _NONE,
            str(self.seeds),
            str(self.last),
            str(self.best),
        )


# --- Reading --------------------------------------------------------------


def read(path):
    """The lines as dictionaries, one for each run; none if there is no file.

    A last line without its end is passed over: it is being written, or its
    writer was killed.

    Raises:
        RunError: If another line is not one of a run.
    """
    if not path.exists():
        return []
    found = {}
    *whole, _ = path.read_bytes().split(b"\n")
    for number, text in enumerate(whole, 1):
        try:
            line = json.loads(text)
            if _NEEDED - line.keys():
                raise KeyError(*_NEEDED - line.keys())
            found[line["folder"]] = line
        except (ValueError, KeyError, AttributeError) as error:
            raise RunError(
                f"Line {number} of '{path}' is not that of a run. Remove it; "
                "the sweep writes it again from the run's own folder."
            ) from error
    return list(found.values())


def cut_broken_line(path):
    """Removes a last line whose writer was killed."""
    if path.exists():
        with path.open("r+b") as file:
            file.truncate(file.read().rfind(b"\n") + 1)


def summarise(lines):
    """One `Summary` per method and sparsity, methods in order of appearance."""
    groups = {}
    for line in lines:
        by_sparsity = groups.setdefault(line["method"], {})
        by_sparsity.setdefault(line["sparsity"], []).append(line)
    return [
        Summary(
            method=method,
            sparsity=sparsity,
            seeds=len(runs),
            last=Spread.of([run["test_accuracy"] for run in runs]),
            best=Spread.of([run["best_test_accuracy"] for run in runs]),
        )
        for method, by_sparsity in groups.items()
        for sparsity, runs in sorted(by_sparsity.items())
    ]


# --- Writing --------------------------------------------------------------


def report(folder, by="pruned"):
    """Prints the table; writes `table.md` and `accuracy.png`.

    Args:
        folder: Where `runs.jsonl` is, and the table and the plot will be.
        by: What the plot's horizontal axis says: the fraction `"pruned"`, or
            the fraction `"kept"`, in powers of ten and falling.

    Raises:
        RunError: If no run is finished.
    """
    lines = read(folder / LINES)
    if not lines:
        raise RunError(
            f"No finished run in '{folder / LINES}'. Expected the --output_dir "
            "of a sweep, after its first run."
        )
    summaries = summarise(lines)
    rows = rows_of(summaries)
    tables.print_table(rows)
    tables.replace_text(folder / "table.md", tables.markdown(rows))
    try:
        figure = draw(
            summaries,
            f"{lines[0]['model']} on {lines[0]['data']}\n"
            "mean and standard deviation over seeds",
            by,
        )
    except ImportError as error:
        print(
            f"No plot: matplotlib cannot be imported ({error}). Install the "
            "extra `plots`, then --report draws it."
        )
        return
    plot = folder / "accuracy.png"
    tables.replace_picture(plot, figure)
    print(f"Table: {folder / 'table.md'}. Plot: {plot}")


def rows_of(summaries):
    return [_COLUMNS, *(summary.row() for summary in summaries)]


def draw(summaries, title, by="pruned"):
    """Last test accuracy against the fraction pruned, a matplotlib figure.

    Bars and bands reach one standard deviation up and down. A network that
    is not pruned is a horizontal line.
    """
    from matplotlib.figure import Figure

    # Imports the backend, which a sweep needs for nothing else.
    from mpt_keras.analysis import figures

    figure = Figure(figsize=(7, 4.5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.set(
        title=title,
        xlabel=f"Weights {by}",
        ylabel="Test accuracy after the last epoch",
    )
    methods = list(dict.fromkeys(summary.method for summary in summaries))
    drawn = [
        _draw_method(
            *(axes, method, summaries, by),
            colour=figures.COLOURS[number % len(figures.COLOURS)],
            marker=figures.MARKERS[number % len(figures.MARKERS)],
        )
        for number, method in enumerate(methods)
    ]
    few = len({summary.sparsity for summary in summaries} - {None}) < 2
    if few and by == "pruned":
        axes.set_xlim(0, 1)
    if by == "kept":
        _scale_in_powers(axes, summaries)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g} %")
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g} %")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(drawn, methods, loc="outside right upper", frameon=False)
    return figure


def _scale_in_powers(axes, summaries):
    """A falling logarithmic axis, marked where some of the tickets are."""
    kept = {1.0 - summary.sparsity for summary in summaries if summary.sparsity}
    kept = sorted(kept, reverse=True)
    axes.set_xscale("log")
    axes.set_xticks(kept[:: -(-len(kept) // _MOST_TICKS)])
    axes.xaxis.minorticks_off()
    axes.invert_xaxis()


def _draw_method(axes, method, summaries, by, colour, marker):
    own = [summary for summary in summaries if summary.method == method]
    if own[0].sparsity is None:
        return _draw_level(axes, own[0].last, colour)
    return axes.errorbar(
        [
            1.0 - summary.sparsity if by == "kept" else summary.sparsity
            for summary in own
        ],
        [summary.last.mean for summary in own],
        yerr=[summary.last.deviation or 0.0 for summary in own],
        capsize=3,
        color=colour,
        marker=marker,
    )


def _draw_level(axes, accuracy, colour):
    deviation = accuracy.deviation or 0.0
    axes.axhspan(
        accuracy.mean - deviation,
        accuracy.mean + deviation,
        color=colour,
        alpha=0.15,
        linewidth=0,
    )
    return axes.axhline(accuracy.mean, linestyle="--", color=colour)
