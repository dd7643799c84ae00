"""Icons of Font Awesome Free, drawn in black on white, with what people search them by.

    terms         one row a label or search term of an icon: text, image, …
    icons         one row an icon: image, label, text (the label and all its terms), …
    categories    the icons that belong to one category alone: image, label (the category), …

Every table has icon (its name), split and kind. `split` is drawn from a hash of the names, so that it stays when icons are added:
"icons" for every sixth icon, with all that belongs to it; of the other icons' search terms every sixth is "terms"; all else is
"train". `kind` is "label" or "term". The solid style, 64 × 64 pixels, PNG; white space is collapsed; in the order of the names.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import io
import json
from collections import defaultdict
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from zoo.core.errors import DataError
from zoo.data.formats import image_files
from zoo.data.table import Origin

TABLES = {
    "terms": ("text", "image", "icon", "kind", "split"),
    "icons": ("image", "label", "text", "icon", "kind", "split"),
    "categories": ("image", "label", "icon", "kind", "split"),
}
SIDE, DRAWN, EVERY = 64, 56, 6


def origin() -> Origin:
    """Raises DataError when fontawesomefree is not installed."""
    _folder()
    return Origin(
        "Font Awesome Free",
        metadata.version("fontawesomefree"),
        "icons CC BY 4.0, fonts OFL 1.1",
        "https://fontawesome.com",
        "Fonticons, Inc.: Font Awesome Free, https://fontawesome.com",
    )


def rows(table: str) -> Iterator[dict[str, Any]]:
    """The rows of one of TABLES."""
    categories = _categories() if table == "categories" else {}
    for name, label, terms in _icons():
        image, apart = _drawn(name), _apart(name)
        common = {"icon": name, "kind": "label", "split": "icons" if apart else "train"}
        if table == "icons":
            text = f"{label}: {', '.join(terms)}" if terms else label
            yield {"image": image, "label": label, "text": text, **common}
        elif table == "terms":
            yield {"text": label, "image": image, **common}
            for term in terms:
                split = "icons" if apart else "terms" if _apart(f"{name}/{term}") else "train"
                yield {"text": term, "image": image, "icon": name, "kind": "term", "split": split}
        elif len(found := categories.get(name, [])) == 1:
            yield {"image": image, "label": found[0], **common}


def _folder() -> Path:
    spec = importlib.util.find_spec("fontawesomefree")  # found, not run
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        if (found := Path(folder) / "static" / "fontawesomefree" / "metadata" / "icons.json").is_file():
            return found.parents[1]
    raise DataError(
        'builtin data icons: the package fontawesomefree is not installed; pip install "embedding-zoo[icons]"'
    )


def _apart(name: str) -> bool:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) % EVERY == 0


@functools.lru_cache(maxsize=1)
def _told() -> dict[str, Any]:
    path = _folder() / "metadata" / "icons.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); reinstall fontawesomefree") from None


def _icons() -> list[tuple[str, str, list[str]]]:
    """(name, label, terms) of the icons in the solid style; a term that says what the label says is left out."""
    found = []
    for name, icon in sorted(_told().items()):
        if "solid" in icon["free"]:
            label = " ".join(str(icon["label"]).split())
            said = (" ".join(str(term).split()).lower() for term in icon["search"]["terms"])
            found.append((name, label, [term for term in dict.fromkeys(said) if term and term != label.lower()]))
    return found


def _categories() -> dict[str, list[str]]:
    import yaml

    path = _folder() / "metadata" / "categories.yml"
    found = defaultdict(list)
    for category in yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader).values():
        for icon in category["icons"]:
            found[icon].append(category["label"])
    return found


@functools.lru_cache(maxsize=1)
def _font(size: int) -> Any:
    image_files.pillow()
    from PIL import ImageFont

    found = sorted((_folder() / "otfs").glob("*Solid*.otf"))
    if not found:
        raise DataError("builtin data icons: fontawesomefree holds no font of the solid style; reinstall it")
    return ImageFont.truetype(str(found[0]), size)


@functools.lru_cache(maxsize=4096)  # every table, and every label and term, shows the same ones
def _drawn(name: str) -> bytes:
    """The icon as large as fits, in the middle of SIDE × SIDE pixels; drawn larger first, so that edges are smooth."""
    from PIL import ImageDraw

    pillow, font = image_files.pillow(), _font(4 * DRAWN)
    glyph = chr(int(_told()[name]["unicode"], 16))
    left, top, right, bottom = font.getbbox(glyph)
    ink = pillow.new("L", (right - left, bottom - top), 255)
    ImageDraw.Draw(ink).text((-left, -top), glyph, font=font, fill=0)
    scale = DRAWN / max(ink.size)
    size = tuple(max(1, round(side * scale)) for side in ink.size)
    out = pillow.new("L", (SIDE, SIDE), 255)
    out.paste(ink.resize(size, pillow.Resampling.LANCZOS), ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
    held = io.BytesIO()
    out.save(held, "PNG")
    return held.getvalue()
