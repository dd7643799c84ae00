"""The map of two encoders: how alike each layer or view of one is to each of the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.card import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROW = 0.34  # inches
MAX_FIGURES = 8  # columns with room for figures
DARK = 0.6
"""Figures on cells above this value are white."""


def draw_cka(table: Any, rows: Sequence[str], columns: Sequence[str], names: tuple[str, str]) -> Figure:
    """Draw CKA (k, m), from 0 to 1, with the labels of both sides and the names of the two encoders."""
    figure = style.new_figure(1.3 + ROW * len(rows))
    axes = figure.subplots()
    axes.pcolormesh(table, cmap="Blues", vmin=0, vmax=1, edgecolors="white", linewidth=2)
    if len(columns) <= MAX_FIGURES:
        for row in range(len(rows)):
            for column in range(len(columns)):
                value = float(table[row, column])
                colour = "white" if value > DARK else style.INK
                place = (column + 0.5, row + 0.5)
                axes.text(*place, f"{value:.2f}", ha="center", va="center", fontsize=style.SMALL, color=colour)
    axes.set_xticks([number + 0.5 for number in range(len(columns))], [style.shorten(name, 14) for name in columns])
    axes.set_yticks([number + 0.5 for number in range(len(rows))], [style.shorten(name, 14) for name in rows])
    axes.set_ylabel(style.shorten(names[0], 30))
    axes.set_xlabel(style.shorten(names[1], 30))
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    style.set_title(axes, "Linear CKA", "1 for a rotated copy, 0 for unrelated spaces")
    return figure
