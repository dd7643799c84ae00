"""Draw the pictures of a model folder: the score and cost of each cut, and the losses of the training.

The same record gives the same bytes: a PNG contains no date, no version and no setting of the user's own matplotlib.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.card import run_record
from zoo.card.markdown import as_line
from zoo.card.run_record import Record, Task, as_number
from zoo.core import atomic_files
from zoo.spec import EncoderSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, FAINT, ACCENT, SECOND = "#1f2328", "#59636e", "#d1d9e0", "#0b5cad", "#c4501b"
WIDTH, DPI = 8.4, 200  # inches and dots per inch: about twice the width of a README column
MAX_PANELS = 3  # tasks in the heat map
MAX_LABELS = 12  # points of a scatter plot that all have labels
LABEL_OFFSETS = (
    (11, 0, "left"),
    (-11, 0, "right"),
    (0, 13, "center"),
    (0, -13, "center"),
    (11, 11, "left"),
    (11, -11, "left"),
)
"""Places of a label around its point in the order of preference: x and y in points, horizontal alignment."""
POINT_RADIUS = 9  # pixels around a point that stay free of labels

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels."""

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a task may be called $x$
    "axes.edgecolor": FAINT,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#eaeef2",
    "grid.linewidth": 0.8,
}


def draw(folder: Path, spec_class: type[EncoderSpec]) -> list[Path]:
    """Draw the pictures into `folder`/plots and return their paths.

    The pictures are grid.png, quality-speed.png, loss.png and those that the family's Spec names in `pictures`. Each is
    drawn by a function that takes the Record and returns a Figure, or None if the record does not support the picture, for
    example if it has a single view. Such a picture is not drawn; an older file of that name is removed. Raise ArtefactError
    if the record cannot be read.
    """
    import matplotlib.style

    record = run_record.read(folder)
    family_pictures = {name: spec_class.load_family_attribute(path) for name, path in spec_class.pictures.items()}
    pictures = {"grid": draw_grid, "quality-speed": draw_quality_speed, "loss": draw_loss, **family_pictures}
    paths = []
    with matplotlib.style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name in a script that the font lacks
        for name, draw_picture in pictures.items():
            path = folder / "plots" / f"{name}.png"
            figure = draw_picture(record)
            if figure is None:
                path.unlink(missing_ok=True)
                continue
            with atomic_files.replace_file(path) as partial:
                figure.savefig(partial, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
            paths.append(path)
    return paths


def new_figure(height: float) -> Figure:
    """Return an empty figure as wide as a card and `height` inches high."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)  # type: ignore[union-attr, call-arg]
    return figure


def shorten(name: str, limit: int = 48) -> str:
    """Return a name as one line of at most `limit` characters."""
    name = as_line(name)
    return name if len(name) <= limit else name[: limit - 1] + "…"


def _set_title(axes: Axes, title: str, subtitle: str) -> None:
    axes.set_title(title or " ", fontweight="bold", fontsize=10, pad=20)
    axes.annotate(subtitle, (0, 1), (0, 6), xycoords="axes fraction", textcoords="offset points", color=MUTED)


# -- layers × dims -----------------------------------------------------------------------------------------------------


def draw_grid(record: Record) -> Figure | None:
    """Draw a row per task: the score of each cut and the gain of the training.

    Return None unless both the depths and the dims of a task vary, and two cuts have a score.
    """
    grids = []
    for task in record.tasks:
        grid = task.grid()
        if grid and sum(result.value is not None for result in grid[2].values()) > 1:
            grids.append((task, grid))
    grids = grids[:MAX_PANELS]
    if not grids:
        return None
    has_gains = any(result.gain is not None for _, (_, _, cells) in grids for result in cells.values())
    heights = [1.0 + 0.36 * len(depths) for _, (depths, _, _) in grids]
    figure = new_figure(sum(heights))
    columns = 2 if has_gains else 1
    axes = figure.subplots(len(grids), columns, squeeze=False, gridspec_kw={"height_ratios": heights})
    for row, (task, (depths, dims, cells)) in zip(axes, grids, strict=True):
        title = f"{shorten(task.name)} · {shorten(task.metric, 24)}"
        scores = {cut: result.value for cut, result in cells.items() if result.value is not None}
        _draw_heat_map(row[0], depths, dims, scores, signed=False)
        _set_title(row[0], title, "trained")
        if has_gains:
            gains = {cut: result.gain for cut, result in cells.items() if result.gain is not None}
            _draw_heat_map(row[1], depths, dims, gains, signed=True)
            _set_title(row[1], "", "gain over the same cut before training")
    return figure


def _draw_heat_map(
    axes: Axes, depths: list[int], dims: list[int], values: dict[tuple[int, int], float], *, signed: bool
) -> None:
    """Draw `values` by (layers, dim). Signed values have zero in the middle of the colours."""
    import matplotlib
    import numpy as np

    # Only the light half of each colour map is used, so that dark figures read well on every cell.
    numbers = list(values.values()) or [0.0]
    if signed:
        reach = max(abs(number) for number in numbers) or 1.0
        colours, low, high = matplotlib.colormaps["BrBG"], -2.0 * reach, 2.0 * reach
    else:
        colours, low, high = matplotlib.colormaps["Blues"], min(numbers), max(numbers)
        spread = (high - low) or 1.0
        low, high = low - 0.15 * spread, high + spread
    table = np.full((len(depths), len(dims)), np.nan)
    for (depth, dim), value in values.items():
        table[depths.index(depth), dims.index(dim)] = value
    axes.pcolormesh(np.ma.masked_invalid(table), cmap=colours, vmin=low, vmax=high, edgecolors="white", linewidth=2)
    for (depth, dim), value in values.items():
        text = f"{value:+.3f}" if signed else f"{value:.3f}"
        x, y = dims.index(dim) + 0.5, depths.index(depth) + 0.5
        axes.text(x, y, text, ha="center", va="center", fontsize=9 if len(dims) < 7 else 7.5)
    axes.set_xticks([i + 0.5 for i in range(len(dims))], [str(dim) for dim in dims])
    axes.set_yticks([i + 0.5 for i in range(len(depths))], [str(depth) for depth in depths])
    axes.set_xlabel("dimensions")
    axes.set_ylabel("layers")
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


# -- quality against speed ---------------------------------------------------------------------------------------------


class Point(NamedTuple):
    """A timed view.

    Attributes:
        speed: sentences per second.
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
    """Draw score against sentences per second for the first task with two timed views.

    A hollow point is the same cut before training. Return None if no task has two timed views that differ.
    """
    for task in record.tasks:
        points = _list_points(task)
        if len({(point.speed, point.score) for point in points}) > 1:
            return _draw_scatter(task, points)
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
    figure = new_figure(4.6)
    axes = figure.subplots()
    _draw_points(axes, points)
    axes.margins(x=0.12, y=0.12)
    axes.set_xlabel("sentences per second →")
    axes.set_ylabel(f"{shorten(task.metric, 24)} →")
    legend = ["one point per cut" if labels_all else "one point per cut, the best of each depth named"]
    if any(point.baseline is not None for point in points):
        legend.append("hollow: before training")
    legend.append("area: bytes per vector")
    _set_title(axes, f"{shorten(task.name)}: quality against speed", " · ".join(legend))
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
            text = axes.annotate(point.label, (point.speed, point.score), fontsize=8, **placement)
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


# -- loss --------------------------------------------------------------------------------------------------------------


def draw_loss(record: Record) -> Figure | None:
    """Draw training loss by optimiser step, raw and smoothed, and validation loss with its lowest point.

    The phases of a training by blocks of documents are curves of their own. Return None if no curve has two points.
    """
    phases = {name: points for name, points in record.phases.items() if name != "settling"}  # trains nothing
    curves = {f"training of {name}": points for name, points in phases.items()} or {"training": record.training}
    curves = {name: points for name, points in curves.items() if len(points) > 1}
    validation = record.validation if len(record.validation) > 1 else []
    if not curves and not validation:
        return None
    figure = new_figure(3.4)
    axes = figure.subplots()
    for (name, points), colour in zip(curves.items(), (ACCENT, SECOND, INK), strict=False):
        steps, values = zip(*points, strict=True)
        axes.plot(steps, values, color=colour, linewidth=0.8, alpha=0.3)
        axes.plot(steps, _smooth(values), color=colour, linewidth=1.8, label=name)
    if validation:
        steps, values = zip(*validation, strict=True)
        axes.plot(steps, values, color=SECOND, linewidth=1.4, marker="o", markersize=4.5, label="validation")
        step, lowest = min(validation, key=lambda point: point[1])
        axes.scatter(step, lowest, s=110, facecolor="none", edgecolor=SECOND, linewidth=1.2, zorder=4)
        axes.annotate(
            f"lowest, step {step:,}",
            (step, lowest),
            (0, 12),
            textcoords="offset points",
            ha="center",
            color=SECOND,
            fontsize=8,
        )
    axes.set_xlabel("block of documents" if phases else "optimiser step")
    axes.set_ylabel("loss")
    axes.set_title("Loss", fontweight="bold", fontsize=10)
    axes.legend(frameon=False, loc="upper right", labelcolor=MUTED)
    return figure


def _smooth(values: Sequence[float]) -> list[float]:
    """Return the mean over a centred window of about a twentieth of the steps."""
    half = math.ceil(len(values) / 40)
    windows = (values[max(0, i - half) : i + half + 1] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]
