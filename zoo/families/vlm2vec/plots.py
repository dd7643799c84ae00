"""The card's picture of a few queries and the candidates that were retrieved for them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zoo.card import plots
from zoo.card.run_record import Record, as_mapping
from zoo.data.formats import image_files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS, COLUMNS = 6, 5  # queries, and candidates of a query, in the details that `zoo.evaluation.any_retrieval` records


def draw_retrieved(record: Record) -> Figure | None:
    """Draw one row for each query: the query, then its best candidates from left to right.

    The queries are those of the first task in the report that recorded some; None if no task did.
    """
    results = record.report.get("results")
    for entry in results if isinstance(results, list) else []:
        queries = as_mapping(as_mapping(entry).get("details")).get("retrieved")
        if isinstance(queries, list) and queries:
            return _draw_rows(entry.get("task"), [as_mapping(query) for query in queries[:ROWS]])
    return None


def _draw_rows(task: Any, rows: list[dict[str, Any]]) -> Figure:
    figure = plots.new_figure(0.95 * len(rows) + 0.4)
    grid: Any = figure.subplots(len(rows), COLUMNS + 1, squeeze=False)
    figure.suptitle(f"{task}: a query, and its best candidates", x=0.01, ha="left", fontsize=9)
    for axes, row in zip(grid, rows, strict=True):
        _draw_item(axes[0], as_mapping(row.get("query")), is_right=False)
        candidates = row.get("found")
        candidates = candidates[:COLUMNS] if isinstance(candidates, list) else []
        for number, axis in enumerate(axes[1:]):
            candidate = as_mapping(candidates[number]) if number < len(candidates) else {}
            _draw_item(axis, candidate, is_right=bool(candidate.get("right")))
    return figure


def _draw_item(axis: Any, item: Mapping[str, Any], *, is_right: bool) -> None:
    """Draw an image with its text below, or a text alone; a frame marks a right candidate."""
    axis.set(xticks=[], yticks=[])
    axis.grid(visible=False)
    axis.spines[:].set_visible(is_right)
    axis.spines[:].set(color=plots.ACCENT, linewidth=2)
    text = str(item.get("text") or "")
    try:
        image = image_files.decode_image(base64.b64decode(str(item.get("image") or ""), validate=True))
    except (ValueError, binascii.Error):
        axis.text(0.5, 0.5, plots.shorten(text, 40), ha="center", va="center", wrap=True, fontsize=8)
        axis.set(xlim=(0, 1), ylim=(0, 1))
        return
    axis.imshow(image_files.normalise_image(image))
    if text:
        axis.set_xlabel(plots.shorten(text, 24), fontsize=7)
