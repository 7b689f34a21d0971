"""The benchmarks run and write what they say; nothing here looks at a time."""

import json

import programs
import pytest
from backend import needs_tensorflow


@needs_tensorflow  # and the extra examples
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
