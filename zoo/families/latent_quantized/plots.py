"""Pictures of an autoencoder's card: traversals, NMI of sources and latents, reconstructions, the codebook."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.card import style
from zoo.card.run_record import Record, as_mapping, as_number
from zoo.data.formats import image_files

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARGIN = 2  # white pixels between two images of a sheet
SHEET_LIMIT = 1 << 21  # characters of a sheet in a model folder, and pixels of it
MAX_LABELLED_ROWS = 24  # of a sheet; of more rows every second is labelled
LABELLED_LATENTS = 12  # largest number of latents whose NMI is also written as numbers


def draw_traversal(record: Record) -> Figure | None:
    """One row for each latent: one input decoded with that latent at each of its values, the others unchanged."""
    return _draw_sheet(record, "traversal", "One input, each row with one latent at each of its values", "latent")


def draw_reconstructions(record: Record) -> Figure | None:
    """Training inputs, and below each one its reconstruction."""
    return _draw_sheet(record, "pairs", "Inputs, and what the decoder makes of their codes", "")


def draw_nmi(record: Record) -> Figure | None:
    """Normalised mutual information of every source and every latent, from the first task that measured two or more."""
    nmi = _find_nmi(record)
    if nmi is None:
        return None
    figure = style.new_figure(1.4 + 0.34 * len(nmi.table))
    axes = figure.subplots()
    image = axes.imshow(nmi.table, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_yticks(range(len(nmi.sources)), [style.shorten(source, 16) for source in nmi.sources])
    if len(nmi.is_active) <= LABELLED_LATENTS:
        labels = [f"{j}" if is_active else f"({j})" for j, is_active in enumerate(nmi.is_active)]
        axes.set_xticks(range(len(nmi.is_active)), labels)
        _write_values(axes, nmi.table)
        axes.set_xlabel("latent; in brackets those that take one value")
    else:
        axes.set_xlabel("latent")
    _finish_axes(axes, "NMI of sources and latents")
    figure.colorbar(image, ax=axes, shrink=0.8)
    return figure


def _write_values(axes: Axes, table: list[list[float]]) -> None:
    for i, row in enumerate(table):
        for j, value in enumerate(row):
            if value >= 0.005:
                text = f"{value:.2f}".removeprefix("0")
                colour = "white" if value > 0.6 else style.INK
                axes.text(j, i, text, ha="center", va="center", fontsize=style.SMALL, color=colour)


def draw_codebook(record: Record) -> Figure | None:
    """The values of each latent. The area of a point is the share of inputs that take the value."""
    values, usage = _read_table(record.facts.get("values")), _read_table(record.facts.get("usage"))
    if sum(map(len, values)) < 2 or [len(row) for row in values] != [len(row) for row in usage]:
        return None
    figure = style.new_figure(3.2)
    axes = figure.subplots()
    for latent, (scalars, shares) in enumerate(zip(values, usage, strict=True)):
        x = [latent] * len(scalars)
        areas = [4 + 400 * share for share in shares]
        axes.scatter(x, scalars, s=areas, color=style.ACCENT, alpha=0.55, lw=0)
        axes.scatter(x, scalars, s=6, color=style.INK, marker="_", lw=0.8)
    axes.set(xlabel="latent", ylabel="value")
    if len(values) <= LABELLED_LATENTS:
        axes.set_xticks(range(len(values)))
    style.set_title(axes, "Values of each latent", "the area of a point: how often the value is taken")
    return figure


def describe_traversal(record: Record) -> str:
    """Say how many latents are shown, and how many values each of them has."""
    sizes = record.facts.get("sizes")
    sentence = "One input, decoded with one latent of its code changed in each row."
    if not isinstance(sizes, list) or not sizes:
        return sentence
    counts = f"{min(sizes)}" if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"
    return f"{sentence} Each of its {len(sizes)} latents takes {counts} values."


def describe_reconstructions(record: Record) -> str:
    """Say how large the error of reconstruction is."""
    error = as_number(record.facts.get("error"))
    sentence = "Inputs, each above its reconstruction."
    return sentence if error is None else f"{sentence} The mean error on training inputs is {error:.4f}."


def describe_nmi(record: Record) -> str:
    """Say how much the best latent of a source knows about the source, in the mean, and which source is known best."""
    nmi = _find_nmi(record)
    sentence = "Normalised mutual information of every source with every latent."
    if nmi is None:
        return sentence
    best = [max(row) for row in nmi.table]
    value, number = max((value, -number) for number, value in enumerate(best))
    latent, source = nmi.table[-number].index(value), nmi.sources[-number]
    return (
        f"{sentence} The best latent of a source has {sum(best) / len(best):.2f} in the mean; the highest value is "
        f"{value:.2f}, of {source} with latent {latent}."
    )


def describe_codebook(record: Record) -> str:
    """Say how many of its values a latent really takes."""
    usage = _read_table(record.facts.get("usage"))
    sentence = "The values of every latent, and how often each is taken."
    if not usage:
        return sentence
    taken, all_values = sum(share > 0 for row in usage for share in row), sum(map(len, usage))
    return f"{sentence} Inputs take {taken} of the {all_values} values."


def _draw_sheet(record: Record, fact: str, title: str, row_label: str) -> Figure | None:
    """Draw a sheet of `card_samples.pack_images`; None if the model folder has none that can be opened."""
    content = record.facts.get(fact)
    if not isinstance(content, str) or len(content) > SHEET_LIMIT:
        return None
    try:
        sheet = image_files.decode_image(base64.b64decode(content, validate=True), SHEET_LIMIT)
    except ValueError:
        return None
    figure = style.new_figure(0.6 + style.WIDTH * min(1.2, sheet.height / sheet.width))
    axes = figure.subplots()
    axes.imshow(sheet, cmap="gray", vmin=0, vmax=255)
    axes.set(xticks=[], yticks=[], ylabel=row_label)
    side = as_number((record.facts.get("shape") or [0])[-1]) or 0
    if row_label and side:
        cell = side + MARGIN
        count = round(sheet.height / cell)
        rows = range(0, count, 1 + count // MAX_LABELLED_ROWS)
        axes.set_yticks([row * cell + side / 2 for row in rows])
        axes.set_yticklabels([str(row) for row in rows])
    _finish_axes(axes, title)
    return figure


def _finish_axes(axes: Axes, title: str) -> None:
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    style.set_title(axes, title)


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
