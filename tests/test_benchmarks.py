"""The benchmarks run and write what they say; nothing here looks at a time."""

import json
import pathlib
import subprocess

import keras
import numpy as np
import programs
import pytest
from backend import needs_litert, needs_tensorflow
from conftest import ROOT

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
        pytest.param(
            [
                *("runtime.py", "--width=0.1"),
                "--networks=conv2:1/32:80,conv2:magnitude:90",
            ],
            {"network", "what", "bytes", "difference", "this / runtime"},
            marks=needs_litert,
        ),
        pytest.param(
            [
                *("runtime_start.py", "--width=0.1", "--beside=litert"),
                "--networks=conv2:1/32:80",
            ],
            {"what", "first answer s", "load s", "answered MB", "packed MB"},
            marks=needs_litert,
        ),
        (
            ["memory.py", "--batch_size=2"],
            {"what", "variables MB", "lent beyond plain, in kernels"},
        ),
        (
            ["eager_call.py"],
            {"what", "ms per call", "against frozen", "first call s"},
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
        "--rounds=1",
        "--warmup=1",
        *options,
        f"--json={file}",
    )
    written = json.loads(file.read_text())
    assert written["flags"]["rounds"] == 1
    assert {"processor", "cores", "keras", "backend_version"} <= set(written)
    assert len(written["rows"]) >= 2
    for row in written["rows"]:
        assert columns <= set(row)


class Processes:
    """Stands for `subprocess.run`: answers in turn, and keeps what was asked.

    Args:
        answers: Dictionary, a word of a command -> list of pairs, the exit
            status and what is printed.
    """

    def __init__(self, **answers):
        self.answers = {word: iter(pairs) for word, pairs in answers.items()}
        self.asked = []

    def __call__(self, words, env=None, **_):
        words = [pathlib.Path(word).name for word in words]
        self.asked.append((words, env))
        (pairs,) = (
            self.answers[word] for word in words if word in self.answers
        )
        status, printed = next(pairs)
        return subprocess.CompletedProcess(words, status, printed, "an error")


@needs_tensorflow  # and the extra experiments
def test_all_of_them_add_lines_to_a_file(tmp_path):
    file = tmp_path / "figures.jsonl"
    file.write_text("{}\n")
    printed = programs.succeed(
        "benchmarks/all.py",
        *(f"--lines={file}", "--only=drawing", "--", "--weights=10000"),
        "--initializers=KaimingNormal",
    )
    assert "[1/1] drawing --rounds=1 --warmup=0 --weights=10000" in printed
    before, line = map(json.loads, file.read_text().splitlines())
    assert before == {}
    assert line["benchmark"] == "drawing"
    assert line["flags"]["weights"] == 10_000
    assert {"processor", "cores", "backend"} <= set(line)
    assert line["row"]["what"] == "KaimingNormal"
    assert line["row"]["s"] > 0


def test_all_of_them_go_on_where_one_fails(monkeypatch):
    processes = Processes(
        **{"drawing.py": [(1, "")], "selection.py": [(0, "a table\n")]}
    )
    monkeypatch.setattr(subprocess, "run", processes)
    status, printed, _ = programs.run(
        "benchmarks/all.py", "--only=drawing,selection", "--", "--rounds=2"
    )
    assert status.splitlines() == [
        *("Failed:", "drawing --rounds=1 --warmup=0 --rounds=2")
    ]
    assert "a table" in printed
    assert "an error" in printed
    assert len(processes.asked) == 2
    error = programs.fail("benchmarks/all.py", "--only=elsewhere")
    assert "Expected some of drawing, eager_call, engines" in error


def test_all_of_them_are_there():
    with programs.modules_of(ROOT / "benchmarks"):
        import all as all_benchmarks
    for name, *_ in all_benchmarks._COMMANDS:
        assert (ROOT / "benchmarks" / f"{name}.py").exists()


