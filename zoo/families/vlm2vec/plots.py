"""The card's picture of queries and of what was retrieved for them."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

from zoo.card.run_record import Record, as_mapping
from zoo.data.formats import image_files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS, COLUMNS = 6, 5  # what `zoo.evaluation.multimodal_retrieval` keeps


def retrieved(about: Record) -> Figure | None:
    """One row a query, of the first task that has any: what was asked, and the best candidates from left to right."""
    from zoo.card import plots

    results = about.report.get("results")
    for entry in results if isinstance(results, list) else []:
        held = as_mapping(as_mapping(entry).get("details")).get("retrieved")
        if isinstance(held, list) and held:
            break
    else:
        return None
    held = [as_mapping(each) for each in held[:ROWS]]
    figure = plots.new_figure(0.95 * len(held) + 0.4)
    axes: Any = figure.subplots(len(held), COLUMNS + 1, squeeze=False)
    figure.suptitle(f"{entry.get('task')}: a query, and its best candidates", x=0.01, ha="left", fontsize=9)
    for line, each in zip(axes, held, strict=True):
        found = each.get("found")
        _cell(line[0], as_mapping(each.get("query")), None)
        answers = found[:COLUMNS] if isinstance(found, list) else []
        for place, axis in enumerate(line[1:]):
            answer = as_mapping(answers[place]) if place < len(answers) else {}
            _cell(axis, answer, bool(answer.get("right")))
    return figure


def _cell(axis: Any, shown: dict[str, Any], right: bool | None) -> None:
    from zoo.card import plots

    axis.set(xticks=[], yticks=[])
    axis.grid(visible=False)
    axis.spines[:].set_visible(right is True)
    axis.spines[:].set(color=plots.ACCENT, linewidth=2)
    text = str(shown.get("text") or "")
    try:
        image = image_files.decode_image(base64.b64decode(str(shown.get("image") or ""), validate=True))
    except (ValueError, binascii.Error):
        axis.text(0.5, 0.5, plots.shorten(text, 40), ha="center", va="center", wrap=True, fontsize=8)
        axis.set(xlim=(0, 1), ylim=(0, 1))
        return
    axis.imshow(image_files.normalise_image(image))
    if text:
        axis.set_xlabel(plots.shorten(text, 24), fontsize=7)
