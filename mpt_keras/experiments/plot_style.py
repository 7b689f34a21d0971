"""What the pictures of a comparison share: looks, legend, titles."""

from mpt_keras import figures

_LINES = ("-", ":", "-.")


def styles(comparison):
    """Label -> how it is drawn, the same in all pictures of a comparison."""
    labels = dict.fromkeys(map(comparison.label, comparison.groups))
    colours, markers = figures.COLOURS, figures.MARKERS
    return {
        label: {
            "color": colours[number % len(colours)],
            # Where colours begin anew, markers and lines are others.
            "marker": markers[(number + number // len(colours)) % len(markers)],
            "linestyle": _LINES[number // len(colours) % len(_LINES)],
        }
        for number, label in enumerate(labels)
    }


def height(looks):
    """Of a figure, in inches, with room for its legend."""
    return max(4.5, 1.0 + 0.19 * len(looks))


def seeds(comparison):
    """Over how many, in words."""
    counts = {len(group.seeds) for group in comparison.groups}
    least, most = min(counts), max(counts)
    if most == 1:
        return "one seed"
    seeds = f"{least} to {most}" if least < most else f"{most}"
    return f"mean and standard deviation over {seeds} seeds"


def finish(axes):
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def add_legend(figure, handles):
    figure.legend(
        handles.values(),
        [figures.short(label, 36) for label in handles],
        loc="outside right upper",
        frameon=False,
        fontsize=8,
    )
