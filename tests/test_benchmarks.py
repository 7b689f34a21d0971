"""The benchmarks run and write what they say; nothing here looks at a time."""

import json

import keras
import numpy as np
import programs
import pytest
from backend import needs_tensorflow

import mpt_keras as mpt


@needs_tensorflow  # and the extra experiments
@pytest.mark.parametrize(
    ("command", "columns"),
    [
        (
            ["selection.py", "--sizes=100,70000"],
            {"scores", "selection ms", "sort / selection", "XLA / plain"},
        ),
        (
            ["scaling.py", "--sizes=1000000", "--depths=1,4"],
            {"layers", "weights", "ns per weight"},
        ),
        (
            ["inference.py", "--batch_size=2"],
            {"what", "ms per batch", "against plain"},
        ),
        (
            ["engines.py", "--network=conv2", "--width=0.1"],
            {"what", "bytes", "difference", "ms"},
        ),
        (
            ["ticket_files.py", "--network=conv4"],
            {"what", "ms", "held, in kernels"},
        ),
        (
            [
                *("runtime.py", "--width=0.1"),
                "--networks=conv2:1/32:80,conv2:magnitude:90",
            ],
            {"network", "what", "bytes", "difference", "this / runtime"},
        ),
        (
            [
                *("runtime_start.py", "--width=0.1", "--beside=litert"),
                "--networks=conv2:1/32:80",
            ],
            {"what", "first answer s", "load s", "answered MB", "packed MB"},
        ),
        (
            ["memory.py", "--batch_size=2"],
            {"what", "variables MB", "lent beyond plain, in kernels"},
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_benchmark_writes_figures_settings_and_machine(
    command, columns, tmp_path
):
    file = tmp_path / "figures.json"
    name, *options = command
    programs.succeed(
        f"benchmarks/{name}",
        *options,
        "--rounds=1",
        "--warmup=1",
        f"--json={file}",
    )
    written = json.loads(file.read_text())
    assert written["flags"]["rounds"] == 1
    assert {"processor", "cores", "keras", "backend_version"} <= set(written)
    assert len(written["rows"]) >= 2
    for row in written["rows"]:
        assert columns <= set(row)


@needs_tensorflow  # and the extra experiments
def test_the_sizes_of_tickets(tmp_path):
    pytest.importorskip("matplotlib")
    layers = [mpt.MPTDense(30, seed=0, name="first"), mpt.MPTDense(3, seed=1)]
    model = keras.Sequential([keras.Input((20,)), *layers])
    files = [str(tmp_path / f"{epoch}.keras") for epoch in (1, 2)]
    model.save(files[0])
    layers[0].scores.assign(layers[0].scores * np.linspace(0.5, 2, 30))
    model.save(files[1])
    columns = {"what", "bound", "mask alone", "ticket", "xz", "bits per weight"}
    for options in (
        [f"--files={files[0]}"],
        [f"--files={','.join(files)}", f"--plot={tmp_path / 'bits.png'}"],
    ):
        figures = tmp_path / "figures.json"
        programs.succeed(
            "benchmarks/ticket_size.py",
            *options,
            "--rounds=1",
            f"--json={figures}",
        )
        rows = json.loads(figures.read_text())["rows"]
        assert len(rows) == (3 if len(options) == 1 else 2)
        assert columns <= set(rows[0])
    assert rows[0]["ticket"] < 20 < rows[1]["update"] < rows[1]["mask alone"]
    assert (tmp_path / "bits.png").stat().st_size > 1000


@needs_tensorflow  # and the extra experiments
def test_the_runtime_against_sparsity_and_width(tmp_path):
    pytest.importorskip("matplotlib")
    figures, plot = tmp_path / "figures.json", tmp_path / "runtime.png"
    programs.succeed(
        "benchmarks/runtime_scaling.py",
        "--networks=conv2:1/32,conv2:magnitude",
        *("--percents=50,99", "--widths=0.1", "--percent=90", "--rounds=1"),
        *(f"--plot={plot}", f"--json={figures}"),
    )
    rows = json.loads(figures.read_text())["rows"]
    assert [row["series"] for row in rows] == 2 * [
        *("sparsity", "sparsity", "width")
    ]
    kept = [row["weights kept"] for row in rows]
    assert kept[0] > 40 * kept[1] > kept[2] > 0
    assert plot.stat().st_size > 1000
