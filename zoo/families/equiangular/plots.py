"""Pictures for the card of a classifier with class vectors: Gram matrix, confusion matrix, and calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.card import style
from zoo.card.run_record import Record, as_mapping, as_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_NAMED_CLASSES = 20  # names of more classes do not fit beside a matrix
MAX_WRITTEN_CLASSES = 10  # shares of more classes do not fit into its cells


def draw_gram(record: Record) -> Figure | None:
    """Draw |cos| between the vectors of the first classes, and the distribution of these values with the Welch bound."""
    table = record.facts.get("gram")
    if not isinstance(table, list) or len(table) < 3:  # two vectors have a single cosine
        return None
    figure = style.new_figure(6.2)
    top, bottom = figure.subplots(2, 1, gridspec_kw={"height_ratios": (1.7, 1)})
    values = _list_cosines(table)
    coherence, welch = as_number(record.facts.get("coherence")) or 0.0, as_number(record.facts.get("welch")) or 0.0
    largest = max(*values, coherence, 0.01)
    matrix = [[float("nan") if i == j else value for j, value in enumerate(row)] for i, row in enumerate(table)]
    image = top.imshow(matrix, cmap="Blues", vmin=0, vmax=largest)
    _remove_axes(top)
    style.set_title(top, "|cos| between class vectors")
    figure.colorbar(image, ax=top, shrink=0.8)
    bottom.hist(values, bins=30, range=(0, 1.1 * largest), color=style.ACCENT, alpha=0.6)
    bottom.axvline(coherence, color=style.INK, linewidth=1.2, label=f"largest of all: {coherence:.4f}")
    bottom.axvline(welch, color=style.SECOND, linewidth=1.2, linestyle="--", label=f"Welch bound: {welch:.4f}")
    bottom.set(xlabel="|cos|", yticks=[])
    bottom.legend(facecolor="white", edgecolor="white", framealpha=0.8, labelcolor=style.MUTED)
    return figure


def _list_cosines(table: list[list[float]]) -> list[float]:
    return [value for i, row in enumerate(table) for j, value in enumerate(row) if i != j]


def describe_gram(record: Record) -> str:
    """Say how large the largest cosine between two class vectors is beside its lower bound."""
    sentence = "Absolute cosines between the class vectors."
    coherence, welch = as_number(record.facts.get("coherence")), as_number(record.facts.get("welch"))
    if coherence is None or welch is None:
        return sentence
    return f"{sentence} The largest is {coherence:.4f}; no set of so many vectors can stay below {welch:.4f}."


def draw_confusion(record: Record) -> Figure | None:
    """Draw the confusion matrix of the first task that has one, as shares of each class's rows."""
    details = _find_details(record, "confusion")
    if details is None:
        return None
    table, names = details["confusion"], details["classes"]
    figure = style.new_figure(4.8)
    axes = figure.subplots()
    shares = _compute_shares(table)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    _remove_axes(axes)
    if len(names) <= MAX_NAMED_CLASSES:
        _write_names(axes, [style.shorten(name, 14) for name in names])
    if len(names) <= MAX_WRITTEN_CLASSES:
        _write_shares(axes, shares)
    axes.set_xlabel("answer")
    axes.set_ylabel("class")
    style.set_title(axes, "Confusion, as shares of each class")
    figure.colorbar(image, ax=axes, shrink=0.8)
    return figure


def _compute_shares(table: list[list[int]]) -> list[list[float]]:
    return [[count / max(1, sum(row)) for count in row] for row in table]


def _write_names(axes: Axes, names: list[str]) -> None:
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)


def _write_shares(axes: Axes, shares: list[list[float]]) -> None:
    for i, row in enumerate(shares):
        for j, share in enumerate(row):
            if share >= 0.005:
                text = f"{share:.2f}".removeprefix("0")
                colour = "white" if share > 0.6 else style.INK
                axes.text(j, i, text, ha="center", va="center", fontsize=style.SMALL, color=colour)


def describe_confusion(record: Record) -> str:
    """Say which share of the inputs is answered rightly, and which class is taken most often for which other."""
    details = _find_details(record, "confusion")
    if details is None:
        return "Confusion matrix, as shares of each class."
    table, names = details["confusion"], [str(name) for name in details["classes"]]
    right, total = sum(row[i] for i, row in enumerate(table) if i < len(row)), sum(map(sum, table))
    sentences = [f"Confusion matrix: {100 * right / max(1, total):.1f} % of {total:,} inputs get their own class."]
    shares = _compute_shares(table)
    mistakes = [(shares[i][j], i, j) for i, row in enumerate(table) for j in range(len(row)) if i != j and row[j]]
    if mistakes:
        share, i, j = max(mistakes)
        taken_for = names[j] if j < len(names) else "no class"
        sentences.append(f"The commonest mistake: {100 * share:.1f} % of {names[i]} are taken for {taken_for}.")
    return " ".join(sentences)


def draw_calibration(record: Record) -> Figure | None:
    """Draw accuracy against probability, by bins. The area of a point is the bin's share of the rows.

    Return None if all rows are in one bin.
    """
    details = _find_details(record, "calibration")
    if details is None:
        return None
    probabilities, accuracies, counts = zip(*details["calibration"], strict=True)
    figure = style.new_figure(3.8)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=style.FAINT, linewidth=1)
    axes.plot(probabilities, accuracies, color=style.ACCENT, linewidth=1)
    areas = [20 + 300 * count / sum(counts) for count in counts]
    axes.scatter(probabilities, accuracies, s=areas, color=style.ACCENT, alpha=0.6)
    axes.set(xlim=(0, 1.03), ylim=(0, 1.05), xlabel="probability of the answer", ylabel="share that is right")
    style.set_title(axes, "Calibration", "on the line, a probability is the share that is right")
    return figure


def describe_calibration(record: Record) -> str:
    """Say how far probabilities are from the shares that are right, in the mean over the rows."""
    sentence = "Share of right answers against their probability."
    details = _find_details(record, "calibration")
    if details is None:
        return sentence
    total = sum(count for *_, count in details["calibration"]) or 1
    distance = sum(count * abs(accuracy - probability) for probability, accuracy, count in details["calibration"])
    return f"{sentence} They differ by {distance / total:.4f} in the mean."


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
