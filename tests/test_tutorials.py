"""The tutorials are what the site's build can execute, quietly and soon.

They are executed when the site is built, not here.
"""

import ast
import re

import conftest
import pytest

FOLDER = conftest.ROOT / "docs" / "tutorials"
PAGES = sorted(
    path.stem for path in FOLDER.glob("*.md") if path.stem != "index"
)
CELL = re.compile(r"^```\{code-cell\} ipython3\n(.*?)^```$", re.M | re.S)
OPTIONS = re.compile(r"---\n[\s\S]*?\n---\n|(?::\w+:.*\n)+\n")


def text_of(page):
    return (FOLDER / f"{page}.md").read_text(encoding="utf-8")


def cells(page):
    """Pairs of a cell's options and its code, without lines of IPython."""
    for content in CELL.findall(text_of(page)):
        options = OPTIONS.match(content)
        code = content[options.end() :] if options else content
        if code.startswith("%%"):
            continue
        lines = [line for line in code.splitlines() if line[:1] not in "%!"]
        yield options[0] if options else "", ast.parse("\n".join(lines))


def calls(page):
    for _, tree in cells(page):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                yield name, {word.arg: word.value for word in node.keywords}


def test_all_are_in_the_table_of_contents():
    _, _, contents = text_of("index").partition("```{toctree}")
    listed = re.findall(r"^\w+$", contents, re.M)
    assert sorted(listed) == PAGES
    assert len(PAGES) == 8


@pytest.mark.parametrize("page", PAGES)
def test_a_page_teaches_and_leads_on(page):
    text = text_of(page)
    assert "kernelspec:" in text.partition("\n---\n")[0]
    assert list(cells(page))
    assert "## When it does not work" in text
    _, _, onwards = text.partition("## Where next")
    links = re.findall(r"\]\((\w+)\.md\)", text)
    assert set(links) <= {*PAGES}
    assert "](" in onwards
    assert "{py:" in onwards


@pytest.mark.parametrize("page", PAGES)
def test_trainings_are_short_and_silent(page):
    for name, words in calls(page):
        if name in ("fit", "evaluate", "predict") and None not in words:
            # A function of the page itself, or Keras' method.
            is_keras = words.keys() & {"epochs", "verbose", "batch_size"}
            assert not is_keras or ast.unparse(words["verbose"]) == "0", page
        epochs = words.get("epochs")
        if isinstance(epochs, ast.Constant):
            assert epochs.value <= 10


@pytest.mark.parametrize("page", PAGES)
def test_pictures_have_words(page):
    drawing = re.compile(r"\bplt\.subplots|\bdraw_\w+\(|\bImage\(")
    for options, tree in cells(page):
        if drawing.search(ast.unparse(tree)):
            assert "alt:" in options
