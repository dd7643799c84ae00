"""The table of the sources of a list of training data: rows, weight, the share that was drawn, and the loss of each."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from zoo.card import figures, markdown
from zoo.card.run_record import Record, as_mapping, as_number


def list_sources(record: Record) -> list[tuple[Any, ...]]:
    """Return a row of the table for each source of the lock; an empty list for a model of one data section."""
    rows = []
    for name, entry in as_mapping(record.lock.get("sources")).items():
        values = as_mapping(entry)
        curve = record.source_losses.get(name, [])
        weight = as_number(values.get("weight"))
        rows.append(
            (
                markdown.as_line(name),
                figures.format_count(values.get("rows")),
                markdown.DASH if weight is None else f"{weight:g}",
                figures.format_percent(values.get("share")),
                _format_loss(curve[0] if curve else None),
                _format_loss(curve[-1] if curve else None),
            )
        )
    return rows


def _format_loss(point: tuple[int, float] | None) -> Markup:
    return markdown.DASH if point is None else figures.format_score(point[1])
