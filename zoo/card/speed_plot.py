"""The picture of score against speed, one point for each cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.card import style
from zoo.card.run_record import Record, Task, as_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_LABELS = 12  # points of a scatter plot that all have labels
LABEL_OFFSETS = (
    (11, 0, "left"),
    (-11, 0, "right"),
    (0, 13, "center"),
    (0, -13, "center"),
    (11, 11, "left"),
    (11, -11, "left"),
    (-11, 11, "right"),
    (-11, -11, "right"),
)
"""Places of a label around its point in the order of preference: x and y in points, horizontal alignment."""
POINT_RADIUS = 9  # pixels around a point that stay free of labels

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels."""


class Point(NamedTuple):
    """A timed view.

    Attributes:
        speed: inputs per second.
        score, baseline: the score after training and, if known, before.
        size: bytes per vector.
        depth: number of layers, 0 if unknown.
        label: the view in words.
    """

    speed: float
    score: float
    baseline: float | None
    size: int
    depth: float
    label: str


def draw_quality_speed(record: Record) -> Figure | None:
    """Draw score against inputs per second for the first task with two timed views.

    A hollow point is the same cut before training. Return None if no task has two timed views that differ.
    """
    found = _find_task(record)
    return None if found is None else _draw_scatter(*found)


def _find_task(record: Record) -> tuple[Task, list[Point]] | None:
    """Return the first task with two timed views that differ, and its points."""
    for task in record.tasks:
        points = _list_points(task)
        if len({(point.speed, point.score) for point in points}) > 1:
            return task, points
    return None


def _list_points(task: Task) -> list[Point]:
    points = []
    for result in task.results:
        if result.value is not None and result.speed:
            depth = as_number(result.corner.get("layers")) or 0.0
            point = Point(result.speed, result.value, result.baseline, result.size or 1, depth, result.label)
            points.append(point)
    return points


def _draw_scatter(task: Task, points: list[Point]) -> Figure:
    labels_all = len(points) <= MAX_LABELS
    if not labels_all:
        points = [point._replace(baseline=None) for point in points]  # the heat map shows the gains of so many cuts
    figure = style.new_figure(4.6)
    axes = figure.subplots()
    _draw_points(axes, points)
    axes.margins(x=0.2, y=0.14)
    axes.set_xlabel("inputs per second →")
    axes.set_ylabel(f"{style.shorten(task.metric, 24)} →")
    legend = ["one point per cut" if labels_all else "one point per cut, the best of each depth named"]
    if any(point.baseline is not None for point in points):
        legend.append("hollow: before training")
    legend.append("area: bytes per vector")
    style.set_title(axes, f"{style.shorten(task.name)}: quality against speed", " · ".join(legend))
    best_by_depth = {point.depth: point for point in sorted(points, key=lambda point: point.score)}
    _label_points(figure, axes, points, points if labels_all else list(best_by_depth.values()))
    return figure


def _draw_points(axes: Axes, points: list[Point]) -> None:
    import matplotlib

    depths = sorted({point.depth for point in points})
    colour_map = matplotlib.colormaps["viridis"]
    colours = {depth: colour_map(0.08 + 0.72 * i / max(1, len(depths) - 1)) for i, depth in enumerate(depths)}
    largest = max(point.size for point in points)
    for point in points:
        speed, score, baseline = point.speed, point.score, point.baseline
        colour, area = colours[point.depth], 24 + 200 * point.size / largest
        if baseline is not None:
            axes.plot([speed, speed], [baseline, score], color=colour, linewidth=1, alpha=0.45, zorder=2)
            axes.scatter(speed, baseline, s=area, facecolor="white", edgecolor=colour, linewidth=1.2, zorder=3)
        axes.scatter(speed, score, s=area, color=colour, edgecolor="white", linewidth=0.8, zorder=4)


def _label_points(figure: Figure, axes: Axes, points: list[Point], labelled: list[Point]) -> None:
    """Write the labels of `labelled` beside their points. A label that finds no free place is left out."""
    figure.draw_without_rendering()
    renderer: Any = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    occupied: list[Box] = []
    for point in points:
        for score in (point.score, point.baseline):
            if score is not None:
                x, y = axes.transData.transform((point.speed, score))
                occupied.append((x - POINT_RADIUS, y - POINT_RADIUS, x + POINT_RADIUS, y + POINT_RADIUS))
    frame = axes.get_window_extent(renderer)
    for point in labelled:
        for dx, dy, alignment in LABEL_OFFSETS:
            placement: dict[str, Any] = {
                "xytext": (dx, dy),
                "textcoords": "offset points",
                "ha": alignment,
                "va": "center",
            }
            text = axes.annotate(point.label, (point.speed, point.score), fontsize=style.SMALL, **placement)
            extent = text.get_window_extent(renderer)
            box = (extent.x0, extent.y0, extent.x1, extent.y1)
            is_free = not any(_overlap(box, other) for other in occupied)
            if is_free and _is_inside(box, (frame.x0, frame.y0, frame.x1, frame.y1)):
                occupied.append(box)
                break
            text.remove()


def _is_inside(box: Box, frame: Box) -> bool:
    return frame[0] <= box[0] and box[2] <= frame[2] and frame[1] <= box[1] and box[3] <= frame[3]


def _overlap(a: Box, b: Box) -> bool:
    return not (a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1])


def describe_quality_speed(record: Record) -> str:
    """Say how much faster the fastest view is than the slowest, and which share of its score it has."""
    sentences = ["Score against inputs per second, one point for each cut."]
    found = _find_task(record)
    if found is not None:
        task, points = found
        slow, fast = (choose(points, key=lambda point: point.speed) for choose in (min, max))
        times = f"{fast.speed / slow.speed:.2f} times as fast as {slow.label}"
        sentences.append(
            f"{task.name}: {fast.label} is {times}, and scores {fast.score:.4f} instead of {slow.score:.4f}."
        )
    return " ".join(sentences)
