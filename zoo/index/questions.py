"""Queries with known answers: how they are read, and the gain of one ranking."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zoo.core.errors import DataError
from zoo.data import kinds
from zoo.index.rows import open_rows

TOP = 10
QUERY_NAMES = ("text", "query")


class Question(NamedTuple):
    """A query, and the ids of the rows that answer it; none if they are not known."""

    text: str
    relevant: tuple[str, ...] = ()


def read_questions(rows: Any) -> list[Question]:
    """Read queries from rows with a column `text` or `query`, and perhaps `relevant`: an id, or a list of ids.

    Raise DataError for a row without a query.
    """
    questions = []
    for location, row in open_rows(rows).read():
        text = next((row[name] for name in QUERY_NAMES if row.get(name)), None)
        if not isinstance(text, str):
            raise DataError(f"{location}: there is no query; name its column text or query")
        try:
            relevant = kinds.convert_value("ids", row.get("relevant"), None)
        except ValueError as error:
            raise DataError(f"{location}: relevant: {error}") from None
        questions.append(Question(text, tuple(relevant)))
    if not questions:
        raise DataError(f"{rows}: there are no queries")
    return questions


def compute_gain(is_right: npt.ArrayLike, count: int, top: int = TOP) -> float:
    """Return the nDCG@top of one ranking.

    Args:
        is_right: whether each row of the ranking, the best first, answers the query.
        count: the number of rows that answer it, 1 or more.
        top: the number of rows that are looked at.
    """
    discounts = 1 / np.log2(np.arange(2, top + 2))
    gains = np.flatnonzero(np.asarray(is_right, bool)[:top])
    return float(discounts[gains].sum() / discounts[:count].sum())
