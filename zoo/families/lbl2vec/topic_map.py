"""Documents and topics in two dimensions: laid out once, when the topics are placed, and drawn on the card."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Any

from zoo.core.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from zoo.card.run_record import Record
else:
    np = lazy("numpy")

MAPPED = 400  # documents on the map


def layout(documents: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, Any]:
    """Some of the (n, d) documents, drawn by seed, and all (k, d) labels in two dimensions, neighbours kept together (t-SNE):
    {"documents": [[x, y, nearest label], …], "labels": [[x, y], …]}, coordinates within one of the origin."""
    from sklearn.manifold import TSNE

    drawn = np.sort(np.random.default_rng(seed).permutation(len(documents))[:MAPPED])
    every = np.concatenate([documents[drawn], labels])
    perplexity = min(30.0, (len(every) - 1) / 3)
    flat = TSNE(metric="cosine", init="random", perplexity=perplexity, random_state=seed).fit_transform(every)
    nearest = (documents[drawn] @ labels.T).argmax(1)
    points = (flat / np.abs(flat).max()).round(3).astype(float).tolist()
    return {
        "documents": [[*xy, int(k)] for xy, k in zip(points, nearest, strict=False)],
        "labels": points[len(drawn) :],
    }


def picture(about: Record) -> Figure | None:
    """Documents and labels in two dimensions; None where the folder has no map."""
    from matplotlib import colormaps

    from zoo.card import plots

    drawn, labels = about.facts.get("map"), about.facts.get("topics")
    if not drawn or not labels:
        return None
    figure = plots.new_figure(5.2)
    axes = figure.subplots()
    colours = colormaps["tab10" if len(labels) <= 10 else "tab20"].colors  # type: ignore[attr-defined]
    for k, (entry, colour) in enumerate(zip(labels, cycle(colours), strict=False)):
        own = [p for p in drawn["documents"] if p[2] == k]
        axes.scatter([p[0] for p in own], [p[1] for p in own], s=9, color=colour, alpha=0.5, linewidths=0)
        x, y = drawn["labels"][k]
        name = plots.short(entry["label"], 40)
        axes.scatter(
            [x], [y], s=170, color=colour, edgecolors=plots.INK, linewidths=0.7, zorder=3, label=f"{k + 1}  {name}"
        )
        axes.annotate(str(k + 1), (x, y), ha="center", va="center", fontsize=7, fontweight="bold", zorder=4)
    axes.set(xticks=[], yticks=[])
    axes.set_title("Documents near one another, and where the topics are among them", fontweight="bold", fontsize=10)
    figure.legend(loc="outside right upper", frameon=False, fontsize=7.5, markerscale=0.5)
    return figure
