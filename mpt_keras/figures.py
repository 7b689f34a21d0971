"""The style of all pictures: colours, axes, and how they are saved.

matplotlib is the extra `plots`, and imported where something is drawn.
"""

import contextlib
import contextvars
import dataclasses
import functools
import io
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from mpt_keras import files

_Draw = TypeVar("_Draw", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True)
class Theme:
    """The colours of pictures on one background.

    Attributes:
        background: What lies behind; transparent pictures are made for it.
        text: Of words.
        quiet: Of axes and of what is only there to compare with.
        grid: Of lines behind the data.
        colours: Of the data: near those of Okabe and Ito, which colour-blind
            readers tell apart, but farther from the background.
        pruned, kept: Of masks.
    """

    background: str
    text: str
    quiet: str
    grid: str
    colours: tuple[str, ...]
    pruned: str
    kept: str


LIGHT = Theme(
    background="#ffffff",
    text="#1f2328",
    quiet="#6b7280",
    grid="#e3e6ea",
    colours=(
        *("#0069a8", "#c44a00", "#00966c", "#d070a8"),
        *("#d99a00", "#45a5e0", "#000000"),
    ),
    pruned="#d5dde6",
    kept="#08306b",
)
DARK = Theme(
    background="#131416",
    text="#e6e8eb",
    quiet="#9aa2ad",
    grid="#2f343b",
    colours=(
        *("#3d8fe0", "#f0702a", "#1fbf92", "#e08cc0"),
        *("#f0c030", "#8ad4f8", "#ffffff"),
    ),
    pruned="#2b323b",
    kept="#9fd0ff",
)
MARKERS = "osD^vPX"
_THEME = contextvars.ContextVar("theme", default=LIGHT)


def theme():
    """The `Theme` of what is drawn now."""
    return _THEME.get()


@contextlib.contextmanager
def dark_background() -> Iterator[None]:
    """Draws for a dark background, as long as it is entered.

    `figure.savefig(path, transparent=True)` leaves the background out, for
    pages that have their own.

    Example:

    >>> masks = mpt_keras.analysis.masks_of(model)
    >>> with mpt_keras.analysis.dark_background():
    ...     figure = mpt_keras.analysis.draw_masks(masks)
    >>> [round(part, 2) for part in figure.get_facecolor()]
    [0.07, 0.08, 0.09, 1.0]
    """
    before = _THEME.set(DARK)
    try:
        yield
    finally:
        _THEME.reset(before)


def picture(draw: _Draw) -> _Draw:
    """Decorates a function that returns a figure: it draws in this style."""

    @functools.wraps(draw)
    def styled(*args, **kwargs):
        with _matplotlib().rc_context(_settings(theme())):
            figure = draw(*args, **kwargs)
            # Most ticks are made later, outside of this context.
            for axes in figure.axes:
                axes.tick_params(
                    which="both",
                    color=theme().quiet,
                    labelcolor=theme().text,
                )
        return figure

    return styled


def new_figure(width, height):
    """An empty matplotlib figure of a size in inches, which notebooks show."""
    return _figure_class()(
        figsize=(width, height), dpi=150, layout="constrained"
    )


@functools.cache
def _figure_class():
    _matplotlib()
    from matplotlib.figure import Figure

    class Shown(Figure):
        # Notebooks know figures only once somebody has imported pyplot.
        def _repr_png_(self):
            picture = io.BytesIO()
            self.savefig(picture, format="png")
            return picture.getvalue()

    return Shown


def save(figure, path, transparent=False):
    """Writes a picture, whole at every moment, in the format of its name.

    The same figure gives the same bytes of SVG, whose words are text.
    """
    kind = pathlib.Path(path).suffix[1:]
    content = io.BytesIO()
    settings = {
        "font.sans-serif": ["DejaVu Sans", "Verdana"],  # equally wide
        "svg.fonttype": "none",
        "svg.hashsalt": "mpt_keras",
    }
    with _matplotlib().rc_context(settings):
        figure.savefig(
            content,
            format=kind,
            transparent=transparent,
            metadata={"Date": None} if kind == "svg" else None,
        )
    files.write_whole(path, content.getvalue())


def _matplotlib():
    try:
        import matplotlib
        import matplotlib.figure
    except ImportError as error:
        raise ImportError(
            "Pictures need matplotlib, which cannot be imported "
            f"({error}). Install the extra `plots`: "
            'pip install "mpt_keras[plots]"'
        ) from error
    return matplotlib


def _settings(theme):
    """matplotlib's."""
    return {
        "font.family": "sans-serif",
        "font.size": 10,
        "text.color": theme.text,
        "figure.facecolor": theme.background,
        "axes.facecolor": "none",
        "axes.edgecolor": theme.quiet,
        "axes.labelcolor": theme.text,
        "axes.titlesize": 9,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "figure.titlesize": 11,
        "figure.titleweight": "bold",
        "grid.color": theme.grid,
        "grid.linewidth": 0.8,
        "legend.fontsize": 8,
        "legend.frameon": False,
        "lines.linewidth": 1.6,
        "lines.markersize": 5,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
    }
