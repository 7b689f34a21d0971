"""Reports say of JSON lines what NumPy and SciPy say of their numbers."""

import json
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats

from mpt_keras.experiments import columns, methods, pareto, plot_style, plots
from mpt_keras.experiments.errors import RunError
from mpt_keras.experiments.groups import comparisons
from mpt_keras.experiments.pivot import pivot
from mpt_keras.experiments.reporting import report
from mpt_keras.experiments.spread import Difference, SeedSpread


def a_line(method, sparsity, seed, accuracy, **more):
    names = (method, sparsity, seed, *more.values())
    return {
        "method": method,
        "sparsity": sparsity,
        "seed": seed,
        "folder": "-".join(map(str, names)),
        "model": "conv4",
        "data": "cifar10",
        "epochs": 3,
        "test_accuracy": accuracy,
        **more,
    }


def with_validation(line, best, iteration):
    return line | {
        "best": {"epoch": 2, "test_accuracy": best},
        "early_stop": {
            "iteration": iteration,
            "epoch": iteration / 10,
            "test_accuracy": best - 0.1,
        },
        "test_accuracy_per_epoch": [0.25, best, line["test_accuracy"]],
        "weights": 1000,
        "weights_kept": 1000 if line["sparsity"] is None else 200,
        "training_seconds": 90.0 + line["seed"],
    }


@pytest.fixture
def two_methods():
    """Lines of three seeds each."""
    numbers = [(0.5, 0.625), (0.75, 0.625), (0.625, 0.75)]
    return [
        with_validation(a_line(method, sparsity, seed, accuracy), 0.5, 20)
        for seed, both in enumerate(numbers)
        for method, sparsity, accuracy in zip(
            ("dense", "mpt_1_32"), (None, 0.8), both, strict=True
        )
    ]


def write(folder, found, end=""):
    folder.mkdir(exist_ok=True)
    text = "".join(json.dumps(line) + "\n" for line in found)
    (folder / "lines.jsonl").write_text(text + end)
    return folder


def one_comparison(found, **more):
    (comparison,) = comparisons(found, **more)
    return comparison


# --- Numbers --------------------------------------------------------------


def test_means_and_deviations_are_numpys(rng):
    values = rng.uniform(0, 1, 7)
    spread = SeedSpread.of(list(values))
    expected = values.mean(), values.std(ddof=1)
    assert (spread.mean, spread.deviation) == pytest.approx(expected)
    assert spread.seeds == 7
    assert SeedSpread.of([0.25]) == SeedSpread(0.25, None, 1)


@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_paired_differences_are_scipys(seeds, rng):
    ours, theirs = rng.uniform(0, 1, (2, seeds))
    found = Difference.of(
        dict(enumerate(ours)), dict(enumerate(theirs)), "dense"
    )
    interval = scipy.stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx(interval)
    assert found.mean == pytest.approx((ours - theirs).mean())


def test_only_seeds_of_both_are_paired():
    found = Difference.of({0: 0.5, 2: 0.75, 3: 0.25}, {3: 0.5, 1: 0.0}, "dense")
    assert found == Difference("dense", -0.25, None, None, 1)
    assert Difference.of({0: 0.5}, {1: 0.5}, "dense") is None


def test_draws_of_a_seed_are_one_value():
    found = [
        a_line("reinitialized", 0.8, seed, accuracy, draw=draw)
        for seed, draw, accuracy in [
            *((0, 0, 0.25), (0, 1, 0.75), (1, 0, 0.75), (1, 1, 1.0))
        ]
    ]
    (group,) = one_comparison(found).groups
    expected = np.mean([0.5, 0.875]), np.std([0.5, 0.875], ddof=1)
    spread = group.spread("test_accuracy")
    assert (spread.mean, spread.deviation) == pytest.approx(expected)
    assert spread.seeds == 2


def test_groups_stand_in_order():
    found = [
        a_line("winning_ticket", 0.8, 0, 0.5, rewind_step=100),
        a_line("winning_ticket", 0.5, 0, 0.5, rewind_step=100),
        a_line("winning_ticket", 0.5, 0, 0.5, rewind_step=0),
        a_line("dense", None, 0, 0.5, width=1),
        a_line("dense", None, 0, 0.5, width=0.25),
    ]
    groups = one_comparison(found).groups
    assert [
        (one.method, one.sparsity, one.width, one.rewind_step) for one in groups
    ] == [
        ("winning_ticket", 0.5, None, 0),
        ("winning_ticket", 0.5, None, 100),
        ("winning_ticket", 0.8, None, 100),
        ("dense", None, 0.25, None),
        ("dense", None, 1.0, None),
    ]


