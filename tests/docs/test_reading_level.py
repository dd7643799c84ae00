"""README, docs, messages and cards are easy to read, as benchmarks/reading_level.py measures it."""

from __future__ import annotations

import sys

import pytest
from code_blocks import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import reading_level


@pytest.mark.parametrize("part", reading_level.PARTS)
def test_a_part_is_below_the_limits(part):
    problems = reading_level.list_problems(list(reading_level.PARTS[part]()))
    assert not problems, "\n".join(problems)


def count_words(text: str) -> list[int]:
    return [sentence.words for sentence in reading_level.read_markdown(text, "page")]


def test_sentences_are_those_of_paragraphs_items_and_cells():
    assert count_words(
        "# A heading of some words\n\nOne two three four. Five six seven eight nine! `a b` is one word."
    ) == [4, 5, 4]
    assert count_words("- one two three four\n- one two three four five\n") == [4, 5]
    assert count_words("| a | b |\n|---|---|\n| one two three four five | x |\n") == [5]
    assert count_words("```python\none = two + three + four + five\n```") == []
    assert count_words("See e.g. Smith et al. 2017 and No. 5 for more of it.") == [13]


def test_docstrings_are_split_at_items_and_entries():
    text = """Do one thing well and say so.

    Args:
        a, b: two numbers that are added to each other.
        c: a third one of the same kind.

    An example that is left out:

        python example.py with many many words
    """
    assert [s.words for s in reading_level.read_docstring(text, "x")] == [7, 8, 7, 6]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Of several frames, only the first is read.", "of X, Y"),
        ("What training gave is written to the folder.", "`what` as a noun"),
        ("It is better than what needs no training.", "`what` as a noun"),
        ("Raise an error for a value that is no number.", "is no"),
        ("It is used by none of the families.", "none of"),
        ("Keep it so short as to fit a line.", "so … as"),
        ("Take the first line where there is one.", "`where` for `if`"),
    ],
)
def test_a_banned_construction_is_found(text, name):
    assert reading_level.find_banned(reading_level.Sentence("x", text)) == [name]


@pytest.mark.parametrize(
    "text", ["Say what is wrong.", "There is no such folder.", "It is no longer used.", "Of course, it is."]
)
def test_plain_sentences_are_not_banned(text):
    assert not reading_level.find_banned(reading_level.Sentence("x", text))


def test_what_is_above_a_limit_is_named():
    long = reading_level.Sentence("page:1", "word " * 46)
    assert [problem for problem in reading_level.list_problems([long]) if "page:1: 46 words" in problem]
    assert reading_level.list_problems([reading_level.Sentence("x", "word " * 19)] * 3) == [
        "the median is 19 words, above 18"
    ]
