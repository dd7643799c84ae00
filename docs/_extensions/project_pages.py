"""Shows files of the project's root, such as CONTRIBUTING.md, as pages, and leaves empty sections out of the index."""

from __future__ import annotations

import fnmatch
import re
import shutil
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

FILES = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
GLOB = re.compile(r"[\w/-]+\*$")
EMPTY_SECTION = re.compile(r"```\{toctree\}\n(:.*\n)*\n?```\n")


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the pages before Sphinx looks for them."""
    app.connect("builder-inited", _write_pages)
    app.connect("source-read", _drop_empty_globs)
    return {"parallel_read_safe": True}


def _write_pages(app: Sphinx) -> None:
    root = Path(app.srcdir).parent
    folder = Path(app.srcdir) / "project"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in FILES:
        if (root / name).is_file():
            text = (root / name).read_text(encoding="utf-8")
            (folder / name.lower()).write_text(move_links(text), encoding="utf-8")


def _drop_empty_globs(app: Sphinx, name: str, source: list[str]) -> None:
    """Drop the globs of the index that no page matches, because Sphinx would warn of them."""
    if name == "index":
        found = app.env.found_docs
        lines = source[0].splitlines(keepends=True)
        kept = [line for line in lines if not GLOB.match(line) or fnmatch.filter(found, line.strip())]
        source[0] = EMPTY_SECTION.sub("", "".join(kept))


def move_links(text: str) -> str:
    """Links that start at the root start at a page's folder: `docs/x.md` becomes `../x.md`."""
    for name in FILES:
        text = text.replace(f"]({name})", f"]({name.lower()})")
    return text.replace("](docs/", "](../")