def test_a_baseline_is_that_of_the_same_width_and_sparsity():
    def lines_of(method, accuracies):
        return [
            a_line(method, sparsity, 0, accuracy, width=width)
            for (sparsity, width), accuracy in accuracies.items()
        ]

    found = [
        *lines_of("dense", {(None, 1): 0.75, (None, 2): 0.875}),
        *lines_of("a", {(0.5, 1): 0.5, (0.5, 2): 0.625, (0.8, 1): 0.25}),
        *lines_of("b", {(0.5, 1): 0.5, (0.5, 2): 0.5, (0.8, 2): 0.25}),
    ]

    def differences(baseline):
        comparison = one_comparison(found, baseline=baseline)
        found_ones = map(comparison.difference, comparison.groups)
        return [one and one.mean for one in found_ones]

    of_a, of_b = [-0.25, -0.25, -0.5], [-0.25, -0.375, -0.625]
    assert differences(None) == [None, None, *of_a, *of_b]
    assert differences("a") == [None] * 5 + [0.0, -0.125, None]


def test_the_network_that_is_pruned_is_a_baseline_as_well():
    found = [
        a_line("unpruned", None, 0, 0.5),
        a_line("winning_ticket", 0.8, 0, 0.75, rewind_step=10),
    ]
    assert one_comparison(found).baseline == "unpruned"
    found.append(a_line("dense", None, 0, 0.5))
    assert one_comparison(found).baseline == "dense"
    assert one_comparison(found[1:2]).baseline is None


def test_networks_are_not_mixed():
    found = [
        a_line("dense", None, 0, 0.5),
        a_line("dense", None, 0, 0.5, model="conv6"),
        a_line("dense", None, 0, 0.5, epochs=10),
        a_line("dense", None, 0, 0.5, data="mnist"),
    ]
    assert [one.title for one in comparisons(found)] == [
        "conv4 on cifar10, 3 epochs",
        "conv6 on cifar10, 3 epochs",
        "conv4 on cifar10, 10 epochs",
        "conv4 on mnist, 3 epochs",
    ]
    assert comparisons(found)[3].name == "conv4-mnist-3"


# --- The table ------------------------------------------------------------


