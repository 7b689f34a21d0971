"""Notebooks of the pages that are executed: to download, and for Colab.

A page with a kernel is written beside its HTML as a notebook without outputs,
whose first cell installs the package and whose links lead to the site. Colab
opens it from the branch that holds the built site.
"""

import functools
import pathlib
import posixpath
import re

import jupytext
import nbformat

_LINK = re.compile(r"\[([^\]\n]*)\]\((?![a-z]+:)([^)\s#]+)\.md(#[^)\s]*)?\)")
_ROLE = re.compile(r"\{py:\w+\}`([\w.]+)`")


@functools.cache
def _source(path):
    """The notebook of a page, or None."""
    if path.suffix != ".md":
        return None
    text = path.read_text(encoding="utf-8")
    front, _, _ = text.removeprefix("---\n").partition("\n---\n")
    if not text.startswith("---\n") or "kernelspec:" not in front:
        return None
    return jupytext.reads(text, fmt="md:myst")


def _notebook(app, docname):
    source = _source(pathlib.Path(app.env.doc2path(docname)))
    if source is None:
        return None
    install = nbformat.v4.new_code_cell(
        f"%pip install -q {app.config.notebooks_install}"
    )
    notebook = nbformat.v4.new_notebook(
        metadata={"kernelspec": source.metadata["kernelspec"]}
    )
    notebook.cells = [install, *source.cells]
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"  # the same in every build
        if cell.cell_type == "markdown":
            page = functools.partial(_link_to_page, app, docname)
            name = functools.partial(_link_to_name, app)
            cell.source = _ROLE.sub(name, _LINK.sub(page, cell.source))
    return notebook


def _link_to_page(app, docname, link):
    text, page, anchor = link.groups()
    page = posixpath.normpath(posixpath.join(posixpath.dirname(docname), page))
    text = text or app.env.titles[page].astext()
    return f"[{text}]({app.config.html_baseurl}{page}.html{anchor or ''})"


def _link_to_name(app, role):
    name = role[1]
    place = app.env.domaindata["py"]["objects"].get(name)
    if place is None:
        return f"`{name}`"
    address = f"{app.config.html_baseurl}{place.docname}.html#{place.node_id}"
    return f"[`{name}`]({address})"


def _buttons(app, pagename, templatename, context, doctree):
    if doctree is None or _notebook(app, pagename) is None:
        return
    repository = app.config.notebooks_repository.removeprefix(
        "https://github.com/"
    )
    context["notebook"] = f"{posixpath.basename(pagename)}.ipynb"
    context["colab"] = (
        "https://colab.research.google.com/github/"
        f"{repository}/blob/{app.config.notebooks_branch}/{pagename}.ipynb"
    )


def _write(app):
    for docname in sorted(app.env.found_docs):
        notebook = _notebook(app, docname)
        if notebook is not None:
            path = pathlib.Path(app.outdir, f"{docname}.ipynb")
            path.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(notebook, path)
    return ()


def setup(app):
    app.add_config_value("notebooks_repository", "", "html")
    app.add_config_value("notebooks_branch", "gh-pages", "html")
    app.add_config_value("notebooks_install", "mpt_keras", "html")
    app.connect("html-page-context", _buttons)
    app.connect("html-collect-pages", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
