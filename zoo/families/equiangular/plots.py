"""Pictures of a classifier with class vectors: |cos| between the vectors, who is taken for whom, and how sure it may be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.card.run_record import Record, as_mapping, as_number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMED = 20  # classes whose names fit beside a matrix


def gram(about: Record) -> Figure | None:
    """|cos| between the vectors of the first classes, and how they spread below the largest of all and about the bound."""
    from zoo.card import plots

    table = about.facts.get("gram")
    if not isinstance(table, list) or len(table) < 2:
        return None
    figure = plots.new_figure(3.6)
    left, right = figure.subplots(1, 2)
    off = [value for i, row in enumerate(table) for j, value in enumerate(row) if i != j]
    coherence, welch = as_number(about.facts.get("coherence")) or 0.0, as_number(about.facts.get("welch")) or 0.0
    most = max(*off, coherence, 0.01)
    shown = [[float("nan") if i == j else value for j, value in enumerate(row)] for i, row in enumerate(table)]
    picture = left.imshow(shown, cmap="Blues", vmin=0, vmax=most)
    _bare(left)
    left.set_title("|cos| between class vectors", fontweight="bold", fontsize=10)
    figure.colorbar(picture, ax=left, shrink=0.8)
    right.hist(off, bins=30, range=(0, 1.1 * most), color=plots.ACCENT, alpha=0.6)
    right.axvline(coherence, color=plots.INK, linewidth=1.2, label=f"largest of all: {coherence:.4f}")
    right.axvline(welch, color=plots.SECOND, linewidth=1.2, linestyle="--", label=f"Welch bound: {welch:.4f}")
    right.set(xlabel="|cos|", yticks=[])
    right.legend(frameon=False, fontsize=8, labelcolor=plots.MUTED)
    return figure


def confusion(about: Record) -> Figure | None:
    """Shares of each class's rows by answer, of the first task that has them."""
    from zoo.card import plots

    found = _details(about, "confusion")
    if found is None:
        return None
    table, names = found["confusion"], found["classes"]
    figure = plots.new_figure(4.6)
    axes = figure.subplots()
    shares = [[value / max(1, sum(row)) for value in row] for row in table]
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    _bare(axes)
    if len(names) <= NAMED:
        short = [plots.shorten(name, 18) for name in names]
        axes.set_xticks(range(len(names)), short, rotation=60, ha="right", fontsize=7)
        axes.set_yticks(range(len(names)), short, fontsize=7)
        for i, row in enumerate(shares):
            for j, share in enumerate(row):
                if share >= 0.005:
                    axes.text(
                        j,
                        i,
                        f"{share:.2f}",
                        ha="center",
                        va="center",
                        fontsize=6,
                        color="white" if share > 0.6 else plots.INK,
                    )
    axes.set_xlabel("answer")
    axes.set_ylabel("class")
    axes.set_title("Confusion, as shares of each class", fontweight="bold", fontsize=10)
    figure.colorbar(picture, ax=axes, shrink=0.8)
    return figure


def calibration(about: Record) -> Figure | None:
    """Accuracy against the probability of the answer, the area of a point being its share of the rows."""
    from zoo.card import plots

    found = _details(about, "calibration")
    if found is None:
        return None
    bins = found["calibration"]
    figure = plots.new_figure(3.6)
    axes = figure.subplots()
    whole = sum(count for _, _, count in bins)
    axes.plot([0, 1], [0, 1], color=plots.FAINT, linewidth=1)
    axes.plot([sure for sure, _, _ in bins], [right for _, right, _ in bins], color=plots.ACCENT, linewidth=1)
    areas = [20 + 300 * count / whole for _, _, count in bins]
    axes.scatter([sure for sure, _, _ in bins], [right for _, right, _ in bins], s=areas, color=plots.ACCENT, alpha=0.6)
    axes.set(xlim=(0, 1.03), ylim=(0, 1.05), xlabel="probability of the answer", ylabel="share that is right")
    axes.set_title("Calibration; on the line a probability is what it says", fontweight="bold", fontsize=10)
    return figure


def _details(about: Record, name: str) -> dict[str, Any] | None:
    results = about.report.get("results")
    for entry in results if isinstance(results, list) else []:
        details = as_mapping(as_mapping(entry).get("details"))
        if details.get(name):
            return details
    return None


def _bare(axes: Any) -> None:
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
