"""The heat map of a card: the score of every cut, by layers and dimensions, and what the training added to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zoo.card import style
from zoo.card.run_record import Record, Result, Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_TASKS = 2
MAX_THREE_DECIMALS = 7  # columns; more columns have room for two decimals


class Grid(NamedTuple):
    """The grid of a task, with the scores and the gains of its cuts by (layers, dim)."""

    task: Task
    depths: list[int]
    dims: list[int]
    scores: dict[tuple[int, int], float]
    gains: dict[tuple[int, int], float]


def _list_grids(record: Record) -> list[Grid]:
    """Return the grids of the first tasks in which both depths and dims vary, and two cuts have a score."""
    grids = []
    for task in record.tasks:
        grid = task.grid()
        if grid is not None:
            depths, dims, cells = grid
            scores = {cut: result.value for cut, result in cells.items() if result.value is not None}
            gains = {cut: result.gain for cut, result in cells.items() if result.gain is not None}
            if len(scores) > 1:
                grids.append(Grid(task, depths, dims, scores, gains))
    return grids[:MAX_TASKS]


def draw_grid(record: Record) -> Figure | None:
    """Draw the score of each cut for every task, and below it the gain of the training, if that was measured.

    Return None unless both the depths and the dims of a task vary, and two cuts have a score.
    """
    grids = _list_grids(record)
    if not grids:
        return None
    panels = [(grid, signed) for grid in grids for signed in ((False, True) if grid.gains else (False,))]
    heights = [1.15 + 0.34 * len(grid.depths) for grid, _ in panels]
    figure = style.new_figure(sum(heights))
    all_axes = figure.subplots(len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": heights})
    for (axes,), (grid, signed) in zip(all_axes, panels, strict=True):
        _draw_heat_map(axes, grid.depths, grid.dims, grid.gains if signed else grid.scores, signed=signed)
        title = f"{style.shorten(grid.task.name)} · {style.shorten(grid.task.metric, 24)}"
        style.set_title(axes, title, "gain over the same cut before training" if signed else "after training")
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
    decimals = 3 if len(dims) <= MAX_THREE_DECIMALS else 2
    for (depth, dim), value in values.items():
        text = f"{value:+.{decimals}f}" if signed else f"{value:.{decimals}f}"
        x, y = dims.index(dim) + 0.5, depths.index(depth) + 0.5
        axes.text(x, y, text, ha="center", va="center", fontsize=style.SMALL)
    axes.set_xticks([i + 0.5 for i in range(len(dims))], [str(dim) for dim in dims])
    axes.set_yticks([i + 0.5 for i in range(len(depths))], [str(depth) for depth in depths])
    axes.set_xlabel("dimensions")
    axes.set_ylabel("layers")
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def describe_grid(record: Record) -> str:
    """Say from which cut to which the scores of each task go, and how much the training added."""
    sentences = ["Heat map of the score of every cut."]
    for grid in _list_grids(record):
        results = [result for result in grid.task.results if result.value is not None]
        low, high = (choose(results, key=_score) for choose in (min, max))
        sentences.append(f"{grid.task.name}: from {low.value:.4f} ({low.label}) to {high.value:.4f} ({high.label}).")
        if grid.gains:
            gains = grid.gains.values()
            sentences.append(f"Training changed the cuts by {min(gains):+.4f} to {max(gains):+.4f}.")
    return " ".join(sentences)


def _score(result: Result) -> float:
    return result.value or 0.0
