"""What the pictures show, read back from the figures and the images."""

import sys

import numpy as np
import pytest

from mpt_keras import analysis
from mpt_keras.analysis.tiles import tiled

GAP = np.nan


@pytest.fixture(autouse=True)
def _matplotlib():
    pytest.importorskip("matplotlib")


def some_masks(rng, kept=0.5):
    return {
        "conv": rng.random((3, 3, 2, 4)) < kept,
        "outer/inner": rng.random((5, 7)) < kept,
    }


@pytest.fixture
def masks(rng):
    return some_masks(rng)


@pytest.fixture
def tickets(rng):
    return {label: some_masks(rng, 0.3) for label in ("a", "b", "c")}


def save(figure, tmp_path):
    """A picture of at most seven million points."""
    figure.savefig(tmp_path / "picture.png")
    width, height = figure.canvas.get_width_height()
    assert width * height < 7e6
    return figure


# --- Masks as images ------------------------------------------------------


def test_a_matrix_is_itself(rng):
    mask = rng.random((7, 128)) < 0.5
    image, note = tiled(mask)
    np.testing.assert_array_equal(image, mask)
    assert note == ""
    np.testing.assert_array_equal(tiled(mask[None, None])[0], mask)
    np.testing.assert_array_equal(tiled(mask[0])[0], mask[:1])


def test_points_of_a_large_matrix_are_means(rng):
    mask = rng.random((300, 129)) < 0.3
    image, note = tiled(mask)
    assert note == "a point is the mean of 3 x 2"
    expected = [
        [mask[row : row + 3, at : at + 2].mean() for at in range(0, 129, 2)]
        for row in range(0, 300, 3)
    ]
    np.testing.assert_allclose(image, expected, rtol=1e-6)


def test_filters_stand_apart():
    mask = np.zeros((2, 2, 2, 2), bool)
    mask[0, 1, 0, 0] = mask[1, 0, 1, 0] = mask[:, :, 1, 1] = True
    image, note = tiled(mask)
    assert note == ""
    np.testing.assert_array_equal(
        image,
        [
            [0, 1, GAP, 0, 0],
            [0, 0, GAP, 0, 0],
            [GAP] * 5,
            [0, 0, GAP, 1, 1],
            [1, 0, GAP, 1, 1],
        ],
    )


def test_few_inputs_leave_room_for_further_lines():
    mask = np.zeros((1, 2, 1, 3), bool)
    mask[..., 2] = True
    image, _ = tiled(mask)
    np.testing.assert_array_equal(
        image,
        [[0, 0, GAP, 0, 0], [GAP] * 5, [GAP] * 5, [1, 1, GAP, GAP, GAP]],
    )


@pytest.mark.parametrize(
    ("shape", "shown"),
    [
        ((3, 3, 3, 64), 3 * 64),
        ((3, 3, 512, 512), 16 * 16),
        ((7, 7, 300, 1), 8 * 8),
        ((5, 2, 4), 2 * 4),
        ((3, 2, 4, 3, 5), 3 * 5),
        ((100, 2, 3), 2 * 3),
    ],
)
def test_all_of_the_filters_or_the_first(shape, shown, rng):
    mask = rng.random(shape) < 0.4
    image, note = tiled(mask)
    points = np.count_nonzero(~np.isnan(image))
    filters = mask.reshape(-1, *shape[-2:])
    assert points == shown * len(filters)
    everything = shown == shape[-2] * shape[-1]
    assert (note == "") == everything
    if everything:
        assert np.nansum(image) == mask.sum()
    assert max(image.shape) <= 130


def test_masks_are_drawn(masks, tmp_path):
    figure = save(analysis.draw_masks(masks), tmp_path)
    conv, inner = figure.axes
    kept = masks["outer/inner"].sum()
    expected = f"outer/inner\nkept {kept} of 35 ({kept / 35:.1%})"
    assert inner.get_title() == expected
    np.testing.assert_array_equal(
        inner.images[0].get_array(), masks["outer/inner"]
    )
    assert np.nansum(conv.images[0].get_array()) == masks["conv"].sum()


