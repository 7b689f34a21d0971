"""What the pictures show, read back from the figures and the images."""

import contextlib
import itertools
import sys

import numpy as np
import pytest

from mpt_keras import analysis, figures
from mpt_keras.analysis.tiles import tiled

to_hex = pytest.importorskip("matplotlib.colors").to_hex
Text = pytest.importorskip("matplotlib.text").Text

GAP = np.nan


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
        [[0, 0, GAP, 0, 0], [GAP] * 5, [1, 1, GAP, GAP, GAP]],
    )
    image, _ = tiled(np.ones((1, 2, 2, 8), bool))
    gaps = np.isnan(image).all(axis=1)
    # Two inputs, and a wider gap before the next line of outputs.
    assert "".join(map(str, gaps.astype(int))) == "01011010"


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
    assert inner.get_title(loc="left") == expected
    np.testing.assert_array_equal(
        inner.images[0].get_array(), masks["outer/inner"]
    )
    assert np.nansum(conv.images[0].get_array()) == masks["conv"].sum()


def test_notebooks_show_a_figure(masks):
    # IPython asks for it where pyplot, which tells it how, is not imported.
    picture = analysis.draw_masks(masks)._repr_png_()
    assert picture.startswith(b"\x89PNG")


def test_kernels_are_drawn_by_sign_and_size(tmp_path):
    kernel = np.array([[0.5, 0.0], [-0.25, 0.125], [0.0, 0.0]], "float32")
    nothing = np.zeros((3, 3, 1, 2), "float32")
    figure = save(
        analysis.draw_kernels({"dense": kernel, "conv": nothing}), tmp_path
    )
    dense, conv = figure.axes
    image = dense.images[0]
    np.testing.assert_array_equal(image.get_array(), kernel)
    assert image.get_clim() == (-0.5, 0.5)
    assert dense.get_title(loc="left") == "dense\nkept 3 of 6 (50.0%)"
    assert conv.get_title(loc="left").endswith("kept 0 of 18 (0.0%)")
    # Blue above 0, orange below, faint where nothing is.
    above, below, none = (image.cmap(image.norm(x)) for x in (0.5, -0.5, 0.0))
    assert above[2] > above[0]
    assert below[0] > below[2]
    assert max(none[:3]) - min(none[:3]) < 0.1


def test_inputs_are_drawn_as_an_image(rng, tmp_path):
    masks = {
        name: rng.random((12, 50)) < kept
        for name, kept in (("start", 0.2), ("end", 0.6), ("later", 0.1))
    }
    figure = save(analysis.draw_inputs(masks, (2, 6)), tmp_path)
    *panels, bar = figure.axes
    assert [one.get_title(loc="left") for one in panels] == [*masks]
    expected = [mask.mean(axis=1).reshape(2, 6) for mask in masks.values()]
    for axes, image in zip(panels, expected, strict=True):
        np.testing.assert_allclose(axes.images[0].get_array(), image)
        assert axes.images[0].get_clim() == (np.min(expected), np.max(expected))
    assert bar.get_xlabel() == "Weights of a pixel that are kept"


def test_channels_of_inputs_are_averaged(rng):
    mask = rng.random((2 * 3 * 4, 5)) < 0.5
    figure = analysis.draw_inputs({"mask": mask}, (2, 3, 4))
    image = mask.reshape(2, 3, 4, 5).mean(axis=(2, 3))
    drawn = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(drawn, image)


@pytest.mark.parametrize("shape", [(2, 5), (12,), (1, 2, 3, 2)])
def test_inputs_of_another_shape(shape):
    mask = np.ones((12, 5), bool)
    with pytest.raises(ValueError, match=r"argument `shape`.* of shape .12, 5"):
        analysis.draw_inputs({"mask": mask}, shape)


def test_inputs_of_a_convolution():
    with pytest.raises(ValueError, match="argument `shape`"):
        analysis.draw_inputs({"mask": np.ones((3, 3, 1, 9), bool)}, (3, 3))


