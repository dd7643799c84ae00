"""The reference is made from the schema and the parser: it names every field, task and verb, and words are no markup."""

from __future__ import annotations

import sys

import code_blocks
import pytest

from zoo import families
from zoo.evaluation import tasks

pytest.importorskip("sphinx")
sys.path.insert(0, str(code_blocks.ROOT / "docs" / "_extensions"))
import project_pages
import reference_pages


@pytest.mark.parametrize("family", families.names())
def test_a_family_has_all_its_fields_and_views(family):
    text = reference_pages.write_families().split(f"## {family}\n")[1].split("\n## ")[0]
    spec = families.load_spec(family)
    for field in [*spec.model_fields, *spec.View.model_fields]:
        assert f"| `{field}` |" in text
    for name in spec.training_defaults:
        assert f"`{name}: " in text


def test_every_task_and_every_section_of_the_recipe_has_a_heading():
    text = reference_pages.write_tasks()
    assert all(f"## `task: {name}`\n" in text for name in tasks.names())
    assert all(f"`{title}`\n" in reference_pages.write_recipe() for title in reference_pages.TITLES.values())


def test_every_verb_has_a_heading_and_every_argument_a_meaning():
    text = reference_pages.write_commands()
    assert text.count("## `zoo ") >= 12
    assert "## `zoo explain`" in text, "the verb of a family"
    assert not [line for line in text.splitlines() if line.endswith("|  |")]


def test_a_link_leads_to_a_section_that_is_written():
    text = "".join(write() for write in reference_pages.WRITERS.values())
    targets = {part.split(")")[0] for part in text.split("](#")[1:]}
    assert targets
    assert all(f"({target})=" in text for target in targets)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 50}, "integer from 1 to 50"),
        ({"type": "number", "minimum": 0, "exclusiveMaximum": 1}, "number ≥ 0 and < 1"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "integer or null"),
        ({"type": "array", "items": {"type": "string"}}, "list of text"),
        ({"enum": ["a", "b"]}, "`a` or `b`"),
        ({"type": "integer", "maximum": 4294967296}, "integer ≤ 2^32"),
        ({}, "any value"),
    ],
)
def test_a_type_is_said_in_words(schema, words):
    assert reference_pages.describe_type(schema) == words


def test_markup_is_escaped_but_code_is_not():
    assert reference_pages.escape("a_b *c* `d_e` [f]") == r"a\_b \*c\* `d_e` \[f\]"
    assert r"| `a\|b` |" in reference_pages.make_table(("x",), [("`a|b`",)])


def test_links_of_a_file_at_the_root_are_moved_with_it():
    text = "[a](docs/writing.md) [b](CHANGELOG.md) [c](https://x.org)"
    assert project_pages.move_links(text) == "[a](../writing.md) [b](changelog.md) [c](https://x.org)"