def test_a_table(two_methods, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    # The same run twice, and one that is being written.
    folder = write(tmp_path, [*two_methods, two_methods[0]], '{"method": "de')
    report(folder)
    expected = (
        "| method | pruned | seeds | weights kept | last test accuracy % | at "
        "best validation % | early stop, iteration | accuracy there % | last "
        "less dense (95 %) | training s |\n"
        f"| --- |{' ---: |' * 9}\n"
        "| dense | - | 3 | 1,000 | 62.50 ± 12.50 | 50.00 ± 0.00 | 20 | 40.00 ± "
        "0.00 | - | 91 |\n"
        "| mpt_1_32 | 80 % | 3 | 200 | 66.67 ± 7.22 | 50.00 ± 0.00 | 20 | "
        "40.00 ± 0.00 | +4.17 (-31.69 to +40.02) | 91 |\n"
    )
    assert (folder / "table.md").read_text() == expected
    output = capsys.readouterr().out
    assert "conv4 on cifar10, 3 epochs" in output
    assert "+4.17 (-31.69 to +40.02)" in output
    assert sorted(path.name for path in folder.iterdir()) == [
        *("accuracy.png", "learning_curves.png", "lines.jsonl"),
        *("table.json", "table.md", "weights_kept.png"),
    ]


def test_a_notebook_prints_the_table_as_text(
    two_methods, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    report(write(tmp_path, two_methods))
    output = capsys.readouterr().out
    assert "last test accuracy %" in output
    assert "+4.17 (-31.69 to +40.02)" in output


def test_a_table_for_programs(two_methods, tmp_path):
    comparison = one_comparison(two_methods)
    dense, ticket = columns.to_json(comparison)["groups"]
    assert dense["seeds"] == [0, 1, 2]
    assert dense["test_accuracy"] == {
        **{"mean": 0.625, "deviation": 0.125, "seeds": 3}
    }
    assert dense["difference"] is None
    expected = scipy.stats.ttest_rel([0.625, 0.625, 0.75], [0.5, 0.75, 0.625])
    interval = expected.confidence_interval(0.95)
    found = ticket["difference"]
    assert (found["low"], found["high"]) == pytest.approx(interval)
    assert ticket["weights_kept"] == 200
    assert ticket["ticket_bytes"] is None


def test_one_seed_has_no_deviation():
    found = [
        a_line("dense", None, 0, 0.5),
        a_line("mpt_1_32", 0.55, 0, 0.75, ticket_bytes=12345),
        a_line("mpt_1_32", 0.55, 1, 0.75, ticket_bytes=12346),
        a_line("edge_popup", 0.555, 0, 0.75),
        a_line("edge_popup", 0.555, 1, 0.75, best={"test_accuracy": 0.5}),
    ]
    assert columns.rows(one_comparison(found)) == [
        (
            *("method", "pruned", "seeds", "ticket bytes"),
            *("last test accuracy %", "last less dense (95 %)"),
        ),
        ("dense", "-", "1", "-", "50.00", "-"),
        # One seed is paired. Only one of two has a best epoch.
        (
            *("mpt_1_32", "55 %", "2", "12,346", "75.00 ± 0.00"),
            "+25.00, 1 seed",
        ),
        (
            *("edge_popup", "55.5 %", "2", "-", "75.00 ± 0.00"),
            "+25.00, 1 seed",
        ),
    ]


def test_what_varies_has_a_column():
    found = [
        a_line("dense", None, 0, 0.5, width=1.0),
        a_line("one_shot", 0.5, 0, 0.5, width=1.0, rewind_step=0),
        a_line("one_shot", 0.5, 0, 0.75, width=1.0, rewind_step=2000),
        a_line("one_shot", 0.5, 0, 0.75, width=0.5, rewind_step=2000),
    ]
    first, *rows = columns.rows(one_comparison(found))
    assert first[2:4] == ("width", "rewind step")
    assert [row[2:4] for row in rows] == [
        *(("1", "-"), ("0.5", "2,000"), ("1", "0"), ("1", "2,000"))
    ]
    first, *_ = columns.rows(one_comparison(found[:2]))
    assert not {"width", "rewind step"} & set(first)


def test_columns_that_are_asked_for(two_methods, tmp_path, capsys):
    report(
        write(tmp_path / "a", two_methods),
        tmp_path / "b" / "c",
        baseline="mpt_1_32",
        names=["last", "difference"],
    )
    assert (tmp_path / "b" / "c" / "table.md").read_text().splitlines()[2:] == [
        "| 62.50 ± 12.50 | - |",
        "| 66.67 ± 7.22 | - |",
    ]
    with pytest.raises(RunError, match=r"No column 'much'. Expected .*last"):
        report(tmp_path / "a", names=["last", "much"])


def test_several_networks_have_a_table_each(two_methods, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    others = [
        line | {"model": "my/net", "folder": f"other-{line['folder']}"}
        for line in two_methods
    ]
    report(write(tmp_path, two_methods + others))
    text = (tmp_path / "table.md").read_text()
    assert text.count("| method |") == 2
    assert "\n\nmy/net on cifar10, 3 epochs\n\n| method |" in text
    written = {path.name for path in tmp_path.glob("*.png")}
    assert "accuracy-conv4-cifar10-3.png" in written
    assert "learning_curves-my_net-cifar10-3.png" in written
    assert len(json.loads((tmp_path / "table.json").read_text())) == 2


def test_a_file_of_lines(two_methods, tmp_path, capsys):
    folder = write(tmp_path / "sweep", two_methods)
    file = (folder / "lines.jsonl").rename(tmp_path / "all.jsonl")
    (found,) = report(file, tmp_path / "out")
    assert len(found.groups) == 2
    assert (tmp_path / "out" / "table.md").exists()


# --- The pictures ---------------------------------------------------------


def drawn(found, name):
    pytest.importorskip("matplotlib")
    figure = plots.pictures(one_comparison(found))[name]()
    figure.draw_without_rendering()  # warns of what does not fit
    return figure


def data_of(axes):
    return [line.get_xydata() for line in axes.lines if line.get_xydata().size]


def test_accuracy_over_sparsity():
    found = [
        a_line("mpt_1_32", sparsity, seed, 0.5 + 0.1 * sparsity + 0.01 * seed)
        for sparsity in (0.8, 0.2)
        for seed in range(3)
    ]
    found += [a_line("dense", None, seed, 0.7 + 0.1 * seed) for seed in (0, 1)]
    figure = drawn(found, "accuracy")
    (axes,) = figure.axes
    curve, level = axes.lines[0], axes.lines[-1]
    np.testing.assert_allclose(curve.get_xydata(), [[0.2, 0.53], [0.8, 0.59]])
    np.testing.assert_allclose(level.get_xydata(), [[0, 0.75], [1, 0.75]])
    (bars,) = axes.collections
    ends = np.array([segment[:, 1] for segment in bars.get_segments()])
    np.testing.assert_allclose(ends, [[0.52, 0.54], [0.58, 0.60]])
    (band,) = axes.patches
    assert band.get_height() == pytest.approx(2 * np.std([0.7, 0.8], ddof=1))
    assert not figure.legends
    named = {text.get_text(): text.xy[1] for text in axes.texts}
    assert named == pytest.approx({"mpt_1_32": 0.59, "dense": 0.75})
    assert axes.xaxis.get_major_formatter()(0.2) == "20 %"


def test_accuracy_over_the_fraction_kept():
    found = [a_line("unpruned", None, 0, 0.5, weights=800, weights_kept=800)]
    found += [
        a_line("winning_ticket", s, 0, 0.5, weights=800, weights_kept=kept)
        for s, kept in ((0.5, 400), (0.9, 80))
    ]
    (axes,) = drawn(found, "weights_kept").axes
    np.testing.assert_allclose(data_of(axes)[1], [[0.5, 0.5], [0.1, 0.5]])
    assert axes.get_xscale() == "log"
    left, right = axes.get_xlim()
    assert left > right
    np.testing.assert_allclose(sorted(axes.get_xticks()), [0.1, 0.2, 0.5])
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert {"10 %", "20 %", "50 %"} == set(labels)


def test_networks_of_several_widths_are_told_apart_by_numbers():
    found = [
        a_line("dense", None, 0, 0.5, width=w, weights=n, weights_kept=n)
        for w, n in ((1.0, 4000), (8.0, 256000))
    ]
    (axes,) = drawn(found, "weights_kept").axes
    points = np.concatenate(data_of(axes))
    np.testing.assert_allclose(points, [[4000, 0.5], [256000, 0.5]])
    assert axes.xaxis.get_major_formatter()(20000) == "20 k"


def test_accuracy_over_bytes():
    found = [a_line("mpt_1_32", 0.8, 0, 0.5, ticket_bytes=58_000)]
    (axes,) = drawn(found, "ticket_bytes").axes
    point, front = data_of(axes)
    np.testing.assert_allclose(point, [[58_000, 0.5]])
    (_, right), (low, _) = axes.get_xlim(), axes.get_ylim()
    expected = [[58_000, low], [58_000, 0.5], [right, 0.5]]
    np.testing.assert_allclose(front, expected)
    assert axes.xaxis.get_major_formatter()(50_000) == "50"
    assert "ticket_bytes" not in plots.pictures(
        one_comparison([a_line("mpt_1_32", 0.8, 0, 0.5)])
    )


def test_the_front_joins_what_nothing_beats():
    tickets = [
        *((0.5, 400, 0.75), (0.8, 300, 0.625), (0.9, 350, 0.5)),
        (0.95, 300, 0.5),
    ]
    found = [
        a_line("mpt_1_32", sparsity, 0, accuracy, ticket_bytes=size)
        for sparsity, size, accuracy in tickets
    ]
    # A network that is not pruned takes four bytes for each weight.
    found.append(a_line("dense", None, 0, 0.875, weights=5000))
    found.append(a_line("unpruned", None, 0, 0.75, weights=5000))
    figure = drawn(found, "ticket_bytes")
    (axes,) = figure.axes
    *points, front = data_of(axes)
    expected = [[300, 0.625], [400, 0.75], [20_000, 0.875]]
    np.testing.assert_allclose(front[1:-1], expected)
    assert axes.lines[-1].get_drawstyle() == "steps-post"
    assert sorted(map(len, points)) == [1, 1, 4]
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["mpt_1_32", "dense", "unpruned", "Pareto front"]


def test_the_front_is_what_comparing_all_pairs_leaves(rng):
    for _ in range(50):
        points = [tuple(pair) for pair in rng.integers(0, 6, (8, 2)).tolist()]
        left = {
            (cost, value)
            for cost, value in points
            if not any(
                (other <= cost and worth > value)
                or (other < cost and worth >= value)
                for other, worth in points
            )
        }
        assert pareto.front(points) == sorted(left)
    assert pareto.front([]) == []


def test_learning_curves(two_methods):
    figure = drawn(two_methods, "learning_curves")
    (axes,) = figure.axes
    assert axes.get_title(loc="left") == "80 % pruned"
    dense, dense_stop, ticket, ticket_stop = data_of(axes)
    expected = [[1, 0.25], [2, 0.5], [3, 0.625]]
    np.testing.assert_allclose(dense, expected)
    np.testing.assert_allclose(dense_stop, [[2, 0.4]])
    np.testing.assert_allclose(ticket[-1], [3, 2 / 3])
    np.testing.assert_allclose(ticket_stop, [[2, 0.4]])
    band = axes.collections[0].get_paths()[0].vertices
    at_end = band[band[:, 0] == 3][:, 1]
    assert (at_end.min(), at_end.max()) == pytest.approx((0.5, 0.75))
    named = {text.get_text(): text.xy[1] for text in axes.texts}
    assert named == pytest.approx({"dense": 0.625, "mpt_1_32": 2 / 3})
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "early stopping"
    ]


def test_a_panel_for_each_sparsity(two_methods):
    found = [
        line | {"sparsity": sparsity, "folder": f"{sparsity}-{line['folder']}"}
        for sparsity in (0.2, 0.5, 0.9, 0.95)
        for line in two_methods
        if line["sparsity"]
    ]
    axes = drawn(found + two_methods[:1], "learning_curves").axes
    titles = [one.get_title(loc="left") for one in axes if one.get_visible()]
    assert titles == [f"{p} % pruned" for p in (20, 50, 90, 95)]
    # The dense network and its early stop stand in all of them.
    assert [len(one.lines) for one in axes[:4]] == [4] * 4


def test_many_methods_are_told_apart():
    names = [f"method_{number}" for number in range(20)]
    found = [
        a_line(name, sparsity, seed, 0.5 + seed / 10)
        for name in names
        for sparsity in (0.5, 0.8)
        for seed in (0, 1)
    ]
    figure = drawn(found, "accuracy")
    (axes,) = figure.axes
    lines_of = [one for one in axes.lines if one.get_linestyle() != "None"]
    looks = {
        (one.get_color(), one.get_marker(), one.get_linestyle())
        for one in lines_of
    }
    assert len(looks) == len(names)
    # No mark hides another, and none is outside.
    box = axes.get_window_extent()
    points = [
        tuple(p)
        for one in lines_of
        for p in one.get_window_extent().get_points()
    ]
    assert len(set(points)) == len(points)
    assert all(box.x0 < x < box.x1 for x, _ in points)
    (legend,) = figure.legends
    assert legend.get_window_extent().y0 > 0
    assert legend.get_window_extent().x0 > box.x1


def test_a_method_has_one_look_in_all_pictures():
    assert set(methods.METHODS) | {"unpruned"} == {
        method for family in plot_style.FAMILIES for method in family
    }
    alone = plot_style.styles(one_comparison([a_line("kd_ticket", 0.5, 0, 1)]))
    among = plot_style.styles(
        one_comparison(
            [
                a_line(name, 0.5, 0, 1.0)
                for name in ("new", *methods.METHODS, "newer")
            ]
        )
    )
    assert alone["kd_ticket"] == among["kd_ticket"]
    looks = {tuple(look.values()) for look in among.values()}
    assert len(looks) == len(among)


def test_widths_of_a_method_share_its_colour():
    found = [a_line("mpt_1_32", 0.5, 0, 1, width=w) for w in (0.5, 1.0, 2.0)]
    looks = plot_style.styles(one_comparison(found)).values()
    assert len({look["color"] for look in looks}) == 1
    assert len({look["marker"] for look in looks}) == 3


def test_narrow_pictures_have_their_legends_below():
    pytest.importorskip("matplotlib")
    names = [f"method_{number}" for number in range(9)]
    found = [a_line(name, 0.5, 0, 0.5) for name in names]
    comparison = one_comparison(found)
    for width, is_below in ((8, False), (4.6, True)):
        figure = plots.pictures(comparison, width)["accuracy"]()
        figure.draw_without_rendering()
        (axes,), (legend,) = figure.axes, figure.legends
        bottom = axes.get_window_extent().y0
        assert (legend.get_window_extent().y1 < bottom) == is_below


def test_without_matplotlib_there_is_a_table(
    two_methods, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    report(write(tmp_path, two_methods))
    assert "Install the extra `plots`" in capsys.readouterr().out
    assert (tmp_path / "table.md").exists()
    assert not list(tmp_path.glob("*.png"))


# --- Bad input ------------------------------------------------------------


def test_nothing_to_report(tmp_path):
    with pytest.raises(RunError, match=r"No finished run in .*lines.jsonl"):
        report(tmp_path)
    with pytest.raises(RunError, match=r"No finished run in .*missing"):
        report(tmp_path / "missing")
    write(tmp_path, [], end='{"method": "dense", ')
    with pytest.raises(RunError, match="No finished run in"):
        report(tmp_path)


@pytest.mark.parametrize("text", ["half a li", "[]", "7", "{}"])
def test_a_line_that_is_none(text, two_methods, tmp_path):
    write(tmp_path, two_methods[:1], end=f"{text}\n")
    with pytest.raises(RunError, match=r"Line 2 of .* is not that of a"):
        report(tmp_path)


def test_a_line_that_lacks_something(tmp_path):
    line = {"method": "dense", "sparsity": None, "seed": 0, "folder": "a"}
    write(tmp_path, [line])
    with pytest.raises(RunError, match=r"of 'a' is .* lacks test_accuracy, "):
        report(tmp_path)


def test_two_lines_of_one_seed():
    found = [
        a_line("mpt_1_32", 0.8, 3, 0.5, settings={"a": 1, "rate": rate})
        for rate in (0.1, 0.2)
    ]
    expected = r"seed 3: .* and .*, whose rate is 0.1 and 0.2. Expected one"
    with pytest.raises(RunError, match=expected):
        comparisons(found)


def test_a_baseline_that_is_not_there(two_methods):
    with pytest.raises(RunError, match=r"baseline=no: .* of dense, mpt_1_32"):
        comparisons(two_methods, "no")


def test_a_folder_that_cannot_be_written(two_methods, tmp_path, capsys):
    write(tmp_path, two_methods)
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="Cannot write the report"):
        report(tmp_path, tmp_path / "file" / "report")


# --- Many networks --------------------------------------------------------


def test_networks_as_rows_and_methods_as_columns():
    found = [
        a_line("dense", None, 0, 0.5, model="a", took=0.126),
        a_line("dense", None, 1, 0.75, model="a", took=0.25),
        a_line("mpt_1_32", 0.8, 0, 0.5, model="a"),
        a_line("dense", None, 0, 0.25, model="b", took=2),
    ]
    of_one = pivot(found, ["model"], ["method", "sparsity"], ["test_accuracy"])
    assert of_one == [
        ("model", "dense", "mpt_1_32, 80 %"),
        ("a", "62.50 ± 17.68", "50.00"),
        ("b", "25.00", ""),
    ]
    # No column of a value that no line of it has.
    values = ["test_accuracy", "took:.2f"]
    assert pivot(found, ["model", "epochs"], ["method"], values) == [
        (
            *("model", "epochs", "dense: test accuracy %"),
            *("mpt_1_32: test accuracy %", "dense: took"),
        ),
        ("a", "3", "62.50 ± 17.68", "50.00", "0.19"),
        ("b", "3", "25.00", "", "2.00"),
    ]
    with pytest.raises(RunError, match="No line says anything of 'size'"):
        pivot(found, ["size"], ["method"], values)
    with pytest.raises(RunError, match="Two lines of method dense"):
        pivot(found, ["data"], ["method"], values)


# --- Without Keras --------------------------------------------------------


def test_no_keras_is_needed(two_methods, tmp_path):
    write(tmp_path, two_methods)
    program = (
        "import sys; from mpt_keras.experiments.reporting import report; "
        f"report({str(tmp_path)!r}); "
        "sys.exit('keras' in sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True
    )
    assert (tmp_path / "table.md").exists()
