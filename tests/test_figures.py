"""The style of pictures: colours that are told apart, names that are read."""

import itertools
import re

import effort
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpt_keras import figure_words, figures

matplotlib = pytest.importorskip("matplotlib")
pytest.importorskip("matplotlib.colors")

THEMES = pytest.mark.parametrize(
    "theme", [figures.LIGHT, figures.DARK], ids=["light", "dark"]
)
# How dichromats see linear RGB: Machado, Oliveira & Fernandes, 2009.
SIGHTS = {
    "all colours": np.eye(3),
    "no red": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "no green": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "no blue": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}


def linear(colour):
    values = np.array(matplotlib.colors.to_rgb(colour))
    return np.where(
        values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4
    )


def contrast(one, other):
    """That of the Web Content Accessibility Guidelines, 1 to 21."""
    low, high = sorted(
        0.05 + linear(colour) @ [0.2126, 0.7152, 0.0722]
        for colour in (one, other)
    )
    return high / low


def lab(rgb):
    """CIELAB of linear RGB."""
    to_xyz = np.array(
        [
            [0.4124, 0.3576, 0.1805],
            [0.2126, 0.7152, 0.0722],
            [0.0193, 0.1192, 0.9505],
        ]
    )
    white = to_xyz.sum(axis=1)
    x, y, z = np.cbrt(np.clip(to_xyz @ rgb / white, 0, None))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@THEMES
def test_words_and_marks_stand_out_from_the_background(theme):
    for words in (theme.text, theme.quiet):
        assert contrast(words, theme.background) >= 4.5
    for number, marks in enumerate(theme.colours):
        least = 3.0 if number < 4 else 2.4
        assert contrast(marks, theme.background) >= least
    assert contrast(theme.kept, theme.pruned) >= 4.5


@THEMES
@pytest.mark.parametrize("sight", SIGHTS)
def test_colours_are_told_apart_by_everybody(theme, sight):
    seen = [lab(SIGHTS[sight] @ linear(one)) for one in theme.colours]
    apart = [
        np.linalg.norm(one - other)
        for one, other in itertools.combinations(seen, 2)
    ]
    assert min(apart) > 15


@THEMES
def test_words_that_belong_to_marks_can_be_read(theme, monkeypatch):
    monkeypatch.setattr(figures, "theme", lambda: theme)
    for colour in theme.colours:
        ink = figure_words.ink(colour)
        assert contrast(ink, theme.background) >= 4.5
        marks, words, between = map(
            matplotlib.colors.to_rgb, (colour, theme.text, ink)
        )
        np.testing.assert_allclose(
            between, np.add(marks, words) / 2, atol=1 / 255
        )


@settings(max_examples=effort.examples(100), deadline=None)
@given(
    st.lists(st.floats(-1e3, 1e3), max_size=12).map(sorted),
    st.floats(0, 100),
)
def test_names_do_not_lie_over_each_other(places, apart):
    found = figure_words.spread(places, apart)
    assert len(found) == len(places)
    gaps = np.diff(found)
    assert (gaps >= apart - 1e-6).all()
    if places:
        # Rows are centred, so that nothing moves as a whole.
        assert np.mean(found) == pytest.approx(np.mean(places), abs=1e-6)
    if (np.diff(places) >= apart).all():
        np.testing.assert_allclose(found, places, atol=1e-6)


@pytest.mark.parametrize("least", [-np.inf, 0])
def test_no_other_places_are_nearer(least):
    optimize = pytest.importorskip("scipy.optimize")
    places = np.array([0, 1, 1.5, 10, 11, 20])
    found = figure_words.spread(places, 4, least)
    best = optimize.minimize(
        lambda x: np.sum((x - places) ** 2),
        4.0 * np.arange(6),
        bounds=[(least, None)] * 6,
        constraints={"type": "ineq", "fun": lambda x: np.diff(x) - 4},
    )
    np.testing.assert_allclose(found, best.x, atol=1e-3)


def a_figure():
    @figures.picture
    def draw():
        axes = figures.new_figure(3, 2).add_subplot()
        axes.plot([0, 1], [0, 1], color=figures.theme().colours[0])
        axes.set(xlabel="Epoch")
        return axes.figure

    return draw()


def test_ends_are_named_where_they_are():
    axes = a_figure().axes[0]
    ends = [("b", 1, 0.51, "#000000"), ("a", 1, 0.5, "#ff0000")]
    figure_words.label_ends(axes, ends)
    assert [text.get_text() for text in axes.texts] == ["a", "b"]
    axes.figure.draw_without_rendering()
    lower, upper = (text.get_window_extent() for text in axes.texts)
    assert upper.y0 >= lower.y1
    assert lower.x0 > axes.transData.transform((1, 0))[0]


def test_words_of_svg_are_text_and_bytes_are_the_same(tmp_path):
    paths = [tmp_path / name for name in ("a.svg", "b.svg")]
    for path in paths:
        figures.save(a_figure(), path, transparent=True)
    first, second = (path.read_text() for path in paths)
    assert first == second
    assert ">Epoch</text>" in first
    assert figures.LIGHT.colours[0] in first
    assert not re.search(r"fill: ?#ffffff", first)


def test_the_style_of_others_is_left_alone():
    before = dict(matplotlib.rcParams)
    with figures.dark_background():
        figure = a_figure()
    assert dict(matplotlib.rcParams) == before
    ticks = figure.axes[0].get_xticklabels()
    colours = {matplotlib.colors.to_hex(tick.get_color()) for tick in ticks}
    assert colours == {figures.DARK.text}
    assert figures.theme() is figures.LIGHT
