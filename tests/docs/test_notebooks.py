"""The pages of the notebooks are those of their scripts. `test_code_blocks.py` runs their code."""

from __future__ import annotations

import re
import sys

import code_blocks
import pytest

FOLDER = code_blocks.ROOT / "docs" / "notebooks"
sys.path.insert(0, str(FOLDER))
import execute  # noqa: E402

NOTEBOOKS = execute.list_notebooks()


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 3


@pytest.mark.parametrize("script", NOTEBOOKS, ids=lambda script: script.stem)
def test_a_page_has_the_cells_of_its_script(script):
    page = FOLDER / f"{script.stem}.md"
    cells = execute.read_cells(script)
    shown = [block.text.strip("\n") for block in code_blocks.read_blocks(page) if block.language == "python"]
    assert shown == [cell.content for cell in cells if not cell.is_text], "run python docs/notebooks/execute.py"
    text = page.read_text(encoding="utf-8")
    assert all(cell.content in text for cell in cells if cell.is_text)


@pytest.mark.parametrize("script", NOTEBOOKS, ids=lambda script: script.stem)
def test_a_picture_exists_and_says_in_words_what_it_shows(script):
    pictures = re.findall(r"!\[(.*?)\]\((.*?)\)", (FOLDER / f"{script.stem}.md").read_text(encoding="utf-8"))
    assert pictures
    for alt, file in pictures:
        assert len(alt.split()) > 5
        assert (FOLDER / file).is_file()


SCRIPT = """# %% [markdown]
# # A title
#
# A text.

# %%
print("one")
import matplotlib.pyplot as plt

# %%
# alt: two bars of which the second is twice as high
plt.bar(["a", "b"], [1, 2])
"""


def test_cells_are_run_in_order_with_their_outputs_and_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "HERE", tmp_path)
    (tmp_path / "small.py").write_text(SCRIPT)
    execute.write_page(tmp_path / "small.py")
    page = (tmp_path / "small.md").read_text()
    assert page.startswith("# A title\n\nA text.\n\n<!-- Written by")
    assert '```python\nprint("one")' in page
    assert "```text\none\n```" in page
    assert page.endswith("![two bars of which the second is twice as high](small-1.png)\n")
    assert (tmp_path / "small-1.png").read_bytes().startswith(b"\x89PNG")
