"""The picture of the losses of a training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo.card import style
from zoo.card.run_record import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Point = tuple[int, float]
"""Step and loss."""


def _list_curves(record: Record) -> tuple[dict[str, list[Point]], list[Point]]:
    """Return the training curves by name, and the validation curve. A curve of a single point is left out."""
    phases = {name: points for name, points in record.phases.items() if name != "settling"}  # trains nothing
    curves = {f"training of {name}": points for name, points in phases.items()} or {"training": record.training}
    validation = record.validation if len(record.validation) > 1 else []
    return {name: points for name, points in curves.items() if len(points) > 1}, validation


def draw_loss(record: Record) -> Figure | None:
    """Draw training loss by optimiser step, raw and smoothed, and validation loss with its lowest point.

    The phases of a training by blocks of documents are curves of their own. Return None if no curve has two points.
    """
    curves, validation = _list_curves(record)
    if not curves and not validation:
        return None
    figure = style.new_figure(3.4)
    axes = figure.subplots()
    for (name, points), colour in zip(curves.items(), (style.ACCENT, style.SECOND, style.INK), strict=False):
        steps, values = zip(*points, strict=True)
        axes.plot(steps, values, color=colour, linewidth=0.8, alpha=0.3)
        axes.plot(steps, _smooth(values), color=colour, linewidth=1.8, label=name)
    if validation:
        _draw_validation(axes, validation)
    axes.set_xlabel("block of documents" if record.phases else "optimiser step")
    axes.set_ylabel("loss")
    style.set_title(axes, "Loss")
    axes.legend(frameon=False, loc="upper right", labelcolor=style.MUTED)
    return figure


def _draw_validation(axes: Axes, validation: list[Point]) -> None:
    steps, values = zip(*validation, strict=True)
    axes.plot(steps, values, color=style.SECOND, linewidth=1.4, marker="o", markersize=4.5, label="validation")
    step, lowest = _find_lowest(validation)
    axes.scatter(step, lowest, s=110, facecolor="none", edgecolor=style.SECOND, linewidth=1.2, zorder=4)
    axes.annotate(
        f"lowest, step {step:,}",
        (step, lowest),
        (0, 12),
        textcoords="offset points",
        ha="right" if step > steps[-1] / 2 else "left",
        color=style.SECOND,
        fontsize=style.SMALL,
    )


def _find_lowest(points: list[Point]) -> Point:
    return min(points, key=lambda point: point[1])


def describe_loss(record: Record) -> str:
    """Say from where to where the loss of each curve went, and where the validation loss was lowest."""
    curves, validation = _list_curves(record)
    sentences = []
    for name, points in curves.items():
        values = _smooth([value for _, value in points])
        unit = "block" if record.phases else "step"
        sentences.append(
            f"Loss of the {name}: {values[0]:.4f} at {unit} {points[0][0]:,}, {values[-1]:.4f} at {unit} {points[-1][0]:,}."
        )
    if validation:
        step, lowest = _find_lowest(validation)
        sentences.append(f"The validation loss is lowest at step {step:,}, {lowest:.4f}.")
    return " ".join(sentences) or "Loss by optimiser step."


def _smooth(values: Sequence[float]) -> list[float]:
    """Return the mean over a centred window of about a twentieth of the steps."""
    half = math.ceil(len(values) / 40)
    windows = (values[max(0, i - half) : i + half + 1] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]
