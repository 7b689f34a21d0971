"""What all pictures share: the figure, the colours, how things are written.

matplotlib is the extra `plots`, and imported where something is drawn.
"""

import io

from mpt_keras import files

# Told apart by colour-blind readers as well, and in print by the markers.
COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7"),
    *("#e69f00", "#56b4e9", "#000000"),
)
MARKERS = "osD^vPX"


def new_figure(width, height):
    """An empty matplotlib figure of a size in inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Pictures need matplotlib, which cannot be imported "
            f"({error}). Install the extra `plots`: "
            'pip install "mpt_keras[plots]"'
        ) from error
    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def save(figure, path):
    """Writes a PNG, whole at every moment."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    files.write_whole(path, picture.getvalue())


def percents(value, _):
    """For an axis of fractions."""
    return f"{100 * value:.4g} %"


def short(name, most=28):
    """A name with its middle left out where it is long."""
    name = str(name)
    if len(name) <= most:
        return name
    return f"{name[: most // 2 - 1]}…{name[-(most // 2) :]}"
