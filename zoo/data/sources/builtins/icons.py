"""Icons of Font Awesome Free, drawn in black on white, with the words that people use to search for them.

    terms         one row per label or search term of an icon: text, image, …
    icons         one row per icon: image, label, text (the label and all its terms), …
    categories    the icons that belong to exactly one category: image, label (the category), …

Every table also has icon (its name), kind ("label" or "term") and split. Every sixth icon, with all its rows, has the split
"icons". Every sixth search term of the other icons has the split "terms". All other rows have "train". The splits depend on
a hash of the names, so they do not change when icons are added.

Icons are of the solid style, PNG files of 64 × 64 pixels, in the order of their names. White space is collapsed.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import io
from collections import defaultdict
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from zoo.core import atomic_files
from zoo.core.errors import DataError, first_line
from zoo.data.formats.image_files import import_pillow
from zoo.data.raw_rows import Origin

EXTRA: str | None = "icons"
TABLES = {
    "terms": ("text", "image", "icon", "kind", "split"),
    "icons": ("image", "label", "text", "icon", "kind", "split"),
    "categories": ("image", "label", "icon", "kind", "split"),
}
SIDE, GLYPH_SIDE = 64, 56  # pixels of the image, and of the glyph's longer side
HELD_OUT_EVERY = 6


def describe_origin() -> Origin:
    """Return the origin. Raise DataError if fontawesomefree is not installed."""
    _find_folder()
    return Origin(
        name="Font Awesome Free",
        revision=metadata.version("fontawesomefree"),
        licence="icons CC BY 4.0, fonts OFL 1.1",
        url="https://fontawesome.com",
        citation="Fonticons, Inc.: Font Awesome Free, https://fontawesome.com",
    )


def read_rows(table: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of one of TABLES."""
    categories_of_icon = _read_categories() if table == "categories" else {}
    for name, label, terms in _read_icons():
        image, is_held_out = _draw_icon(name), _is_held_out(name)
        common = {"icon": name, "kind": "label", "split": "icons" if is_held_out else "train"}
        if table == "icons":
            text = f"{label}: {', '.join(terms)}" if terms else label
            yield {"image": image, "label": label, "text": text, **common}
        elif table == "terms":
            yield {"text": label, "image": image, **common}
            for term in terms:
                yield {"text": term, "image": image, "icon": name, "kind": "term", "split": _split_of_term(name, term)}
        else:
            categories = categories_of_icon.get(name, [])
            if len(categories) == 1:
                yield {"image": image, "label": categories[0], **common}


def _is_held_out(name: str) -> bool:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) % HELD_OUT_EVERY == 0


def _split_of_term(icon: str, term: str) -> str:
    if _is_held_out(icon):
        return "icons"
    return "terms" if _is_held_out(f"{icon}/{term}") else "train"


# -- the files of the package ------------------------------------------------------------------------------------------


def _find_folder() -> Path:
    spec = importlib.util.find_spec("fontawesomefree")  # does not import the package
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        base = Path(folder) / "static/fontawesomefree"
        if (base / "metadata" / "icons.json").is_file():
            return base
    raise DataError(
        'builtin data icons: the package fontawesomefree is not installed; pip install "embedding-zoo[icons]"'
    )


@functools.lru_cache(maxsize=1)
def _read_metadata() -> dict[str, Any]:
    path = _find_folder() / "metadata" / "icons.json"
    try:
        return atomic_files.read_json_object(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({first_line(error)}); reinstall fontawesomefree") from None


def _read_icons() -> list[tuple[str, str, list[str]]]:
    """Return (name, label, terms) of the icons in the solid style. A term that equals the label is left out."""
    icons = []
    for name, icon in sorted(_read_metadata().items()):
        if "solid" in icon["free"]:
            label = " ".join(str(icon["label"]).split())
            terms = dict.fromkeys(" ".join(str(term).split()).lower() for term in icon["search"]["terms"])
            icons.append((name, label, [term for term in terms if term and term != label.lower()]))
    return icons


def _read_categories() -> dict[str, list[str]]:
    """Return the categories of each icon."""
    import yaml

    path = _find_folder() / "metadata" / "categories.yml"
    categories_of_icon = defaultdict(list)
    for category in yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader).values():
        for icon in category["icons"]:
            categories_of_icon[icon].append(category["label"])
    return categories_of_icon


@functools.lru_cache(maxsize=1)
def _load_font(size: int) -> Any:
    import_pillow()
    from PIL import ImageFont

    files = sorted((_find_folder() / "otfs").glob("*Solid*.otf"))
    if not files:
        raise DataError("builtin data icons: fontawesomefree holds no font of the solid style; reinstall it")
    return ImageFont.truetype(str(files[0]), size)


# -- drawing -----------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=4096)  # all tables, and all labels and terms, show the same images
def _draw_icon(name: str) -> bytes:
    """Return an icon as a PNG file. It fills GLYPH_SIDE pixels in the middle of SIDE × SIDE.

    The glyph is drawn four times as large and then made smaller, so that its edges are smooth.
    """
    pillow, font = import_pillow(), _load_font(4 * GLYPH_SIDE)
    from PIL import ImageDraw

    glyph = chr(int(_read_metadata()[name]["unicode"], 16))
    left, top, right, bottom = font.getbbox(glyph)
    large = pillow.new("L", (right - left, bottom - top), 255)
    ImageDraw.Draw(large).text((-left, -top), glyph, font=font, fill=0)
    scale = GLYPH_SIDE / max(large.size)
    width, height = (max(1, round(side * scale)) for side in large.size)
    image = pillow.new("L", (SIDE, SIDE), 255)
    image.paste(large.resize((width, height), pillow.Resampling.LANCZOS), ((SIDE - width) // 2, (SIDE - height) // 2))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
