"""Pictures of a model folder: what each cut scores, what it costs, and how training went.

Same record, same bytes: no date, no version and no setting of the user's own matplotlib gets into a PNG.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.card import run_record
from zoo.card.markdown import line
from zoo.card.run_record import Record, Task
from zoo.core import atomic_files
from zoo.spec import EncoderSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, FAINT, ACCENT, SECOND = "#1f2328", "#59636e", "#d1d9e0", "#0b5cad", "#c4501b"
WIDTH, DPI = 8.4, 200  # inches and dots per inch: about twice the width of a README column
MAX_PANELS, MAX_NAMED = 3, 12
PLACES = (
    (11, 0, "left"),
    (-11, 0, "right"),
    (0, 13, "center"),
    (0, -13, "center"),
    (11, 11, "left"),
    (11, -11, "left"),
)
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
    """Draw grid.png, quality-speed.png and loss.png into `folder`/plots from report.json and metrics.jsonl, and what the
    family's Spec names in `pictures`: functions from the Record to a Figure, or None, by file stem.

    A picture that the record does not support (a single view, no metrics) is not drawn, and one of that name left by an
    earlier report is removed. Returns the files. Raises ArtefactError for a record that cannot be read.
    """
    import matplotlib.style

    about = run_record.read(folder)
    own = {name: spec_class.load_family_attribute(function) for name, function in spec_class.pictures.items()}
    pictures = {"grid": grid, "quality-speed": quality_speed, "loss": loss, **own}
    written = []
    with matplotlib.style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name in a script that the font lacks
        for name, picture in pictures.items():
            path = folder / "plots" / f"{name}.png"
            figure = picture(about)
            if figure is None:
                path.unlink(missing_ok=True)
                continue
            with atomic_files.replace_file(path) as partial:
                figure.savefig(partial, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
            written.append(path)
    return written


def new_figure(height: float) -> Figure:
    """An empty figure as wide as a card, `height` inches high."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)  # type: ignore[union-attr, call-arg]
    return figure


def _title(axes: Axes, title: str, subtitle: str) -> None:
    axes.set_title(title or " ", fontweight="bold", fontsize=10, pad=20)
    axes.annotate(subtitle, (0, 1), (0, 6), xycoords="axes fraction", textcoords="offset points", color=MUTED)


def short(name: str, limit: int = 48) -> str:
    """A name as one line of at most `limit` characters."""
    name = line(name)
    return name if len(name) <= limit else name[: limit - 1] + "…"


# -- layers × dims -------------------------------------------------------------------------------------------------


def grid(about: Record) -> Figure | None:
    """A row per task: the score of each cut, and beside it what training added; None unless depths and dims vary."""
    grids = [(task, found) for task in about.tasks if (found := task.grid())][:MAX_PANELS]
    if not grids:
        return None
    gains = any(r.gain is not None for _, (_, _, cells) in grids for r in cells.values())
    heights = [1.0 + 0.36 * len(depths) for _, (depths, _, _) in grids]
    figure = new_figure(sum(heights))
    axes = figure.subplots(len(grids), 2 if gains else 1, squeeze=False, gridspec_kw={"height_ratios": heights})
    for row, (task, (depths, dims, cells)) in zip(axes, grids, strict=True):
        title = f"{short(task.name)} · {short(task.metric, 24)}"
        scores = {at: r.value for at, r in cells.items() if r.value is not None}
        _heat(row[0], depths, dims, scores, title, "trained", signed=False)
        if gains:
            added = {at: r.gain for at, r in cells.items() if r.gain is not None}
            _heat(row[1], depths, dims, added, "", "gain over the same cut before training", signed=True)
    return figure


def _heat(
    axes: Axes,
    depths: list[int],
    dims: list[int],
    values: dict[tuple[int, int], float],
    title: str,
    subtitle: str,
    *,
    signed: bool,
) -> None:
    import matplotlib
    import numpy as np

    # Only the light half of each colour map is used, so that dark figures read well on every cell.
    numbers = list(values.values()) or [0.0]
    if signed:
        reach = max(abs(v) for v in numbers) or 1.0
        colours, low, high = matplotlib.colormaps["BrBG"], -2.0 * reach, 2.0 * reach
    else:
        colours, low, high = matplotlib.colormaps["Blues"], min(numbers), max(numbers)
        pad = (high - low) or 1.0
        low, high = low - 0.15 * pad, high + pad
    table = np.full((len(depths), len(dims)), np.nan)
    for (depth, dim), value in values.items():
        table[depths.index(depth), dims.index(dim)] = value
    axes.pcolormesh(np.ma.masked_invalid(table), cmap=colours, vmin=low, vmax=high, edgecolors="white", linewidth=2)
    for (depth, dim), value in values.items():
        text = f"{value:+.3f}" if signed else f"{value:.3f}"
        x, y = dims.index(dim) + 0.5, depths.index(depth) + 0.5
        axes.text(x, y, text, ha="center", va="center", fontsize=9 if len(dims) < 7 else 7.5)
    axes.set_xticks([i + 0.5 for i in range(len(dims))], [str(d) for d in dims])
    axes.set_yticks([i + 0.5 for i in range(len(depths))], [str(d) for d in depths])
    axes.set_xlabel("dimensions")
    axes.set_ylabel("layers")
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    _title(axes, title, subtitle)


