"""Every code block of README.md and of the docs runs, or says above itself why not."""

from __future__ import annotations

from collections import Counter

import code_blocks
import pytest

PAGES = [
    pytest.param(
        page,
        id=str(page.relative_to(code_blocks.ROOT)),
        marks=[pytest.mark.slow] if code_blocks.is_slow(page) else [],
    )
    for page in code_blocks.list_pages()
    if code_blocks.read_blocks(page)
]


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run(page, hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    counts = code_blocks.run_page(page, tmp_path)
    assert counts == Counter(block.fate for block in code_blocks.read_blocks(page))


@pytest.mark.parametrize("page", PAGES)
def test_a_block_that_is_not_run_says_why(page):
    for block in code_blocks.read_blocks(page):
        assert block.notes.get("not run") != "", f"{block.place}: `not run:` needs a reason"


PAGE = """
# A page

<!-- file: a/rows.csv -->
```csv
text
one
```

```python
from pathlib import Path
rows = Path("a/rows.csv").read_text().split()
```

```python
assert rows == ["text", "one"]
```

<!-- not run: needs the Hub -->
```bash
zoo push model me/model
```

```bash
# a comment
zoo list
cp a/rows.csv \\
  b.csv
```
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the blocks of a text as those of a page."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(code_blocks, "ROOT", tmp_path)

    def run_text(text: str) -> Counter[str]:
        page = tmp_path / "page.md"
        page.write_text(text, encoding="utf-8")
        return code_blocks.run_page(page, tmp_path)

    return run_text


def test_blocks_are_written_run_in_order_and_counted(run, tmp_path):
    assert run(PAGE) == {"written": 1, "run": 3, "not run": 1}
    assert (tmp_path / "b.csv").read_text() == "text\none\n"


@pytest.mark.parametrize(
    "block",
    [
        "```python\n1 / 0\n```",
        "```bash\nzoo show nothing-of-that-name\n```",
        "```bash\nzoo no-verb\n```",
        "```bash\nfalse\ntrue\n```",
        "```yaml\nname: x\nencoder: {family: static}\n```",
        "```yaml\ntraining: {epoch: 3}\n```",
        "```yaml\nencoder: {family: static, lr: 3}\n```",
        "```yaml\n- {task: sts, view: []}\n```",
        "```yaml\nnonsense: 3\n```",
        "```json\n{\n```",
    ],
)
def test_a_mistake_in_a_block_is_found(run, block):
    with pytest.raises(AssertionError, match=r"page\.md:1"):
        run(block)
    run(f"<!-- fails -->\n{block}")


def test_a_block_that_fails_no_longer_is_found(run):
    with pytest.raises(AssertionError, match="but it runs"):
        run("<!-- fails -->\n```python\n1 + 1\n```")


def test_an_unknown_language_is_refused(run):
    with pytest.raises(ValueError, match="pyhton"):
        run("```pyhton\n1\n```")


@pytest.mark.parametrize(
    "block", ["training: {epochs: 3}", "data: {source: file, path: a.csv}", "[{task: STSBenchmark}]"]
)
def test_parts_of_recipes_are_validated(run, block):
    assert run(f"```yaml\n{block}\n```") == {"validated": 1}