def test_many_layers_and_long_names(rng, tmp_path):
    masks = {
        f"stage_{number}_block_with_a_long_name_conv": rng.random((4, 4)) < 0.5
        for number in range(40)
    }
    figure = save(analysis.draw_masks(masks), tmp_path)
    assert len(figure.axes) == 36
    assert figure.get_suptitle() == "The first 36 of 40 layers"
    name = figure.axes[0].get_title().splitlines()[0]
    assert name.startswith("stage_0_")
    assert name.endswith("name_conv")
    assert len(name) == 28
    save(analysis.draw_layers({"a": masks}), tmp_path)


# --- Comparisons ----------------------------------------------------------


@pytest.mark.parametrize("measure", ["agreement", "jaccard"])
def test_all_pairs_are_drawn(measure, tickets, tmp_path):
    comparison = analysis.compare_all(tickets)
    figure = save(analysis.draw_agreement(comparison, measure), tmp_path)
    axes, bar = figure.axes
    values = comparison.matrix(measure)
    np.testing.assert_array_equal(axes.images[0].get_array(), values)
    assert [text.get_text() for text in axes.texts] == [
        f"{100 * value:.1f}" for value in values.ravel()
    ]
    chance = getattr(comparison.total, measure).by_chance
    assert bar.lines[0].get_ydata()[0] == chance
    assert f"by chance {100 * chance:.1f} %" in axes.get_title()
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["a", "b", "c"]
    assert axes.images[0].get_clim()[0] < min(values.min(), chance)


def test_tickets_that_keep_everything_are_drawn(tmp_path):
    everything = {"a": np.ones((2, 2), bool)}
    comparison = analysis.compare_all({1: everything, 2: everything})
    save(analysis.draw_agreement(comparison), tmp_path)
    save(analysis.draw_jaccard(comparison), tmp_path)


def test_bars_are_what_is_pruned(tickets, masks, tmp_path):
    del masks["conv"]
    tickets["d"] = masks
    figure = save(analysis.draw_layers(tickets), tmp_path)
    (axes,) = figure.axes
    heights = [bar.get_height() for bar in axes.patches]
    expected = []
    for ticket in tickets.values():
        expected += [1 - mask.mean() for mask in ticket.values()]
        whole = np.concatenate([mask.ravel() for mask in ticket.values()])
        expected.append(1 - whole.mean())
    np.testing.assert_allclose(heights, expected)
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert names == ["conv", "outer/inner", "total"]
    # The ticket without the first layer leaves its place empty.
    at = [bar.get_x() + bar.get_width() / 2 for bar in axes.patches]
    np.testing.assert_allclose(
        at, [*(n + d for d in (-0.3, -0.1, 0.1) for n in range(3)), 1.3, 2.3]
    )


def test_jaccard_with_whiskers_beside_chance(tickets, tmp_path):
    comparison = analysis.compare_all(tickets)
    figure = save(analysis.draw_jaccard(comparison), tmp_path)
    (axes,) = figure.axes
    spreads = [row.jaccard for row in (*comparison.layers, comparison.total)]
    points = axes.containers[0]
    np.testing.assert_allclose(
        points.lines[0].get_ydata().astype("float64"),
        [spread.mean for spread in spreads],
    )
    ends = [segment[:, 1] for segment in points.lines[2][0].get_segments()]
    np.testing.assert_allclose(ends, [[s.least, s.most] for s in spreads])
    chance = axes.collections[-1].get_offsets()[:, 1]
    np.testing.assert_allclose(chance, [s.by_chance for s in spreads])


def test_churn_is_drawn(tmp_path):
    histories = {"a": [0.3, 0.2, 0.1], "b": [0.4]}
    figure = save(analysis.draw_churn(histories), tmp_path)
    lines = figure.axes[0].lines
    assert [list(line.get_xdata()) for line in lines] == [[1, 2, 3], [1]]
    assert [list(line.get_ydata()) for line in lines] == list(
        histories.values()
    )
    assert lines[0].get_color() != lines[1].get_color()


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: analysis.draw_masks({}), "There are no masks"),
        (lambda: analysis.draw_layers({}), "masks of one ticket"),
        (lambda: analysis.draw_layers({"a": {}}), "There are no masks"),
        (lambda: analysis.draw_churn({}), "history of one run"),
        (
            lambda: analysis.draw_agreement(None, "hamming"),
            "Expected 'agreement' or 'jaccard'",
        ),
    ],
)
def test_what_cannot_be_drawn(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_without_matplotlib(masks, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"extra `plots`: pip install"):
        analysis.draw_masks(masks)
