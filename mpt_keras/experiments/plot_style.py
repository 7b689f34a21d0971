"""What the pictures of a comparison share: looks of methods, names, titles."""

import itertools

from mpt_keras import figure_words, figures

# A family has a colour, the same in all pictures; its members have marks of
# their own.
FAMILIES = (
    (
        *("mpt_1_32", "mpt_1_32_bn", "mpt_1_32_recycling"),
        *("mpt_1_32_iterand", "mpt_1_32_recycling_next_lowest"),
    ),
    (
        *("edge_popup", "edge_popup_recycling", "edge_popup_iterand"),
        "edge_popup_recycling_next_lowest",
    ),
    ("winning_ticket", "one_shot", "learning_rate_rewinding"),
    ("mpt_1_1", "mpt_1_1_bn"),
    ("kd_ticket", "kd_rewinding", "retraining"),
    ("reinitialized", "random_masks"),
    ("dense", "unpruned", "dense_binary"),
)
# Method -> number of its family, which is that of its colour, and its own.
_PLACES = {
    method: (number, member)
    for number, family in enumerate(FAMILIES)
    for member, method in enumerate(family)
}
_LINES = ("-", ":", "-.")
# More names than these stand in a legend, not beside what they name.
_MOST_NAMES = 6
_NARROW = 7


def styles(comparison):
    """Label -> how it is drawn, the same in all pictures of a comparison."""
    methods = {comparison.label(one): one.method for one in comparison.groups}
    own = {
        method: _PLACES[method]
        for method in methods.values()
        if method in _PLACES
    }
    taken = set(own.values())
    looks = {}
    for label, method in methods.items():
        place = own.pop(method, None)
        if place is None:
            family, _ = _PLACES.get(method, (None, None))
            place = _free_place(taken, family)
            taken.add(place)
        looks[label] = style(*place)
    return looks


def style_of(method):
    """How a method is drawn."""
    return style(*_PLACES[method])


def style(family, member):
    colours, markers = figures.theme().colours, figures.MARKERS
    return {
        "color": colours[family],
        "marker": markers[(family + member) % len(markers)],
        # Where markers begin anew, lines are others.
        "linestyle": _LINES[(member + member // len(markers)) % len(_LINES)],
    }


def _free_place(taken, family=None):
    """The first that nothing has, of a family if it is said."""
    families = range(len(FAMILIES)) if family is None else [family]
    return next(
        (number, member)
        for member in itertools.count()
        for number in families
        if (number, member) not in taken
    )


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


def has_few(looks):
    """Whether names have room beside what they name."""
    return len(looks) <= _MOST_NAMES


def name_ends(axes, ends):
    """Writes labels at the right, each at the height of its end.

    Args:
        axes: Of final limits.
        ends: Label -> height and colour.
    """
    right = axes.get_xlim()[1]
    figure_words.label_ends(
        axes,
        [
            (figure_words.short(label, 36), right, *end)
            for label, end in ends.items()
        ],
    )


def add_legend(figure, handles):
    """Beside the axes, or below them where a figure is narrow."""
    is_narrow = figure.get_size_inches()[0] < _NARROW
    figure.legend(
        handles.values(),
        [figure_words.short(label, 36) for label in handles],
        loc="outside lower left" if is_narrow else "outside right upper",
        ncols=2 if is_narrow else 1,
    )
