"""Settings of the documentation site: `sphinx-build -W --keep-going -b html docs docs/_build`."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_extensions")]

from zoo import __version__  # noqa: E402

project = "zoo"
author = "the authors of zoo"
release = version = __version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "reference_pages",
    "project_pages",
]

root_doc = "index"
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "notebooks/_*"]
myst_heading_anchors = 4
smartquotes = False

# Docstrings are written in plain text: single backquotes are code.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
add_module_names = False

html_theme = "furo"
html_title = f"zoo {__version__}"
html_static_path = ["_static"]
html_css_files = ["zoo.css"]
html_theme_options = {"sidebar_hide_name": False}
html_show_sphinx = False
html_copy_source = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"
copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True