@needs_tensorflow  # and the extra experiments
def test_the_first_step_beyond_the_plain_one(monkeypatch, tmp_path):
    def answers(*firsts):
        return [
            (0, json.dumps({"first": first, "tracing": 1.0, "second": 0.5}))
            for first in firsts
        ]

    # A round to warm up, then three.
    processes = Processes(
        **{
            "--measure=plain": answers(9.0, 1.0, 2.0, 4.0),
            "--measure=masked": answers(9.0, 3.0, 7.0, 5.0),
        }
    )
    monkeypatch.setattr(subprocess, "run", processes)
    file = tmp_path / "figures.json"
    programs.succeed(
        "benchmarks/first_step.py",
        *("--rounds=3", "--warmup=1", "--nowithout_xla", f"--json={file}"),
    )
    plain, masked = json.loads(file.read_text())["rows"]
    assert (plain["first step s"], plain["beyond plain s"]) == (2.0, 0.0)
    assert (masked["first step s"], masked["beyond plain s"]) == (5.0, 2.0)
    assert masked["against plain"] == 3.0
    assert (masked["tracing s"], masked["second step s"]) == (1.0, 0.5)


@needs_tensorflow  # and the extra experiments
def test_the_first_step_of_a_process():
    printed = programs.succeed(
        "benchmarks/first_step.py",
        *("--network=dense", "--batch_size=2", "--measure=masked"),
    )
    found = json.loads(printed)
    assert found["first"] > found["tracing"] > 0
    assert found["second"] > 0


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("name", "count"), [("mobilenet_v2", 53), ("transformer_block", 7)]
)
def test_the_converted_network_is_masked_in_all_of_its_kernels(
    name, count, masked
):
    with programs.modules_of(ROOT / "benchmarks"):
        import networks

        model = networks.build(name, masked)
        with pytest.raises(ValueError, match="no binary activations"):
            networks.build(name, masked, binary_activations=True)
    kernels = [w for w in model.weights if w.path.endswith("kernel")]
    assert len(kernels) == count
    assert len(mpt.masked_layers(model)) == (len(kernels) if masked else 0)
    assert model.output_shape == (None, 10)


@needs_tensorflow  # and the extra experiments
def test_the_sizes_of_tickets(tmp_path):
    layers = [mpt.MPTDense(30, seed=0, name="first"), mpt.MPTDense(3, seed=1)]
    model = keras.Sequential([keras.Input((20,)), *layers])
    files = [str(tmp_path / f"{epoch}.keras") for epoch in (1, 2)]
    model.save(files[0])
    layers[0].scores.assign(layers[0].scores * np.linspace(0.5, 2, 30))
    model.save(files[1])
    columns = {"what", "bound", "mask alone", "ticket", "xz", "bits per weight"}
    for options in (
        [f"--files={files[0]}"],
        [f"--files={','.join(files)}"],
    ):
        figures = tmp_path / "figures.json"
        programs.succeed(
            "benchmarks/ticket_size.py",
            *options,
            "--rounds=1",
            f"--json={figures}",
        )
        rows = json.loads(figures.read_text())["rows"]
        assert len(rows) == (2 if "," in options[0] else 3)
        assert columns <= set(rows[0])
    assert rows[0]["ticket"] < 20 < rows[1]["update"] < rows[1]["mask alone"]


@needs_tensorflow  # and the extra experiments
def test_the_runtime_against_sparsity_and_width(tmp_path):
    figures = tmp_path / "figures.json"
    programs.succeed(
        "benchmarks/runtime_scaling.py",
        "--networks=conv2:1/32,conv2:magnitude",
        *("--percents=50,99", "--widths=0.1", "--percent=90", "--rounds=1"),
        f"--json={figures}",
    )
    rows = json.loads(figures.read_text())["rows"]
    assert [row["series"] for row in rows] == 2 * [
        *("sparsity", "sparsity", "width")
    ]
    kept = [row["weights kept"] for row in rows]
    assert kept[0] > 40 * kept[1] > kept[2] > 0
