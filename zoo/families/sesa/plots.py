"""The card's picture of a SESA model: the mean score of held-out pairs as concepts are deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from zoo.card.run_record import Record

LABELS = {"explained": "those that explain the score", "random": "as many random active ones"}


def draw_deletion_curves(record: Record) -> Figure | None:
    """Draw the mean score by the number of deleted concepts. Return None if it was not measured."""
    from matplotlib.ticker import MaxNLocator

    from zoo.card import style

    curves = _read_curves(record)
    if curves is None:
        return None
    figure = style.new_figure(3.6)
    axes = figure.subplots()
    for (name, values), colour in zip(curves.items(), (style.ACCENT, style.SECOND), strict=True):
        axes.plot(range(len(values)), values, color=colour, label=LABELS[name], marker="o", markersize=3)
    axes.set(xlabel="concepts deleted", ylabel="mean score of held-out pairs", ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)
    style.set_title(axes, "What is left of a score without some of its concepts")
    return figure


def _read_curves(record: Record) -> dict[str, list[float]] | None:
    """Return the two curves, or None if one of them is missing or has a single point."""
    from zoo.card import run_record

    measured = run_record.as_mapping(record.facts.get("deletion"))
    curves: dict[str, list[float]] = {}
    for name in LABELS:
        values: Any = measured.get(name)
        has_points = isinstance(values, list) and len(values) > 1
        if not has_points or any(run_record.as_number(value) is None for value in values):
            return None
        curves[name] = values
    return curves


def describe_deletion_curves(record: Record) -> str:
    """Say what is left of the mean score after deleting the concepts that explain it, and as many random ones."""
    sentence = "Mean score of held-out pairs by the number of deleted concepts."
    curves = _read_curves(record)
    if curves is None:
        return sentence
    explained, random = curves["explained"], curves["random"]
    count = min(len(explained), len(random)) - 1
    return (
        f"{sentence} Without the {count} that explain the score most, {explained[count]:.4f} of {explained[0]:.4f} are left; "
        f"without {count} random ones, {random[count]:.4f}."
    )
