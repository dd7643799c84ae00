"""Cells of csv are read as what they look like, and other cells keep their types."""

from __future__ import annotations

import datetime

import pytest

from zoo.index.column_kinds import convert_cell, find_kind, join_kinds


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("2020", "whole", 2020),
        ("-7", "whole", -7),
        ("007", "text", "007"),
        ("1.50", "number", 1.5),
        ("1e3", "number", 1000.0),
        ("true", "flag", True),
        ("False", "flag", False),
        ("2020-02-29", "date", datetime.date(2020, 2, 29)),
        ("2021-02-29", "text", "2021-02-29"),
        ("2020-01-01T12:30:00+02:00", "time", datetime.datetime(2020, 1, 1, 10, 30)),
        ("nan", "text", "nan"),
        ("99999999999999999999", "number", 1e20),
        ("1_000", "text", "1_000"),
    ],
)
def test_a_text_of_csv_is_what_it_looks_like(text, kind, value):
    assert find_kind(text, reads_texts=True) == kind
    assert convert_cell(kind, text, reads_texts=True) == value
    assert find_kind(text, reads_texts=False) == "text"


def test_empty_cells_have_no_kind_and_are_empty():
    for value in ("", "  ", None, float("nan")):
        assert find_kind(value, reads_texts=True) is None
        assert convert_cell("number", value, reads_texts=True) is None


def test_the_joined_kind_holds_all_values():
    assert join_kinds(["whole", "number"]) == "number"
    assert join_kinds(["date", "time"]) == "time"
    assert join_kinds(["whole", "flag"]) == "text"
    assert convert_cell("text", True, reads_texts=False) == "True"
    assert convert_cell("text", {"a": 1}, reads_texts=False) == '{"a": 1}'


def test_a_cell_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="whole numbers"):
        convert_cell("whole", "3.5", reads_texts=True)
