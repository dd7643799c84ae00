"""The card's picture of a SESA model: the mean score of held-out pairs as concepts are deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from zoo.card.run_record import Record

LABELS = {"explained": "those that explain the score", "random": "as many random active ones"}


def draw_deletion_curves(record: Record) -> Figure | None:
    """Draw the mean score by the number of deleted concepts. Return None if it was not measured."""
    from zoo.card import plots, run_record

    measured = run_record.as_mapping(record.facts.get("deletion"))
    curves: dict[str, list[float]] = {}
    for name in LABELS:
        values: Any = measured.get(name)
        if (
            not isinstance(values, list)
            or len(values) < 2
            or any(run_record.as_number(value) is None for value in values)
        ):
            return None
        curves[name] = values
    figure = plots.new_figure(3.4)
    axes = figure.subplots()
    for (name, values), colour in zip(curves.items(), (plots.ACCENT, plots.SECOND), strict=True):
        axes.plot(range(len(values)), values, color=colour, label=LABELS[name], marker="o", markersize=3)
    axes.set(xlabel="concepts deleted", ylabel="mean score of held-out pairs", ylim=(0, None))
    axes.legend(frameon=False)
    axes.set_title("What is left of a score without some of its concepts", fontweight="bold", fontsize=10)
    return figure
