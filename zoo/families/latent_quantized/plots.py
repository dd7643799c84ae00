"""Pictures of an autoencoder's card: traversals, NMI of sources and latents, reconstructions, the codebook."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.card.run_record import Record, as_mapping, as_number
from zoo.data.formats import image_files

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARGIN = 2  # white pixels between two images of a sheet
SHEET_LIMIT = 1 << 21  # characters of a sheet in a model folder, and pixels of it
LABELLED_LATENTS = 24  # largest number of latents whose NMI is also written as numbers


def draw_traversal(record: Record) -> Figure | None:
    """One row for each latent: one input decoded with that latent at each of its values, the others unchanged."""
    return _draw_sheet(record, "traversal", "One input, each row with one latent at each of its values", "latent")


def draw_reconstructions(record: Record) -> Figure | None:
    """Training inputs, and below each one its reconstruction."""
    return _draw_sheet(record, "pairs", "Inputs, and what the decoder makes of their codes", "")


def draw_nmi(record: Record) -> Figure | None:
    """Normalised mutual information of every source and every latent, from the first task that measured two or more."""
    from zoo.card import plots

    nmi = _find_nmi(record)
    if nmi is None:
        return None
    figure = plots.new_figure(1.2 + 0.36 * len(nmi.table))
    axes = figure.subplots()
    image = axes.imshow(nmi.table, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_yticks(range(len(nmi.sources)), [plots.shorten(source, 20) for source in nmi.sources])
    if len(nmi.is_active) <= LABELLED_LATENTS:
        labels = [f"{j}" if is_active else f"({j})" for j, is_active in enumerate(nmi.is_active)]
        axes.set_xticks(range(len(nmi.is_active)), labels)
        _write_values(axes, nmi.table, plots.INK)
    axes.set_xlabel("latent; in brackets those that take one value")
    _finish_axes(axes, "NMI of sources and latents")
    figure.colorbar(image, ax=axes, shrink=0.8)
    return figure


def _write_values(axes: Axes, table: list[list[float]], dark: str) -> None:
    for i, row in enumerate(table):
        for j, value in enumerate(row):
            if value >= 0.005:
                colour = "white" if value > 0.6 else dark
                axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)


def draw_codebook(record: Record) -> Figure | None:
    """The values of each latent. The area of a point is the share of inputs that take the value."""
    from zoo.card import plots

    values, usage = _read_table(record.facts.get("values")), _read_table(record.facts.get("usage"))
    if sum(map(len, values)) < 2 or [len(row) for row in values] != [len(row) for row in usage]:
        return None
    figure = plots.new_figure(3.2)
    axes = figure.subplots()
    for latent, (scalars, shares) in enumerate(zip(values, usage, strict=True)):
        x = [latent] * len(scalars)
        areas = [4 + 400 * share for share in shares]
        axes.scatter(x, scalars, s=areas, color=plots.ACCENT, alpha=0.55, lw=0)
        axes.scatter(x, scalars, s=6, color=plots.INK, marker="_", lw=0.8)
    axes.set(xlabel="latent", ylabel="value")
    axes.set_xticks(range(len(values)))
    axes.set_title("Values of each latent, and how often each is taken", fontweight="bold", fontsize=10)
    return figure


def _draw_sheet(record: Record, fact: str, title: str, row_label: str) -> Figure | None:
    """Draw a sheet of `card_samples.pack_images`; None if the model folder has none that can be opened."""
    from zoo.card import plots

    content = record.facts.get(fact)
    if not isinstance(content, str) or len(content) > SHEET_LIMIT:
        return None
    try:
        sheet = image_files.decode_image(base64.b64decode(content, validate=True), SHEET_LIMIT)
    except ValueError:
        return None
    figure = plots.new_figure(0.6 + plots.WIDTH * min(1.2, sheet.height / sheet.width))
    axes = figure.subplots()
    axes.imshow(sheet, cmap="gray", vmin=0, vmax=255)
    axes.set(xticks=[], yticks=[], ylabel=row_label)
    side = as_number((record.facts.get("shape") or [0])[-1]) or 0
    if row_label and side:
        cell = side + MARGIN
        rows = range(round(sheet.height / cell))
        axes.set_yticks([row * cell + side / 2 for row in rows])
        axes.set_yticklabels([str(row) for row in rows])
    _finish_axes(axes, title)
    return figure


def _finish_axes(axes: Axes, title: str) -> None:
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontweight="bold", fontsize=10)


class Nmi(NamedTuple):
    """NMI from a report: `table` (sources, active and inactive latents), names of the sources, and which latents vary."""

    table: list[list[float]]
    sources: list[str]
    is_active: list[bool]


def _find_nmi(record: Record) -> Nmi | None:
    results = record.report.get("results")
    for result in results if isinstance(results, list) else []:
        details = as_mapping(as_mapping(result).get("details"))
        table, sources, active = _read_table(details.get("nmi")), details.get("sources"), details.get("active")
        if (
            sum(map(len, table)) > 1
            and isinstance(sources, list)
            and isinstance(active, list)
            and len(sources) == len(table)
        ):
            return Nmi(table, [str(source) for source in sources], [bool(value) for value in active])
    return None


def _read_table(value: Any) -> list[list[float]]:
    """`value` if it is a list of non-empty lists of finite numbers, else an empty list."""
    rows = value if isinstance(value, list) else []
    for row in rows:
        if not isinstance(row, list) or not row or any(as_number(entry) is None for entry in row):
            return []
    return rows
