"""The picture of a space: its spectrum, its intrinsic dimension by scale, and figures along the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from zoo.card import style
from zoo.card.health import Space, list_spaces
from zoo.card.run_record import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_VIEWS = 5
MAX_WATCHED = 2
PANEL = 2.3  # inches
COLOURS = (style.ACCENT, style.SECOND, style.INK, "#3d8b5f", "#8250a8")
Curves = Mapping[str, Sequence[tuple[int, float]]]


def draw_health(record: Record) -> Figure | None:
    """Draw the curves of every diagnosed view, and the watched figures by step. Return None without any curve."""
    return draw_spaces(list_spaces(record), _list_watched(record))


def draw_spaces(spaces: Sequence[Space], watched: Curves | None = None) -> Figure | None:
    """Draw a panel for the spectra, one for the intrinsic dimensions, and one for each of the first watched figures."""
    shown = list(spaces)[:MAX_VIEWS]
    watched = watched or {}
    has_spectrum, has_dimension = any(space.variances for space in shown), any(space.dimensions for space in shown)
    count = has_spectrum + has_dimension + len(watched)
    if not count:
        return None
    figure = style.new_figure(PANEL * count)
    panels = list(figure.subplots(count, 1, squeeze=False)[:, 0])
    if has_spectrum:
        axes = panels.pop(0)
        _draw_curves(axes, [(space.name, space.variances) for space in shown])
        axes.set_yscale("log")
        axes.set_xlabel("principal direction")
        axes.set_ylabel("share of variance")
        style.set_title(axes, "Spectrum")
    if has_dimension:
        axes = panels.pop(0)
        _draw_curves(axes, [(space.name, space.dimensions) for space in shown])
        axes.set_xlabel("neighbours")
        axes.set_ylabel("dimension")
        style.set_title(axes, "Intrinsic dimension", "A fall to the right is noise at small scale")
    for name, points in watched.items():
        _draw_watched(panels.pop(0), name, points)
    return figure


def describe_health(record: Record) -> str:
    """Say how much of the variance the first direction has, and where the watched figures went."""
    sentences = []
    for space in list_spaces(record)[:MAX_VIEWS]:
        parts = []
        if space.variances:
            parts.append(f"the first direction has {100 * space.variances[0][1]:.1f} % of the variance")
        if space.dimensions:
            small, large = space.dimensions[0][1], space.dimensions[-1][1]
            parts.append(f"intrinsic dimension {small:.1f} among nearest neighbours, {large:.1f} at large scale")
        sentences.append(f"{space.name}: {'; '.join(parts)}.")
    for name, points in _list_watched(record).items():
        (first_step, first), (last_step, last) = points[0], points[-1]
        sentences.append(f"{_say(name)}: {first:.3g} at step {first_step:,}, {last:.3g} at step {last_step:,}.")
    return " ".join(sentences) or "Figures of the space."


def _list_watched(record: Record) -> dict[str, list[tuple[int, float]]]:
    """Return the first watched figures that have two points or more."""
    curves = {name: points for name, points in record.space.items() if len(points) > 1}
    return dict(list(curves.items())[:MAX_WATCHED])


def _draw_curves(axes: Axes, curves: Sequence[tuple[str, Sequence[tuple[float, float]]]]) -> None:
    for (name, points), colour in zip(curves, COLOURS, strict=False):
        if points:
            numbers, values = zip(*points, strict=True)
            axes.plot(numbers, values, color=colour, linewidth=1.6, label=style.shorten(name, 24))
    axes.set_xscale("log")
    if len(curves) > 1:
        axes.legend(frameon=False, loc="best", labelcolor=style.MUTED)


def _draw_watched(axes: Axes, name: str, points: Sequence[tuple[int, float]]) -> None:
    steps, values = zip(*points, strict=True)
    axes.plot(steps, values, color=style.SECOND, linewidth=1.4, marker="o", markersize=4)
    axes.set_xlabel("optimiser step")
    style.set_title(axes, f"{_say(name)} along the training")


def _say(name: str) -> str:
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]
