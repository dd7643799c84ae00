"""Pictures for the card of a classifier with class vectors: Gram matrix, confusion matrix, and calibration."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from zoo.card import plots
from zoo.card.run_record import Record, as_mapping, as_number

MAX_NAMED_CLASSES = 20  # names of more classes do not fit beside a matrix


def draw_gram(record: Record) -> Figure | None:
    """Draw |cos| between the vectors of the first classes, and the distribution of these values with the Welch bound."""
    table = record.facts.get("gram")
    if not isinstance(table, list) or len(table) < 3:  # two vectors have a single cosine
        return None
    figure = plots.new_figure(3.6)
    left, right = figure.subplots(1, 2)
    values = [value for i, row in enumerate(table) for j, value in enumerate(row) if i != j]
    coherence, welch = as_number(record.facts.get("coherence")) or 0.0, as_number(record.facts.get("welch")) or 0.0
    largest = max(*values, coherence, 0.01)
    matrix = [[float("nan") if i == j else value for j, value in enumerate(row)] for i, row in enumerate(table)]
    image = left.imshow(matrix, cmap="Blues", vmin=0, vmax=largest)
    _remove_axes(left)
    left.set_title("|cos| between class vectors", fontweight="bold", fontsize=10)
    figure.colorbar(image, ax=left, shrink=0.8)
    right.hist(values, bins=30, range=(0, 1.1 * largest), color=plots.ACCENT, alpha=0.6)
    right.axvline(coherence, color=plots.INK, linewidth=1.2, label=f"largest of all: {coherence:.4f}")
    right.axvline(welch, color=plots.SECOND, linewidth=1.2, linestyle="--", label=f"Welch bound: {welch:.4f}")
    right.set(xlabel="|cos|", yticks=[])
    right.legend(frameon=False, fontsize=8, labelcolor=plots.MUTED)
    return figure


def draw_confusion(record: Record) -> Figure | None:
    """Draw the confusion matrix of the first task that has one, as shares of each class's rows."""
    details = _find_details(record, "confusion")
    if details is None:
        return None
    table, names = details["confusion"], details["classes"]
    figure = plots.new_figure(4.6)
    axes = figure.subplots()
    shares = [[count / max(1, sum(row)) for count in row] for row in table]
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    _remove_axes(axes)
    if len(names) <= MAX_NAMED_CLASSES:
        _write_names_and_shares(axes, [plots.shorten(name, 18) for name in names], shares)
    axes.set_xlabel("answer")
    axes.set_ylabel("class")
    axes.set_title("Confusion, as shares of each class", fontweight="bold", fontsize=10)
    figure.colorbar(image, ax=axes, shrink=0.8)
    return figure


def _write_names_and_shares(axes: Axes, names: list[str], shares: list[list[float]]) -> None:
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    for i, row in enumerate(shares):
        for j, share in enumerate(row):
            if share >= 0.005:
                colour = "white" if share > 0.6 else plots.INK
                axes.text(j, i, f"{share:.2f}", ha="center", va="center", fontsize=6, color=colour)


def draw_calibration(record: Record) -> Figure | None:
    """Draw accuracy against probability, by bins. The area of a point is the bin's share of the rows.

    Return None if all rows are in one bin.
    """
    details = _find_details(record, "calibration")
    if details is None:
        return None
    probabilities, accuracies, counts = zip(*details["calibration"], strict=True)
    figure = plots.new_figure(3.6)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=plots.FAINT, linewidth=1)
    axes.plot(probabilities, accuracies, color=plots.ACCENT, linewidth=1)
    areas = [20 + 300 * count / sum(counts) for count in counts]
    axes.scatter(probabilities, accuracies, s=areas, color=plots.ACCENT, alpha=0.6)
    axes.set(xlim=(0, 1.03), ylim=(0, 1.05), xlabel="probability of the answer", ylabel="share that is right")
    axes.set_title("Calibration; on the line a probability is what it says", fontweight="bold", fontsize=10)
    return figure


def _find_details(record: Record, name: str) -> dict[str, Any] | None:
    """Return the details of the first task whose entry `name` is a list of two or more, or None."""
    results = record.report.get("results")
    for entry in results if isinstance(results, list) else []:
        details = as_mapping(as_mapping(entry).get("details"))
        if isinstance(details.get(name), list) and len(details[name]) > 1:
            return details
    return None


def _remove_axes(axes: Any) -> None:
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
