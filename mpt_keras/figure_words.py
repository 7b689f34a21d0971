"""Words in pictures: how numbers are written, and where labels stand."""

import math

from mpt_keras import figures


def percents(value, _):
    """For an axis of fractions."""
    return f"{100 * value:.4g} %"


def short(name, most=28):
    """A name with its middle left out where it is long."""
    name = str(name)
    if len(name) <= most:
        return name
    return f"{name[: most // 2 - 1]}…{name[-(most // 2) :]}"


def ink(colour):
    """Of words that belong to marks of a colour: near it, and readable."""
    from matplotlib.colors import to_hex, to_rgb

    marks, words = to_rgb(colour), to_rgb(figures.theme().text)
    return to_hex(
        [(one + other) / 2 for one, other in zip(marks, words, strict=True)]
    )


def headline(figure, text):
    """A sentence above a figure, at its left."""
    figure.suptitle(text, x=0.01, ha="left")


def label_ends(axes, ends, size=9):
    """Writes words to the right of points, none over another.

    Words that had to move are tied to their points by a line.

    Args:
        axes: Of final limits, linear upwards.
        ends: Tuples of words, x, y and colour.
        size: Of the words, in points.
    """
    low, high = axes.get_ylim()
    # Less than there is: the room for titles is not known yet.
    points = 0.6 * 72 * axes.figure.get_size_inches()[1]
    points *= axes.get_position().height / (high - low)
    ends = sorted(ends, key=lambda end: end[2])
    heights = [points * (y - low) for _, _, y, _ in ends]
    moved = spread(heights, 1.25 * size, least=0.0)
    is_tied = any(
        abs(now - was) > size for was, now in zip(heights, moved, strict=True)
    )
    for (words, x, y, colour), was, now in zip(
        ends, heights, moved, strict=True
    ):
        axes.annotate(
            words,
            (x, y),
            xytext=(18 if is_tied else 8, now - was),
            textcoords="offset points",
            va="center",
            fontsize=size,
            color=ink(colour),
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.8,
                "shrinkA": 0,
                "shrinkB": 3,
                "relpos": (0, 0.5),
            }
            if is_tied
            else None,
        )


def spread(places, apart, least=-math.inf):
    """Moves sorted numbers as little as needed to be so far apart.

    Neighbours that come too near make a row, centred where they were, unless
    it would begin below `least`.

    >>> spread([0, 1, 10], 4)
    [-1.5, 2.5, 10.0]
    >>> spread([0, 1, 10], 4, least=0)
    [0, 4, 10.0]
    """
    rows = []  # Sum of what their members want for the first of them, count.
    for place in places:
        total, count = float(place), 1
        while rows:
            before, members = rows[-1]
            if before / members + apart * members <= total / count:
                break
            rows.pop()
            total += before - apart * members * count
            count += members
        rows.append((total, count))
    found = [
        total / count + apart * number
        for total, count in rows
        for number in range(count)
    ]
    return [
        max(place, least + apart * number) for number, place in enumerate(found)
    ]
