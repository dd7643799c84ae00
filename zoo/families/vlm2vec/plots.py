"""The card's picture of a few queries and the candidates that were retrieved for them."""

from __future__ import annotations

import base64
import binascii
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zoo.card import style
from zoo.card.run_record import Record, as_mapping
from zoo.data.formats import image_files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS, COLUMNS = 4, 3  # queries, and candidates of a query, of those in the report
LINE = 15  # characters of a text in a cell


def draw_retrieved(record: Record) -> Figure | None:
    """Draw one row for each query: the query, then its best candidates from left to right.

    The queries are those of the first task in the report that recorded some; None if no task did.
    """
    found = _find_queries(record)
    return None if found is None else _draw_rows(*found)


def _find_queries(record: Record) -> tuple[str, list[dict[str, Any]]] | None:
    """Return the name of the task and the queries that are drawn."""
    results = record.report.get("results")
    for entry in results if isinstance(results, list) else []:
        queries = as_mapping(as_mapping(entry).get("details")).get("retrieved")
        if isinstance(queries, list) and queries:
            return str(entry.get("task")), [as_mapping(query) for query in queries[:ROWS]]
    return None


def _list_candidates(query: Mapping[str, Any]) -> list[dict[str, Any]]:
    candidates = query.get("found")
    return [as_mapping(candidate) for candidate in candidates[:COLUMNS]] if isinstance(candidates, list) else []


def describe_retrieved(record: Record) -> str:
    """Say for how many of the shown queries the first candidate is a right one."""
    found = _find_queries(record)
    if found is None:
        return "Queries, and what was retrieved for them."
    task, queries = found
    first = [candidates[0] for candidates in map(_list_candidates, queries) if candidates]
    right = sum(bool(candidate.get("right")) for candidate in first)
    sentence = f"Queries of {task} with their best candidates."
    return f"{sentence} The first candidate is right for {right} of {len(queries)} queries."


def _draw_rows(task: str, rows: list[dict[str, Any]]) -> Figure:
    figure = style.new_figure(1.5 * len(rows) + 0.4)
    grid: Any = figure.subplots(len(rows), COLUMNS + 1, squeeze=False)
    title = f"{style.shorten(task, 24)}: a query, its best candidates"
    figure.suptitle(title, x=0.01, ha="left", fontsize=style.NORMAL, fontweight="bold")
    for axes, row in zip(grid, rows, strict=True):
        _draw_item(axes[0], as_mapping(row.get("query")), is_right=False)
        candidates = _list_candidates(row)
        for number, axis in enumerate(axes[1:]):
            candidate = candidates[number] if number < len(candidates) else {}
            _draw_item(axis, candidate, is_right=bool(candidate.get("right")))
    return figure


def _draw_item(axis: Any, item: Mapping[str, Any], *, is_right: bool) -> None:
    """Draw an image with its text below, or a text alone; a frame marks a right candidate."""
    axis.set(xticks=[], yticks=[])
    axis.grid(visible=False)
    axis.spines[:].set_visible(is_right)
    axis.spines[:].set(color=style.ACCENT, linewidth=2)
    text = str(item.get("text") or "")
    try:
        image = image_files.decode_image(base64.b64decode(str(item.get("image") or ""), validate=True))
    except (ValueError, binascii.Error):
        axis.text(0.5, 0.5, _break_lines(text, 4), ha="center", va="center", fontsize=style.SMALL)
        axis.set(xlim=(0, 1), ylim=(0, 1))
        return
    axis.imshow(image_files.normalise_image(image))
    if text:
        axis.set_xlabel(_break_lines(text, 2), fontsize=style.SMALL)


def _break_lines(text: str, count: int) -> str:
    """Return a text in at most `count` lines that fit a cell."""
    return "\n".join(textwrap.wrap(style.shorten(text, LINE * count), LINE)[:count])
