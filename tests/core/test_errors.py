"""Error messages: the first line of an exception, and suggestions for unknown names."""

from __future__ import annotations

import pytest

from zoo.core.errors import ZooError, first_line
from zoo.core.suggest import suggest


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("only line"), "only line"),
        (ValueError("\n  first\tline  \nsecond line"), "first line"),
        (ValueError(), "ValueError"),
        (OSError("  "), "OSError"),
        (ZooError("one problem", "another problem"), "one problem"),
    ],
)
def test_first_line_of_an_exception(error, expected):
    assert first_line(error) == expected


def test_a_long_first_line_is_cut_to_the_limit():
    assert first_line(ValueError("x" * 120)) == "x" * 120
    assert first_line(ValueError("x" * 121)) == "x" * 119 + "…"
    assert first_line(ValueError("a long message"), limit=6) == "a lon…"


@pytest.mark.parametrize(
    ("word", "names", "expected"),
    [
        ("trian", ["test", "train"], "; did you mean train?"),
        ("zzz", ["test", "train"], "; there are: test, train"),
        ("zzz", [], ""),
        ("zzz", [f"name{n}" for n in range(21)], "; there are: " + ", ".join(f"name{n}" for n in range(20)) + ", …"),
        ("te xt", ["te\nxt"], r"; did you mean 'te\nxt'?"),
    ],
)
def test_suggest_names_the_nearest_name_or_lists_all(word, names, expected):
    assert suggest(word, names) == expected


def test_suggest_lists_nothing_without_a_listing():
    assert suggest("zzz", ["train"], listing="") == ""
    assert suggest("trian", ["train"], listing="") == "; did you mean train?"
