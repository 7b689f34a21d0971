"""The documentation's sources: names, snippets and links. It is not built."""

import collections
import inspect
import os
import pkgutil
import re
import runpy

import conftest
import keras
import numpy as np
import pytest
import test_package

import mpt_keras as mpt

DOCS = conftest.ROOT / "docs"
_DIRECTIVE = re.compile(r"^\.\. auto\w+:: mpt_keras\.(\S+)$", re.MULTILINE)
_DATA = re.compile(
    r"^\.\. py:data:: (\w+)\n   :module: mpt_keras\.(\S+)$", re.MULTILINE
)
_SNIPPET = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^):#\s]+)(?:#[^)\s]*)?\)")
_NAME = re.compile(r"\bmpt(?:_keras)?\.((?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*)")
_CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_OF_SETTINGS = ("experiments.published",)
_COLOURED = ("larq.md", "biprop.md")
DOCUMENTS = [
    *sorted(conftest.ROOT.glob("*.md")),
    *sorted(DOCS.glob("*.md")),
    *sorted(DOCS.glob("[!_]*/*.md")),
]
SNIPPETS = [
    conftest.ROOT / "README.md",
    DOCS / "index.md",
    *sorted((DOCS / "migration").glob("*.md")),
]


@pytest.fixture(scope="module")
def public_names():
    path = DOCS / "_extensions" / "public_names.py"
    return runpy.run_path(str(path))["public_names"]()


def test_the_reference_has_every_public_name_once(public_names):
    pages = (DOCS / "reference").glob("*.md")
    text = "\n".join(path.read_text(encoding="utf-8") for path in pages)
    data = (f"{module}.{name}" for name, module in _DATA.findall(text))
    counts = collections.Counter([*_DIRECTIVE.findall(text), *data])
    missing = sorted(public_names.keys() - counts.keys())
    assert missing == [], "add them to docs/reference"
    # Others are what these return.
    assert set(counts.values()) == {1}


def test_public_names_are_all_that_the_tests_know(public_names):
    known = {id(found) for found in public_names.values()}
    for name in test_package.PUBLIC_NAMES:
        assert id(test_package.resolve(name)) in known, name


def test_public_modules_say_what_is_public(public_names):
    # Else nobody would miss a name of theirs in the reference.
    for name, found in public_names.items():
        if inspect.ismodule(found) and name not in ("larq", *_OF_SETTINGS):
            assert hasattr(found, "__all__") or hasattr(found, "__path__")


@pytest.mark.parametrize("path", SNIPPETS, ids=lambda path: path.name)
def test_snippets_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shape = (32, 32, 3) if path.name in _COLOURED else (28, 28, 1)
    random = np.random.default_rng(0)
    namespace = {
        "images": random.random((16, *shape), "float32"),
        "labels": random.integers(10, size=16),
        **{"keras": keras, "mpt": mpt},
    }
    for snippet in _SNIPPET.findall(path.read_text(encoding="utf-8")):
        exec(compile(snippet, str(path), "exec"), namespace)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_name_what_there_is(path):
    for name in set(_NAME.findall(path.read_text(encoding="utf-8"))):
        if not name.startswith("larq."):  # which may not be installed
            assert pkgutil.resolve_name(f"mpt_keras.{name}"), name


def test_the_readme_has_the_address_of_the_site():
    settings = (conftest.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    address = re.search('^Documentation = "(.*)"$', settings, re.MULTILINE)[1]
    readme = (conftest.ROOT / "README.md").read_text(encoding="utf-8")
    assert f"]({address})" in readme


def test_links_of_documents_lead_somewhere():
    for document in DOCUMENTS:
        text = _CODE.sub("", document.read_text(encoding="utf-8"))
        for link in _LINK.findall(text):
            target = os.path.normpath(document.parent / link)
            assert os.path.exists(target), f"{document}: {link}"  # noqa: PTH110


def test_links_that_lead_nowhere_are_found(tmp_path):
    pytest.importorskip("bs4", reason="needs the extra docs")
    problems = runpy.run_path(str(DOCS / "check_links.py"))["problems"]
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "index.html").write_text('<p id="there">')
    (tmp_path / "a.html").write_text(
        '<a href="folder/#there"></a><a href="folder#gone"></a>'
        '<a href="b.html"></a><a href="../c.html"></a><a href="#"></a>'
        '<a href="https://example.org"></a><img src="data:,">'
        '<script src="https://example.org/a.js"></script>'
    )
    assert [*problems(tmp_path)] == [
        "a.html: folder#gone: no such anchor",
        "a.html: b.html: no such file",
        "a.html: ../c.html: no such file",
        "a.html: https://example.org/a.js: is loaded from elsewhere",
    ]
