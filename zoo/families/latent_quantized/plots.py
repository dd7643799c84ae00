"""Pictures of an autoencoder's card: what each latent changes, what tells of which source, reconstructions, the codebook."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from zoo.card.run_record import Record, mapping, number
from zoo.data.formats import image_files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LARGEST = 1 << 21  # characters of a picture in a folder, and pixels of it


def traversal(about: Record) -> Figure | None:
    """A row a latent: one input decoded with that latent at each of its values, the others as they are."""
    return _sheet(about, "traversal", "One input, each row with one latent at each of its values", "latent")


def reconstructions(about: Record) -> Figure | None:
    """Training inputs, and below each what the decoder makes of its code."""
    return _sheet(about, "pairs", "Inputs, and what the decoder makes of their codes", "")


def nmi(about: Record) -> Figure | None:
    """Share of each source's information that each latent tells, of the first task that measured it."""
    from zoo.card import plots

    found = _measured(about)
    if found is None:
        return None
    table, names, active = found
    figure = plots.new_figure(1.2 + 0.36 * len(table))
    axes = figure.subplots()
    picture = axes.imshow(table, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_yticks(range(len(names)), [plots.short(name, 20) for name in names])
    if len(active) <= 24:
        axes.set_xticks(range(len(active)), [f"{j}" if on else f"({j})" for j, on in enumerate(active)])
        for i, row in enumerate(table):
            for j, value in enumerate(row):
                if value >= 0.005:
                    colour = "white" if value > 0.6 else plots.INK
                    axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("latent; in brackets those that take one value")
    axes.set_title("NMI of sources and latents", fontweight="bold", fontsize=10)
    figure.colorbar(picture, ax=axes, shrink=0.8)
    return figure


def codebook(about: Record) -> Figure | None:
    """The values of each latent, the area of a point being the share of inputs that take it."""
    from zoo.card import plots

    values, usage = _table(about.facts.get("values")), _table(about.facts.get("usage"))
    if not values or [len(v) for v in values] != [len(u) for u in usage]:
        return None
    figure = plots.new_figure(3.2)
    axes = figure.subplots()
    for j, (points, shares) in enumerate(zip(values, usage, strict=True)):
        axes.scatter([j] * len(points), points, s=[4 + 400 * s for s in shares], color=plots.ACCENT, alpha=0.55, lw=0)
        axes.scatter([j] * len(points), points, s=6, color=plots.INK, marker="_", lw=0.8)
    axes.set(xlabel="latent", ylabel="value")
    axes.set_xticks(range(len(values)))
    axes.set_title("Values of each latent, and how often each is taken", fontweight="bold", fontsize=10)
    return figure


def _sheet(about: Record, name: str, title: str, label: str) -> Figure | None:
    from zoo.card import plots

    given = about.facts.get(name)
    if not isinstance(given, str) or len(given) > LARGEST:
        return None
    try:
        picture = image_files.decode_image(base64.b64decode(given, validate=True), LARGEST)
    except ValueError:
        return None
    figure = plots.new_figure(0.6 + plots.WIDTH * min(1.2, picture.height / picture.width))
    axes = figure.subplots()
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255)
    axes.set(xticks=[], yticks=[], ylabel=label)
    side = number((about.facts.get("shape") or [0])[-1]) or 0
    if label and side:
        axes.set_yticks([i * (side + 2) + side / 2 for i in range(round(picture.height / (side + 2)))])
        axes.set_yticklabels([str(i) for i in range(round(picture.height / (side + 2)))])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontweight="bold", fontsize=10)
    return figure


def _measured(about: Record) -> tuple[list[list[float]], list[str], list[bool]] | None:
    results = about.report.get("results")
    for entry in results if isinstance(results, list) else []:
        details = mapping(mapping(entry).get("details"))
        table, names, active = _table(details.get("nmi")), details.get("sources"), details.get("active")
        if table and isinstance(names, list) and isinstance(active, list) and len(names) == len(table):
            return table, [str(name) for name in names], [bool(on) for on in active]
    return None


def _table(value: Any) -> list[list[float]]:
    """`value` if it is a list of lists of finite numbers, else an empty one."""
    rows = value if isinstance(value, list) else []
    good = all(isinstance(row, list) and row and all(number(x) is not None for x in row) for row in rows)
    return rows if good else []