# -- quality against speed -----------------------------------------------------------------------------------------


class Point(NamedTuple):
    """A timed view: sentences/s, score, score before training, bytes per vector, depth (0 for none), name."""

    speed: float
    score: float
    before: float | None
    size: int
    depth: float
    name: str


def quality_speed(about: Record) -> Figure | None:
    """Score against sentences/s of the first task with two timed views; hollow is the same cut before training."""
    for task in about.tasks:
        points = [
            Point(r.speed, r.value, r.baseline, r.size or 1, run_record.number(r.corner.get("layers")) or 0.0, r.label)
            for r in task.results
            if r.value is not None and r.speed
        ]
        if len(points) > 1:
            return _scatter(task, points)
    return None


def _scatter(task: Task, points: list[Point]) -> Figure:
    import matplotlib

    few = len(points) <= MAX_NAMED
    if not few:
        points = [p._replace(before=None) for p in points]  # the heat map shows what training added to so many
    figure = new_figure(4.6)
    axes = figure.subplots()
    depths = sorted({p.depth for p in points})
    shades = matplotlib.colormaps["viridis"]
    colours = {depth: shades(0.08 + 0.72 * i / max(1, len(depths) - 1)) for i, depth in enumerate(depths)}
    largest = max(p.size for p in points)
    for p in points:
        colour, area = colours[p.depth], 24 + 200 * p.size / largest
        if p.before is not None:
            axes.plot([p.speed, p.speed], [p.before, p.score], color=colour, linewidth=1, alpha=0.45, zorder=2)
            axes.scatter(p.speed, p.before, s=area, facecolor="white", edgecolor=colour, linewidth=1.2, zorder=3)
        axes.scatter(p.speed, p.score, s=area, color=colour, edgecolor="white", linewidth=0.8, zorder=4)
    axes.margins(x=0.12, y=0.12)
    axes.set_xlabel("sentences per second →")
    axes.set_ylabel(f"{short(task.metric, 24)} →")
    key = ["one point per cut" if few else "one point per cut, the best of each depth named", "area: bytes per vector"]
    if any(p.before is not None for p in points):
        key.insert(1, "hollow: before training")
    _title(axes, f"{short(task.name)}: quality against speed", " · ".join(key))
    best = {p.depth: p for p in sorted(points, key=lambda p: p.score)}
    _name(figure, axes, points, points if few else list(best.values()))
    return figure


def _name(figure: Figure, axes: Axes, points: list[Point], named: list[Point]) -> None:
    """Write the names of `named` beside their points, where there is room."""
    figure.draw_without_rendering()
    renderer: Any = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    taken = []
    for p in points:
        for score in (p.score, p.before):
            if score is not None:
                x, y = axes.transData.transform((p.speed, score))
                taken.append((x - 9, y - 9, x + 9, y + 9))
    frame = axes.get_window_extent(renderer)
    for p in named:
        for dx, dy, align in PLACES:
            at: dict[str, Any] = {"xytext": (dx, dy), "textcoords": "offset points", "ha": align, "va": "center"}
            text = axes.annotate(p.name, (p.speed, p.score), fontsize=8, **at)
            box = text.get_window_extent(renderer)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if inside and all(box.x1 < a or c < box.x0 or box.y1 < b or d < box.y0 for a, b, c, d in taken):
                taken.append((box.x0, box.y0, box.x1, box.y1))
                break
            text.remove()


# -- loss ----------------------------------------------------------------------------------------------------------


def loss(about: Record) -> Figure | None:
    """Training loss by optimiser step, as it was and smoothed, and validation loss with its lowest point."""
    training, validation = about.training, about.validation
    if len(training) < 2 and len(validation) < 2:
        return None
    figure = new_figure(3.4)
    axes = figure.subplots()
    if training:
        steps, values = zip(*training, strict=True)
        axes.plot(steps, values, color=ACCENT, linewidth=0.8, alpha=0.3)
        axes.plot(steps, _smooth(values), color=ACCENT, linewidth=1.8, label="training")
    if validation:
        steps, values = zip(*validation, strict=True)
        axes.plot(steps, values, color=SECOND, linewidth=1.4, marker="o", markersize=4.5, label="validation")
        step, lowest = min(validation, key=lambda each: each[1])
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
    axes.set_xlabel("optimiser step")
    axes.set_ylabel("loss")
    axes.set_title("Loss", fontweight="bold", fontsize=10)
    axes.legend(frameon=False, loc="upper right", labelcolor=MUTED)
    return figure


def _smooth(values: Sequence[float]) -> list[float]:
    """Mean over a centred window of about a twentieth of the steps."""
    half = math.ceil(len(values) / 40)
    windows = (values[max(0, i - half) : i + half + 1] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]
