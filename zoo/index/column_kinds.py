"""The kinds of columns: whole numbers, numbers, true or false, dates, times or texts.

The kind is found from all values. Cells of csv are texts, so there each text is read as what it looks like; cells of other
formats have types of their own, which stay.
"""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pyarrow as pa

_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")  # "007" is a name
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[-+][0-9]{2}:?[0-9]{2})?"
)
MAX_WHOLE = 2**63


class ColumnKind(NamedTuple):
    """A kind of column: its name in model.json, and a noun for messages."""

    name: str
    noun: str


KINDS = {
    kind.name: kind
    for kind in (
        ColumnKind("whole", "whole numbers"),
        ColumnKind("number", "numbers"),
        ColumnKind("flag", "true or false"),
        ColumnKind("date", 'dates, written as "2020-12-31"'),
        ColumnKind("time", 'times, written as "2020-12-31T23:59"'),
        ColumnKind("text", "quoted texts"),
    )
}


def get_arrow_type(name: str) -> pa.DataType:
    """Return the Arrow type in which a kind of column is stored."""
    import pyarrow as pa

    types = {
        "whole": pa.int64(),
        "number": pa.float64(),
        "flag": pa.bool_(),
        "date": pa.date32(),
        "time": pa.timestamp("us"),
        "text": pa.string(),
    }
    return types[name]


def find_kind(value: Any, *, reads_texts: bool) -> str | None:
    """Return the kind of a value, or None for an empty cell. With `reads_texts`, a text is what it looks like."""
    if isinstance(value, str):
        return _find_text_kind(value) if reads_texts else "text"
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, int):
        return "whole" if -MAX_WHOLE <= value < MAX_WHOLE else "text"
    if isinstance(value, float | Decimal):
        return "number"
    if isinstance(value, datetime.datetime):
        return "time"
    return "date" if isinstance(value, datetime.date) else "text"


def _find_text_kind(text: str) -> str | None:
    if not text.strip():
        return None
    if _WHOLE.fullmatch(text):
        return "whole"
    if _NUMBER.fullmatch(text):
        return "number"
    if text.lower() in ("true", "false"):
        return "flag"
    for name, pattern, parse in (("date", _DATE, datetime.date), ("time", _TIME, datetime.datetime)):
        if pattern.fullmatch(text):
            try:
                parse.fromisoformat(text)
            except ValueError:
                return "text"
            return name
    return "text"


def join_kinds(kinds: Iterable[str]) -> str:
    """Return the kind that holds values of all these kinds: numbers hold whole numbers, times hold dates, texts hold all."""
    distinct = set(kinds)
    if len(distinct) == 1:
        return distinct.pop()
    for wide, narrow in (("number", "whole"), ("time", "date")):
        if distinct == {wide, narrow}:
            return wide
    return "text"


def convert_cell(name: str, value: Any, *, reads_texts: bool) -> Any:
    """Return a cell as a value of the kind `name`; None for an empty cell. Raise ValueError if it does not fit."""
    kind = find_kind(value, reads_texts=reads_texts)
    if name == "text":
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, float) and math.isnan(value):
            return None
        return str(value) if isinstance(value, int | float | Decimal | datetime.date) else _to_json(value)
    if kind is None:
        return None
    if join_kinds((name, kind)) != name:
        raise ValueError(f"is {str(value)[:40]!r}, but the column of the index holds {KINDS[name].noun}")
    if name == "flag":
        return value.lower() == "true" if isinstance(value, str) else bool(value)
    if name == "whole":
        return int(value)
    if name == "number":
        return float(value)
    return _convert_date(name, value)


def _convert_date(name: str, value: Any) -> Any:
    if isinstance(value, str):
        value = datetime.datetime.fromisoformat(value) if name == "time" else datetime.date.fromisoformat(value)
    if name == "date":
        return value
    if not isinstance(value, datetime.datetime):
        return datetime.datetime(value.year, value.month, value.day)
    return (value.astimezone(datetime.UTC) if value.tzinfo else value).replace(tzinfo=None)


def _to_json(value: Any) -> str | None:
    """Return lists and mappings as JSON. Bytes, for example of an image, are not kept."""
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        return None
