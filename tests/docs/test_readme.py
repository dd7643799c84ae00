"""README.md is short, its links lead somewhere, and its figures are those of the measured tables."""

from __future__ import annotations

import re

import pytest
from code_blocks import ROOT
from markdown_it import MarkdownIt

README = (ROOT / "README.md").read_text(encoding="utf-8")
ROW = re.compile(
    r"^\| \[`(?P<family>[\w-]+)`\]\((?P<guide>[^)]+)\) \|.*\[(?P<figures>[^\]]+)\]\((?P<table>[^)]+)\) \|$",
    re.MULTILINE,
)
LONGEST = 110  # lines, a screen and a half


def list_targets(text: str) -> list[str]:
    """Return the relative links and pictures of a Markdown text."""
    children = [
        child for token in MarkdownIt("commonmark").enable("table").parse(text) for child in token.children or ()
    ]
    targets = [str(child.attrs.get("href") or child.attrs.get("src") or "") for child in children]
    return sorted({target.partition("#")[0] for target in targets if target and "://" not in target})


def test_readme_is_a_screen_and_a_half():
    assert len(README.splitlines()) <= LONGEST


def test_continuous_integration_finds_its_two_commands():
    assert len(re.findall(r"^pip install -c constraints\.txt ", README, re.MULTILINE)) == 2


@pytest.mark.parametrize("target", list_targets(README))
def test_a_link_leads_to_a_file(target):
    assert (ROOT / target).exists(), f"README.md links to {target}, which does not exist"


def test_a_row_of_a_family_has_figures_of_its_measured_table():
    from zoo import families

    rows = {match["family"]: match for match in ROW.finditer(README)}
    assert len(rows) >= 8
    assert rows.keys() <= set(families.names())
    for family, row in rows.items():
        table = (ROOT / row["table"]).read_text(encoding="utf-8")
        figures = re.findall(r"\d\.\d+", row["figures"])
        assert len(figures) == 2, family
        assert all(figure in table for figure in figures), f"{family}: {row['table']} does not hold {figures}"
