"""The site: `python -m sphinx -M html docs docs/_build -W --keep-going`."""

import importlib
import os
import pathlib
import sys

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))
# What TensorFlow says of itself belongs neither here nor into outputs.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
importlib.import_module("keras")  # else autodoc imports all of it twice

_PROJECT = tomllib.loads(
    (HERE.parent / "pyproject.toml").read_text(encoding="utf-8")
)["project"]
_SOURCE = _PROJECT["urls"]["Source"]

project = _PROJECT["name"]
author = "The mpt_keras authors"
version = release = _PROJECT["version"]
copyright = author  # no year: the same site from the same sources

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.githubpages",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "browser_page",
    "notebooks",
    "public_names",
]
exclude_patterns = ["_build", "browser", "pictures", "results"]
nitpicky = True
# What other projects define has no page here: no inventory is fetched.
nitpick_ignore_regex = [
    ("py:.*", r"(?!mpt_keras\b).*"),
    ("py:obj", "(?s).*"),  # code in backticks
    # Of classes that have no place in the reference.
    ("py:class", r"mpt_keras\.(drawing|frozen_part)\..*"),
    ("py:class", r"mpt_keras\.(experiments\.groups|runtime\.operations)\..*"),
]
highlight_language = "none"

# Sources
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "cache"  # in _build, so that a second build is quick
nb_execution_show_tb = True  # one that fails is a warning, and so an error
nb_execution_timeout = 240
nb_execution_in_temp = True  # notebooks write files
nb_merge_streams = True
nb_output_stderr = "warn"  # nothing goes there that a reader should see

# Docstrings. A name in backticks is a link where it is one of ours.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 72
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_custom_sections = ["Input shape", "Output shape", "Reference"]

# Pages
html_theme = "furo"
html_title = "mpt_keras"
html_baseurl = _PROJECT["urls"]["Documentation"]
html_static_path = ["_static"]
html_css_files = ["site.css"]
templates_path = ["_templates"]
html_copy_source = False
html_theme_options = {
    "source_repository": _SOURCE,
    "source_branch": "main",
    "source_directory": "docs/",
    "top_of_page_buttons": ["view"],
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
notebooks_repository = _SOURCE
notebooks_install = (
    f'"mpt_keras[tensorflow,experiments,litert,onnx] @ git+{_SOURCE}"'
)