def test_many_layers_and_long_names(rng, tmp_path):
    masks = {
        f"stage_{number}_block_with_a_long_name_conv": rng.random((4, 4)) < 0.5
        for number in range(40)
    }
    figure = save(analysis.draw_masks(masks), tmp_path)
    assert len(figure.axes) == 36
    assert figure.get_suptitle() == "The first 36 of 40 layers"
    name = figure.axes[0].get_title(loc="left").splitlines()[0]
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
    assert f"by chance {100 * chance:.1f} %" in axes.get_title(loc="left")
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
    named = {text.get_text(): text.xy for text in figure.axes[0].texts}
    assert named == {"a": (3, 0.1), "b": (1, 0.4)}
    many = {f"run {number}": [0.1, 0.2] for number in range(9)}
    figure = save(analysis.draw_churn(many), tmp_path)
    assert len(figure.legends[0].get_texts()) == 9


def test_churn_of_masks_that_were_kept(rng):
    masks = [some_masks(rng) for _ in range(4)]
    churn = analysis.mask_churn(masks)
    assert [*churn] == ["conv", "outer/inner", "total"]
    for name in masks[0]:
        expected = [
            np.mean(after[name] != before[name])
            for before, after in itertools.pairwise(masks)
        ]
        np.testing.assert_allclose(churn[name], expected)
    whole = [np.concatenate([m.ravel() for m in x.values()]) for x in masks]
    expected = [np.mean(a != b) for a, b in itertools.pairwise(whole)]
    np.testing.assert_allclose(churn["total"], expected)
    with pytest.raises(ValueError, match=r"two or more.* Received: 1"):
        analysis.mask_churn(masks[:1])
    with pytest.raises(ValueError, match="the same architecture"):
        analysis.mask_churn([masks[0], {"conv": masks[0]["outer/inner"]}])


@pytest.mark.parametrize(
    "draw",
    [
        analysis.draw_masks,
        lambda masks: analysis.draw_layers({"a": masks, "b": masks}),
        lambda masks: analysis.draw_jaccard(
            analysis.compare_all({"a": masks, "b": masks})
        ),
        lambda masks: analysis.draw_agreement(
            analysis.compare_all({"a": masks, "b": masks})
        ),
        lambda masks: analysis.draw_churn({"a": [0.25, 0.125]}),
    ],
)
def test_words_can_be_read_on_both_backgrounds(draw, masks, tmp_path):
    for context, theme in (
        (contextlib.nullcontext(), figures.LIGHT),
        (analysis.dark_background(), figures.DARK),
    ):
        with context:
            figure = draw(masks)
        save(figure, tmp_path)
        assert to_hex(figure.get_facecolor()) == theme.background
        on_axes = set(figure.findobj(Text)) - {
            # On coloured squares.
            *(text for axes in figure.axes for text in axes.texts)
        }
        words = [one for one in on_axes if one.get_text()]
        assert words
        assert {to_hex(one.get_color()) for one in words} == {theme.text}


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: analysis.draw_masks({}), "There are no masks"),
        (lambda: analysis.draw_layers({}), "masks of one ticket"),
        (lambda: analysis.draw_layers({"a": {}}), "There are no masks"),
        (lambda: analysis.draw_churn({}), "history of one run"),
        (lambda: analysis.draw_kernels({}), "There are no kernels"),
        (lambda: analysis.draw_kernels({"a": [1.0]}), "'a'.*Received: list"),
        (
            lambda: analysis.draw_kernels({"a": np.ones(3, bool)}),
            "finite floats.*Received: bool",
        ),
        (
            lambda: analysis.draw_kernels({"a": np.array([[np.nan]])}),
            "finite floats",
        ),
        (lambda: analysis.draw_inputs({}, (2, 2)), "There are no masks"),
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
