"""The values that a card prints about steps after training: the scores with codes, the bytes of a vector, and the fits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from zoo.card import figures, markdown
from zoo.card.run_record import Record, as_mapping, as_number


def build_steps_context(record: Record) -> dict[str, Any]:
    """Return `codes`, the step for codes with its table, and `step_facts`, the figures of all fits.

    `codes` is {} for a model without such a step, and `step_facts` is [] for a model without steps.
    """
    steps = [as_mapping(entry) for entry in _as_list(record.lock.get("after"))]
    if not _as_list(record.zoo.get("after")):  # a view that cuts the encoder has no steps
        steps = []
    codes = next((step for step in steps if step.get("kind") == "codes"), {})
    size, first = as_number(codes.get("bytes_per_vector")), as_number(codes.get("first_bytes"))
    described = {
        "step": markdown.as_line(codes.get("step")),
        "bytes": size,
        "first_bytes": first if first is not None and size is not None and first < size else None,
        "rows": _list_rows(record),
    }
    return {"codes": described if codes else {}, "step_facts": [row for step in steps for row in _list_facts(step)]}


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _list_rows(record: Record) -> list[tuple[Any, ...]]:
    """Return two rows of the table for each task: float vectors and codes, with bytes and scores."""
    rows: list[tuple[Any, ...]] = []
    for entry in map(as_mapping, _as_list(record.report.get("codes"))):
        task = markdown.as_line(entry.get("task"))
        value, float_value = as_number(entry.get("value")), as_number(entry.get("float_value"))
        if value is None or float_value is None:
            continue
        share = figures.format_percent(value / float_value) if float_value > 0 else markdown.DASH
        size = figures.format_count(entry.get("float_bytes"))
        rows.append((task, "float vectors", size, figures.format_score(float_value), markdown.DASH))
        name = f"codes of {markdown.as_line(entry.get('step'))}"
        rows.append((task, name, _format_bytes(entry), figures.format_score(value), share))
    return rows


def _format_bytes(entry: Mapping[str, Any]) -> Markup:
    """Return the bytes of a code, and the part that a search reads of every code if it is less."""
    size, first = as_number(entry.get("bytes_per_vector")), as_number(entry.get("first_bytes"))
    text = figures.format_count(size)
    if first is None or size is None or first >= size:
        return text
    return text + Markup(f" ({figures.format_count(first)} read first)")


def _list_facts(step: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    """Return the name of the step, the name and the value of each figure of its fit. Texts are left out."""
    name = markdown.as_line(step.get("step"))
    return [
        (name, markdown.as_line(key).replace("_", " "), Markup(f"{number:,.6g}"))
        for key, value in as_mapping(step.get("facts")).items()
        if (number := as_number(value)) is not None
    ]
