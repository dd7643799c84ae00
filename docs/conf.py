"""Settings of the documentation site: `sphinx-build -W --keep-going -b html docs docs/_build`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_extensions")]

from pygments.lexers.special import TextLexer  # noqa: E402
from sphinx.application import Sphinx  # noqa: E402

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
exclude_patterns = ["_build"]
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
html_show_copyright = False
html_copy_source = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"
copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True


SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Yields|Note|Example)s?:$")
ENTRY = re.compile(r"\s+([\w`, *]+): ")


def mark_up_docstring(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Turn indented blocks, which docstrings write without markup, into lists of entries or into examples."""
    shown: list[str] = []
    is_list = False
    for number, line in enumerate(lines):
        opens = line.endswith(":") and not line.startswith((" ", "-")) and not SECTION.match(line)
        following = next((later for later in lines[number + 1 :] if later), "")
        if opens and following.startswith(" "):
            is_list = bool(ENTRY.match(following))
            shown += [line, ""] if is_list else [line + ":", ""]
        elif is_list and (entry := ENTRY.match(line)) and line.startswith("    ") and line[4:5].strip():
            shown.append(f"* ``{entry[1]}``: {line[entry.end() :]}")
        elif is_list and line.startswith("    "):
            shown.append(f"  {line.strip()}")
        else:
            is_list = is_list and not line
            shown.append(line)
    # In the first line of a property napoleon would take the words before a colon for its type.
    lines[:] = ["", *shown] if what == "property" else shown


def setup(app: Sphinx) -> None:
    """Show tables as plain text, because Pygments has no colours for them, and mark up docstrings before napoleon reads them."""
    for language in ("csv", "tsv", "jsonl"):
        app.add_lexer(language, TextLexer)
    app.connect("autodoc-process-docstring", mark_up_docstring, priority=100)
