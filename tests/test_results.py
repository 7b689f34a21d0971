"""The tables of the results are what the committed lines say."""

import json

import conftest
import pytest

from mpt_keras.experiments.document import update_document
from mpt_keras.experiments.errors import RunError

BEGIN = "<!-- table: lines/a.jsonl -->\n"
END = "<!-- end -->\n"
TABLE = """
| method | pruned | seeds | last test accuracy % |
| --- | ---: | ---: | ---: |
| one_shot | 50 % | 2 | 62.50 ± 17.68 |

"""


def test_the_tables_are_those_of_the_lines():
    path = conftest.ROOT / "docs" / "results.md"
    assert "<!-- table: " in path.read_text(encoding="utf-8")
    assert update_document(path, check=True) == []


def test_every_file_of_lines_has_a_table():
    docs = conftest.ROOT / "docs"
    text = (docs / "results.md").read_text(encoding="utf-8")
    for file in (docs / "results").iterdir():
        assert f"<!-- table: results/{file.name} " in text


@pytest.fixture
def document(tmp_path):
    """Writes a document beside a file of lines; returns its path."""
    (tmp_path / "lines").mkdir()
    lines = [
        {
            **{"method": "one_shot", "sparsity": 0.5, "seed": seed},
            "folder": f"one_shot-0.5-seed{seed}",
            **{"model": "net", "data": "noise", "test_accuracy": accuracy},
        }
        for seed, accuracy in enumerate([0.5, 0.75])
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "lines" / "a.jsonl").write_text(text)

    def write(text):
        path = tmp_path / "results.md"
        path.write_text(text)
        return path

    return write


def test_a_document_is_filled(document):
    text = f"Before.\n\n{BEGIN}what was there\n{END}\nAfter, without an end"
    path = document(text)
    assert update_document(path, check=True) == [BEGIN.strip()]
    assert path.read_text() == text
    assert update_document(path) == [BEGIN.strip()]
    filled = f"Before.\n\n{BEGIN}{TABLE}{END}\nAfter, without an end"
    assert path.read_text() == filled
    assert update_document(path) == update_document(path, check=True) == []
    assert path.read_text() == filled


def test_only_what_changed_is_named(document):
    other = BEGIN.replace(" -->", " columns=last -->")
    path = document(f"{BEGIN}{TABLE}{END}{other}{END}    {BEGIN}")
    assert update_document(path) == [other.strip()]
    last = "| last test accuracy % |\n| --- |\n| 62.50 ± 17.68 |"
    text = f"{BEGIN}{TABLE}{END}{other}\n{last}\n\n{END}    {BEGIN}"
    assert path.read_text() == text


def test_rows_and_columns(document):
    begin = BEGIN.replace(" -->", " rows=model,seed across=method -->")
    path = document(begin + END)
    update_document(path)
    assert path.read_text().splitlines()[2:6] == [
        "| model | seed | one_shot |",
        "| --- | ---: | ---: |",
        "| net | 0 | 50.00 |",
        "| net | 1 | 75.00 |",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{BEGIN}{BEGIN}{END}", "Line 2 of .*in turn"),
        (f"{BEGIN}{END}{END}", "Line 3 of .*in turn"),
        (BEGIN, "no '<!-- end -->' after"),
        (f"<!-- table: -->\n{END}", "expected '<!-- table: FILE NAME=VALUE"),
        (f"<!-- table: a.jsonl row=a -->\n{END}", "Received: .* row=a"),
        (f"<!-- table: a.jsonl rows -->\n{END}", "Received: .* rows "),
        (f"<!-- table: a.jsonl -->\n{END}", r"no lines in '.*a.jsonl'"),
        (
            f"<!-- table: lines/a.jsonl columns=much -->\n{END}",
            "results.md', .*: No column 'much'",
        ),
        (
            f"<!-- table: lines/a.jsonl baseline=dense -->\n{END}",
            "baseline=dense: no finished run of it",
        ),
    ],
)
def test_what_cannot_be_understood(text, expected, document):
    path = document(text)
    with pytest.raises(RunError, match=expected):
        update_document(path)
    assert path.read_text() == text


def test_a_document_that_is_none(tmp_path):
    with pytest.raises(RunError, match="Cannot update"):
        update_document(tmp_path / "missing.md")
