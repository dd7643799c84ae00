"""The look of a card's pictures: colours, sizes and titles. A picture is legible in a README column and on a phone.

A phone shows a picture about 340 pixels wide. At the width of WIDTH inches, a letter of SMALL points is then 8 pixels high.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from zoo.card.markdown import as_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, FAINT, ACCENT, SECOND = "#1f2328", "#59636e", "#d1d9e0", "#0b5cad", "#c4501b"
WIDTH, DPI = 4.8, 200  # inches and dots per inch
MAX_HEIGHT = 7.2  # inches: a phone held upright shows the whole picture
SMALL, NORMAL, LARGE = 8.5, 10.0, 11.0
"""Font sizes in points: of labels inside a picture, of axes, of titles. No text is smaller than SMALL."""
TITLE_WIDTH = 46  # characters of a title in one line

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": NORMAL,
    "text.color": INK,
    "text.parse_math": False,  # a task may be called $x$
    "axes.edgecolor": FAINT,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": LARGE,
    "axes.titleweight": "bold",
    "legend.fontsize": SMALL,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#eaeef2",
    "grid.linewidth": 0.8,
}


def new_figure(height: float) -> Figure:
    """Return an empty figure as wide as a card and `height` inches high, at most MAX_HEIGHT."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, min(height, MAX_HEIGHT)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # type: ignore[union-attr, call-arg]
    return figure


def shorten(name: str, limit: int = 40) -> str:
    """Return a name as one line of at most `limit` characters."""
    name = as_line(name)
    return name if len(name) <= limit else name[: limit - 1] + "…"


def set_title(axes: Axes, title: str, subtitle: str = "") -> None:
    """Write a bold title above the axes, and a plain line below it. Long ones are broken into lines."""
    lines = textwrap.wrap(subtitle, TITLE_WIDTH + 8)
    axes.set_title(textwrap.fill(title, TITLE_WIDTH) or " ", pad=6 + 13 * len(lines))
    if lines:
        place = {"xycoords": "axes fraction", "textcoords": "offset points", "color": MUTED, "fontsize": SMALL}
        axes.annotate("\n".join(lines), (0, 1), (0, 5), **place)  # type: ignore[arg-type]
