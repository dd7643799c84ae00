"""Conditions mean what they say: each is held against plain Python over the same rows."""

from __future__ import annotations

import datetime

import pyarrow as pa
import pytest

from zoo.core.errors import ZooError
from zoo.index import conditions
from zoo.index.column_kinds import KINDS, get_arrow_type

COLUMNS = {
    name: KINDS[kind]
    for name, kind in {
        "year": "whole",
        "price": "number",
        "lang": "text",
        "new": "flag",
        "day": "date",
        "at": "time",
        "two words": "text",
    }.items()
}
DAY = datetime.date(2020, 2, 3)
ROWS = [
    {"year": year, "price": price, "lang": lang, "new": new, "day": day, "at": at, "two words": lang}
    for year, price, lang, new, day, at in (
        (2019, 1.5, "en", True, DAY, datetime.datetime(2020, 1, 1, 12)),
        (2020, None, "de", False, None, None),
        (None, 2.0, None, None, datetime.date(2021, 1, 1), datetime.datetime(2021, 1, 1)),
        (2021, -3.0, 'a "b"', True, DAY, datetime.datetime(2019, 1, 1)),
    )
]


def find(text: str) -> list[int]:
    schema = pa.schema([(name, get_arrow_type(kind.name)) for name, kind in COLUMNS.items()])
    table = pa.Table.from_pylist(ROWS, schema).append_column("n", pa.array(range(len(ROWS))))
    return table.filter(conditions.parse(text, COLUMNS).expression)["n"].to_pylist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("year >= 2020", [1, 3]),
        ("year = 2020 or price < 0", [1, 3]),
        ("year != 2020", [0, 3]),
        ("not year = 2020", [0, 3]),
        ('lang in ("en", "de") and new = true', [0]),
        ('lang not in ("en", "de")', [3]),
        ("lang is null", [2]),
        ("lang is not null and not new = false", [0, 3]),
        ('lang = "a \\"b\\""', [3]),
        ("lang == 'en'", [0]),
        ('day = "2020-02-03"', [0, 3]),
        ('at > "2020-06-01"', [2]),
        ('at <= "2020-01-01T12:00"', [0, 3]),
        ("`two words` = 'de'", [1]),
        ("price = 2", [2]),
        ("year > 2019.5", [1, 3]),
        ("year = 2019 or year = 2021 and price > 0", [0]),
        ("(year = 2019 or year = 2021) and price < 0", [3]),
        ("not (year = 2019 or price = 2)", [3]),
        ("year IS NULL", [2]),
    ],
)
def test_a_condition_selects_these_rows(text, expected):
    assert find(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("yeer > 3", "character 1: there is no column 'yeer'; did you mean year?"),
        ("year > 2020 and prise = 1", "character 17: there is no column 'prise'; did you mean price?"),
        ("year > 'x'", "character 8: the column year holds whole numbers"),
        ("lang = en", 'quote it: "en"'),
        ("lang = null", "lang is null"),
        ("new = 1", "the column new holds true or false"),
        ('day = "2020-13-01"', "holds dates"),
        ("year >", "character 7: a value should follow"),
        ("(year > 1", "character 10: the condition ends"),
        ("year > 1 lang", "character 10: 'lang'"),
        ("year in ()", "character 10: a value"),
        ('lang = "en', "close the quote"),
        ("year; drop", "character 5"),
        ("", "character 1: the condition ends where the name of a column"),
        ("not " * 200 + "year = 1", "nested more than"),
        ("price = 1.2.3", "character 9"),
    ],
)
def test_a_mistake_is_named_with_its_place(text, message):
    with pytest.raises(ZooError, match="where: ") as caught:
        conditions.parse(text, COLUMNS)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_columns_that_are_read_are_those_of_the_condition():
    assert conditions.parse("year > 1 and (lang = 'x' or year < 3)", COLUMNS).columns == ("year", "lang")
