"""Run the notebooks of this folder, and write each as a page with its outputs and pictures.

    python docs/notebooks/execute.py [NAME…]

A notebook is a Python script in the percent format, which Jupyter and editors open: `# %%` begins a cell of code, and
`# %% [markdown]` a cell of text. The page `NAME.md` holds the cells, the printed output of each, and its figures as `NAME-1.png` and
so on. A figure's alternative text is the comment `# alt: …` of its cell.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
ALT = re.compile(r"^# alt: (.*)$", re.MULTILINE)


class Cell(NamedTuple):
    """A cell of text or of code."""

    is_text: bool
    content: str


def list_notebooks() -> list[Path]:
    """Return the scripts of this folder that are notebooks."""
    return [path for path in sorted(HERE.glob("*.py")) if path.name != "execute.py"]


def read_cells(script: Path) -> list[Cell]:
    """Split a script into its cells."""
    parts = re.split(r"^# %%(.*)\n", script.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    cells = []
    for head, content in zip(parts[::2], parts[1::2], strict=True):
        is_text = "[markdown]" in head
        text = re.sub(r"^# ?", "", content, flags=re.MULTILINE) if is_text else content
        cells.append(Cell(is_text, text.strip("\n")))
    return cells


def run_cells(cells: list[Cell], pictures: Path, stem: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """Run the code of all cells in the working directory.

    Return for each cell what it printed, and the file name and the alternative text of each of its figures.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    pyplot.close("all")
    names: dict[str, Any] = {"__name__": "__main__"}
    outputs = []
    count = 0
    for cell in cells:
        printed = io.StringIO()
        if not cell.is_text:
            with contextlib.redirect_stdout(printed):
                exec(compile(cell.content, f"{stem}.py", "exec"), names)
        drawn = []
        for number in pyplot.get_fignums():
            count += 1
            file = f"{stem}-{count}.png"
            pyplot.figure(number).savefig(pictures / file, dpi=110, bbox_inches="tight", metadata={"Software": None})
            alt = ALT.search(cell.content)
            drawn.append((file, alt[1] if alt else ""))
        pyplot.close("all")
        outputs.append((printed.getvalue(), drawn))
    return outputs


def write_page(script: Path) -> None:
    """Run one notebook in a temporary folder, and write its page and its pictures."""
    cells = read_cells(script)
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            outputs = run_cells(cells, HERE, script.stem)
        finally:
            os.chdir(before)
    parts = []
    for cell, (printed, drawn) in zip(cells, outputs, strict=True):
        parts.append(cell.content if cell.is_text else f"```python\n{cell.content}\n```")
        parts += [f"```text\n{printed.rstrip()}\n```"] if printed.strip() else []
        parts += [f"![{alt}]({file})" for file, alt in drawn]
    note = f"<!-- Written by `python docs/notebooks/execute.py {script.stem}` from {script.name}. -->\n<!-- slow -->"
    (HERE / f"{script.stem}.md").write_text("\n\n".join([parts[0], note, *parts[1:]]) + "\n", encoding="utf-8")


def main() -> None:
    """Write the pages of the notebooks that the command line names, or of all."""
    for script in list_notebooks():
        if len(sys.argv) == 1 or script.stem in sys.argv[1:]:
            write_page(script)


if __name__ == "__main__":
    main()
