"""A map of documents and topics in two dimensions: computed after training, and drawn on the card."""

from __future__ import annotations

import math
from collections import Counter
from itertools import cycle
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.figure import Figure

    from zoo.card.run_record import Record

MAX_DOCUMENTS = 400  # on the map
MAX_LEGEND = 36  # topics that the legend names


def compute_layout(documents: npt.NDArray[Any], labels: npt.NDArray[Any], seed: int) -> dict[str, Any]:
    """Place a sample of the (n, d) documents and all (k, d) labels in two dimensions by t-SNE, which keeps neighbours together.

    Returns {"documents": [[x, y, nearest label], …], "labels": [[x, y], …]} with coordinates from -1 to 1.
    """
    import numpy as np
    from sklearn.manifold import TSNE

    sample = np.sort(np.random.default_rng(seed).permutation(len(documents))[:MAX_DOCUMENTS])
    vectors = np.concatenate([documents[sample], labels])
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    layout = TSNE(metric="cosine", init="random", perplexity=perplexity, random_state=seed).fit_transform(vectors)
    nearest = (documents[sample] @ labels.T).argmax(1)
    points = (layout / np.abs(layout).max()).round(3).astype(float).tolist()
    document_points, label_points = points[: len(sample)], points[len(sample) :]
    return {
        "documents": [[*point, int(label)] for point, label in zip(document_points, nearest, strict=True)],
        "labels": label_points,
    }


def draw_map(record: Record) -> Figure | None:
    """Draw the documents and the labels; return None if the model folder has no map of two or more documents."""
    from matplotlib import colormaps

    from zoo.card import style

    layout, labels = record.facts.get("map"), record.facts.get("topics")
    if not layout or not labels or len(layout["documents"]) < 2:
        return None
    figure = style.new_figure(3.9 + 0.17 * math.ceil(min(len(labels), MAX_LEGEND) / 2))
    axes = figure.subplots()
    colours = colormaps["tab10" if len(labels) <= 10 else "tab20"].colors  # type: ignore[attr-defined]
    for number, (entry, colour) in enumerate(zip(labels, cycle(colours), strict=False)):
        points = [(x, y) for x, y, nearest in layout["documents"] if nearest == number]
        axes.scatter([x for x, _ in points], [y for _, y in points], s=9, color=colour, alpha=0.5, linewidths=0)
        x, y = layout["labels"][number]
        legend = f"{number + 1}  {style.shorten(entry['label'], 24)}" if number < MAX_LEGEND else ""
        axes.scatter([x], [y], s=190, color=colour, edgecolors=style.INK, linewidths=0.7, zorder=3, label=legend)
        text = axes.annotate(str(number + 1), (x, y), ha="center", va="center", zorder=4)
        text.set(fontsize=style.SMALL, fontweight="bold")
    axes.set(xticks=[], yticks=[])
    style.set_title(axes, "Topics among the documents", "neighbours on the map are similar")
    figure.legend(loc="outside lower left", ncols=2, frameon=False, markerscale=0.5)
    return figure


def describe_map(record: Record) -> str:
    """Say how many documents are on the map, and which topic is the nearest of the most and of the fewest of them."""
    layout, labels = record.facts.get("map"), record.facts.get("topics")
    sentence = "Map of documents and topics, on which similar ones are near one another."
    if not layout or not labels:
        return sentence
    counts = Counter(nearest for *_, nearest in layout["documents"])
    most, fewest = (choose(range(len(labels)), key=lambda number: counts[number]) for choose in (max, min))
    return (
        f"{sentence} Of {len(layout['documents'])} documents, {counts[most]} are nearest to {labels[most]['label']}, the most of "
        f"{len(labels)} topics, and {counts[fewest]} to {labels[fewest]['label']}, the fewest."
    )
