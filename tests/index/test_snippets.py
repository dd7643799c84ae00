"""A snippet is a part of its text, with the words of the query marked."""

from __future__ import annotations

import pytest

from zoo.index.lexical import fuse
from zoo.index.snippets import list_shared_words, make_snippet
from zoo.index.words import split_words


def test_words_of_the_query_are_marked_also_in_the_plural():
    assert make_snippet("Fractures of the wrist", "a wrist fracture") == "*Fractures* of the *wrist*"
    assert make_snippet("no such thing", "wrist") == "no such thing"


def test_a_long_text_is_shown_around_its_first_match():
    text = " ".join(f"word{number}" for number in range(200))
    snippet = make_snippet(text, "word150", width=60)
    assert "*word150*" in snippet
    assert snippet.startswith("…")
    assert snippet.endswith("…")
    assert len(snippet) <= 60 + 4 + 10
    assert snippet.strip("…").replace("*", "").strip() in text


def test_only_the_window_that_was_found_is_shown():
    text = "the first part. the second part"
    assert make_snippet(text, "part", (16, 31)) == "…the second *part*"
    assert make_snippet(text, "part", (0, 15)) == "the first *part*.…"


def test_shared_words_come_once_in_the_order_of_the_text():
    assert list_shared_words("Heart failure, heart attack", "failure of hearts") == ["heart", "failure"]
    assert split_words("ÄRZTE, co-op 12") == ["ärzte", "co", "op", "12"]


def test_ranks_are_joined_by_their_reciprocals():
    import numpy as np

    scores, numbers = fuse([np.array([[5, 3, -1]]), np.array([[3, 9, 5]])], 4)
    assert numbers.tolist() == [[3, 5, 9, -1]]
    assert scores[0, :3] == pytest.approx([1 / 61 + 1 / 62, 1 / 61 + 1 / 63, 1 / 62])
