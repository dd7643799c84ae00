"""The picture of a training: its losses, and the score of its validation tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo.card import style
from zoo.card.run_record import Record, find_best_score, watches_higher_scores

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

    The score of validation tasks has a panel of its own, with its best point. The phases of a training by blocks of documents
    are curves of their own. Return None if no curve has two points.
    """
    curves, validation = _list_curves(record)
    scores = record.scores if len(record.scores) > 1 else []
    if not curves and not validation and not scores:
        return None
    has_losses = bool(curves or validation)
    figure = style.new_figure(3.4 * (has_losses + 0.7 * bool(scores)))
    panels = figure.subplots(has_losses + bool(scores), 1, squeeze=False, sharex=True)[:, 0]
    if scores:
        _draw_scores(panels[-1], record)
    if has_losses:
        _draw_losses(panels[0], record, curves, validation)
    return figure


def _draw_scores(axes: Axes, record: Record) -> None:
    best = find_best_score(record)
    assert best is not None
    word = "highest" if watches_higher_scores(record) else "lowest"
    _draw_points(axes, record.scores, best, word)
    axes.set_xlabel("optimiser step")
    axes.set_ylabel("score")
    style.set_title(axes, "Score of the validation tasks")


def _draw_losses(axes: Axes, record: Record, curves: dict[str, list[Point]], validation: list[Point]) -> None:
    for (name, points), colour in zip(curves.items(), (style.ACCENT, style.SECOND, style.INK), strict=False):
        steps, values = zip(*points, strict=True)
        axes.plot(steps, values, color=colour, linewidth=0.8, alpha=0.3)
        axes.plot(steps, _smooth(values), color=colour, linewidth=1.8, label=name)
    if validation:
        _draw_points(axes, validation, _find_lowest(validation), "lowest")
    axes.set_xlabel("block of documents" if record.phases else "optimiser step")
    axes.set_ylabel("loss")
    style.set_title(axes, "Loss")
    axes.legend(frameon=False, loc="upper right", labelcolor=style.MUTED)


def _draw_points(axes: Axes, points: list[Point], best: Point, word: str) -> None:
    """Draw a figure of the validations, with a ring around the best one; `word` says how it is the best."""
    steps, values = zip(*points, strict=True)
    axes.plot(steps, values, color=style.SECOND, linewidth=1.4, marker="o", markersize=4.5, label="validation")
    step, value = best
    axes.scatter(step, value, s=110, facecolor="none", edgecolor=style.SECOND, linewidth=1.2, zorder=4)
    axes.annotate(
        f"{word}, step {step:,}",
        (step, value),
        (0, 12 if word == "lowest" else -20),  # inside the panel
        textcoords="offset points",
        ha="right" if step > steps[-1] / 2 else "left",
        color=style.SECOND,
        fontsize=style.SMALL,
    )


def _find_lowest(points: list[Point]) -> Point:
    return min(points, key=lambda point: point[1])


def describe_loss(record: Record) -> str:
    """Say from where to where the loss of each curve went, and where validation loss and score were best."""
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
    best = find_best_score(record) if len(record.scores) > 1 else None
    if best is not None:
        word = "highest" if watches_higher_scores(record) else "lowest"
        sentences.append(f"The validation score is {word} at step {best[0]:,}, {best[1]:.4f}.")
    return " ".join(sentences) or "Loss by optimiser step."


def _smooth(values: Sequence[float]) -> list[float]:
    """Return the mean over a centred window of about a twentieth of the steps."""
    half = math.ceil(len(values) / 40)
    windows = (values[max(0, i - half) : i + half + 1] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]
