"""The gallery shows its data, and can be read on telephones and in the dark."""

import json
import re
import xml.etree.ElementTree

import numpy as np
import programs
import pytest
from conftest import ROOT
from test_figures import contrast

from mpt_keras import analysis, figures

pytest.importorskip("matplotlib.colors")
FOLDER = ROOT / "docs" / "pictures"
THEMES = {"light": figures.LIGHT, "dark": figures.DARK}


@pytest.fixture(scope="module")
def pictures():
    with programs.modules_of(FOLDER):
        import draw

    return draw.PICTURES


def data(name):
    if name.endswith(".npz"):
        return np.load(FOLDER / "data" / name)
    return json.loads((FOLDER / "data" / name).read_text())


# --- The files ------------------------------------------------------------


def test_the_page_shows_every_picture_in_both_themes(pictures):
    page = (ROOT / "docs" / "gallery.md").read_text()
    shown = re.findall(
        r"```{image} pictures/(\w+)\.(light|dark)\.svg\n:class: only-(\w+)\n"
        r':width: \d+px\n:alt: "(.+)"\n```',
        page,
    )
    assert len(shown) == page.count("{image}")
    alternatives = {}
    for name, theme, only, text in shown:
        assert only == theme
        alternatives.setdefault(name, {})[theme] = text
    assert alternatives.keys() == pictures.keys()
    for texts in alternatives.values():
        assert texts["light"] == texts["dark"]
        assert len(texts["light"]) > 100
    files = {path.name for path in FOLDER.glob("*.svg")}
    assert files == {f"{name}.{t}.svg" for name in alternatives for t in THEMES}


@pytest.mark.parametrize("theme", THEMES)
def test_words_can_be_read_on_a_telephone(theme):
    for path in FOLDER.glob(f"*.{theme}.svg"):
        root = xml.etree.ElementTree.parse(path).getroot()
        # 390 points across, of which a page leaves so many to a picture.
        scale = min(350 / float(root.get("viewBox").split()[2]), 4 / 3)
        texts = list(root.iter("{http://www.w3.org/2000/svg}text"))
        assert texts, path
        for text in texts:
            style = text.get("style")
            size = re.search(r"font-size: ([\d.]+)px", style)[1]
            assert float(size) * scale >= 7.5, (path.name, text.text)
            fill = re.search(r"fill: (#\w{6})", style)
            background = THEMES[theme].background
            assert contrast(fill[1], background) >= 4.5, (path.name, text.text)


def test_the_program_draws_what_is_asked_for(tmp_path):
    options = (f"--output_dir={tmp_path}", "--only=size")
    printed = programs.succeed("docs/pictures/draw.py", *options)
    written = sorted(tmp_path.iterdir())
    assert [path.name for path in written] == [
        "size.dark.svg",
        "size.light.svg",
    ]
    assert all(str(path) in printed for path in written)
    message = programs.fail("docs/pictures/draw.py", "--only=sizes")
    assert "No picture sizes. Expected any of ticket, size" in message


# --- What they show -------------------------------------------------------


def image_of(axes):
    values = axes.images[0].get_array()
    return np.ma.filled(values, np.nan)


def test_the_mask_is_the_half_of_largest_scores(pictures):
    panels = pictures["ticket"]().axes
    weights, scores, ticket, mask = map(image_of, panels)
    is_weight = ~np.isnan(weights)
    largest = np.sort(scores[is_weight])[-is_weight.sum() // 2 :].min()
    np.testing.assert_array_equal(mask[is_weight], scores[is_weight] >= largest)
    np.testing.assert_array_equal(ticket, mask * np.sign(weights))
    np.testing.assert_array_equal(
        np.sort(weights[is_weight]),
        np.sort(data("layer.npz")["weights"].ravel()),
    )


def test_areas_are_bytes(pictures):
    squares = pictures["size"]().axes[0].patches
    areas = [one.get_width() * one.get_height() for one in squares]
    sizes = [row["bytes"] for row in data("sizes.json")["files"]]
    np.testing.assert_allclose(
        np.divide(areas, areas[0]), np.divide(sizes, sizes[0])
    )


def test_the_largest_file_is_as_many_times_the_smallest(pictures):
    sizes = [row["bytes"] for row in data("sizes.json")["files"]]
    assert f" {sizes[0] / sizes[-1]:.0f} times" in (
        pictures["size"]().get_suptitle().replace("\n", " ")
    )


def test_pixels_are_the_weights_that_they_keep(pictures):
    *panels, _ = pictures["inputs"]().axes
    masks = np.unpackbits(data("inputs.npz")["masks"]).reshape(-1, 28, 28, 300)
    np.testing.assert_allclose([*map(image_of, panels)], masks.mean(axis=-1))
    # A fifth is kept, before as after; the margin loses, the middle gains.
    kept = masks.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(kept, 0.2, atol=1e-4)
    assert masks[-1, :3].mean() < 0.17 < 0.27 < masks[-1, 10:18, 10:18].mean()


def test_lines_are_their_data(pictures):
    lines = pictures["churn"]().axes[0].lines
    found = {one.get_label(): list(one.get_ydata()) for one in lines}
    assert found == data("churn.json")["churn"]
    (axes,) = pictures["bits"]().axes
    rows = data("mask_bits.json")["rows"]
    np.testing.assert_allclose(
        axes.lines[1].get_ydata(),
        [r["bits per weight"] for r in rows],
        rtol=1e-3,
    )
    (axes,) = pictures["learning_curves"]().axes
    path = FOLDER.parent / "results" / "long.jsonl"
    curves = [json.loads(line) for line in path.read_text().splitlines()]
    for line, curve in zip(axes.lines, curves, strict=True):
        values = dict(enumerate(curve["test_accuracy_per_epoch"], 1))
        assert dict(line.get_xydata().tolist()) == values
    named = {text.get_text() for text in axes.texts}
    assert named == {"dense", "50 % pruned", "80 % pruned"}


def test_bars_are_milliseconds_and_the_headline_is_true(pictures):
    figure = pictures["engines"]()
    times = {
        (row["network"], row["what"]): row["ms"]
        for row in data("engines.json")["rows"]
    }
    networks = ["vgg_small:1/1:75", "resnet18:1/1:75", "conv4:1/32:80"]
    ratios = []
    for axes, network in zip(figure.axes, networks, strict=True):
        tensorflow, *_, ours = (bar.get_width() for bar in axes.patches)
        assert tensorflow == times[network, "TensorFlow"]
        assert ours == times[network, "runtime avx512_popcnt"]
        ratios.append(round(tensorflow / ours))
    said = [int(n) for n in re.findall(r"\d+", figure.get_suptitle())]
    assert said == sorted(ratios[:2])


def test_dark_pictures_are_drawn_dark(pictures):
    with analysis.dark_background():
        figure = pictures["scaling"]()
    assert figure.get_suptitle()
    (title,) = (text for text in figure.texts if text.get_text())
    assert title.get_color() == figures.DARK.text
