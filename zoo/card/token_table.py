"""The values that a card prints about a coded token table: its bytes and its errors."""

from __future__ import annotations

from typing import Any

from zoo.card import markdown
from zoo.card.run_record import Record, as_mapping, as_number

NUMBERS = ("bytes", "float_bytes", "mean_error", "worst_error", "worst_cosine", "texts")


def describe(record: Record) -> dict[str, Any]:
    """Return codec, bytes and errors of a coded token table; {} for a plain table, and for an entry without these numbers."""
    table = as_mapping(record.zoo.get("table"))
    numbers = {name: as_number(table.get(name)) for name in NUMBERS}
    if not table or None in numbers.values():
        return {}
    before, steps = as_number(table.get("undistilled_worst_cosine")), as_number(table.get("distilled_steps"))
    names = {name: markdown.as_line(table.get(name)) for name in ("codec", "worst_token")}
    return {**numbers, **names, "undistilled_worst_cosine": before if steps else None, "distilled_steps": steps}
