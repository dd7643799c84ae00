"""What a value must be to play a role of some `Kind`, and the one form it is then given.

Files differ in what they can say: csv has only text, json tells 1 from "1", pandas makes whole numbers floats. The same
rows must come out equal from all of them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from zoo.data.formats import image_files
from zoo.schema import Kind

MAY_MISS = ("ids", "caption", "captions", "pictures")
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,18}")  # "007" and "1.0" are names, not numbers


def canonical(kind: Kind, value: Any, file: str) -> Any:
    """`value` as `kind`. Relative image paths start where `file` lies. Raises ValueError, whose text goes on from the
    column's name: "is empty", "is 'high', not a number"."""
    if value is None and kind not in MAY_MISS:
        raise ValueError("is missing")
    if kind == "pictures":
        return _pictures(value, Path(file).parent)
    return _image(value, Path(file).parent) if kind == "image" else _BY_KIND[kind](value)


def settle_labels(values: Sequence[str | int]) -> list[str] | list[int]:
    """All integers if every one is a whole number, written as such or in its plain decimal form; else all strings."""
    if all(isinstance(value, int) or (_WHOLE.fullmatch(value) and _fits(int(value))) for value in values):
        return [int(value) for value in values]
    return [str(value) for value in values]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"is {_show(value)}, not text")
    if not value or value.isspace():
        raise ValueError("is empty")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("holds half a surrogate pair, which is not a character") from None
    return value


def _texts(value: Any) -> list[str]:
    return [_text_inside(item, index) for index, item in enumerate(_filled(value, "texts"), 1)]


def _filled(value: Any, what: str) -> list[Any] | tuple[Any, ...]:
    """A list that is one, or is written in a csv cell, and holds something."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError(f"is {_show(value)}, not a list of {what}; in csv write a JSON list") from None
    if not isinstance(value, list | tuple):
        raise ValueError(f"is {_show(value)}, not a list of {what}")
    if not value:
        raise ValueError("is an empty list")
    return value


def _text_inside(value: Any, index: int) -> str:
    try:
        return _text(value)
    except ValueError as error:
        raise ValueError(f"item {index} {error}") from None


def _number(value: Any) -> float:
    if isinstance(value, str) and not value.strip():
        raise ValueError("is empty")
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str) or "_" in str(value):
        raise ValueError(f"is {_show(value)}, not a number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise ValueError(f"is {_show(value)}, not a number") from None
    if not math.isfinite(number):
        raise ValueError(f"is {_show(value)}, not a finite number")
    return number


def _label(value: Any) -> str | int:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(f"is {_show(value)}, not a string or a whole number")
    if not isinstance(value, int | float):
        raise ValueError(f"is {_show(value)}, not a string or a whole number")
    if not _fits(value):
        raise ValueError("is a number beyond 64 bits")
    return int(value)


def _fits(value: float) -> bool:
    return -(2**63) <= value < 2**63


def _id(value: Any) -> str:
    if isinstance(value, bool):
        raise ValueError(f"is {_show(value)}, not a string or a whole number")
    return str(_label(value))


def _ids(value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):  # a csv cell: nothing, a JSON list, or one id
        value = value.strip()
        if value.startswith("["):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                raise ValueError(f"is {_show(value)}, which begins as a JSON list and is none") from None
        elif not value:
            return []
    found = []
    for index, item in enumerate(value if isinstance(value, list | tuple) else [value], 1):
        try:
            found.append(_id(item))
        except ValueError as error:
            raise ValueError(f"item {index} {error}") from None
    return list(dict.fromkeys(found))


def _image(value: Any, folder: Path) -> dict[str, Any]:
    """{"bytes", "path": None} of an encoded image: bytes, a path, or the Hub's own {"bytes", "path"}."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str):
        _text(value)
        try:
            value = (folder / value).read_bytes()
        except (OSError, ValueError) as error:
            raise ValueError(f"is {_show(value)}, {getattr(error, 'strerror', None) or error}") from None
    if not isinstance(value, bytes):
        raise ValueError(f"is {_show(value)}, not an image")
    image_files.opened(value)
    return {"bytes": value, "path": None}


def _vector(value: Any) -> list[float]:
    value = _filled(value, "numbers")
    plain = {float, int}.issuperset(map(type, value)) and all(map(math.isfinite, value))
    return list(value) if plain else [_number(item) for item in value]


def _caption(value: Any) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        return ""
    return _text(value)


def _captions(value: Any) -> list[str]:
    return [_caption(each) for each in _several(value)]


def _several(value: Any) -> list[Any] | tuple[Any, ...]:
    """None, one or many as a list. A csv cell is a JSON list, or else the one text that it is."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return [value]
    return value if isinstance(value, list | tuple) else [] if value is None else [value]


def _pictures(value: Any, folder: Path) -> list[dict[str, Any]]:
    """{"bytes", "path"} of each image: the bytes, or the whole path of a file that is there; both None for none."""
    return [_picture(each, folder) for each in _several(value)]


def _picture(value: Any, folder: Path) -> dict[str, Any]:
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if value is None or value == "":
        return {"bytes": None, "path": None}
    if isinstance(value, bytes):
        return {"bytes": value, "path": None}
    if not isinstance(value, str):
        raise ValueError(f"is {_show(value)}, not an image")
    path = folder / _text(value)
    if not path.is_file():
        raise ValueError(f"is {_show(value)}, and there is no such file below {folder}")
    return {"bytes": None, "path": str(path)}


def _show(value: Any) -> str:
    if isinstance(value, dict | list | tuple | bytes):
        return {dict: "an object", list: "a list", tuple: "a list", bytes: "bytes"}[type(value)]
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= 40 else f"{text[:37]}…"


_BY_KIND: dict[Kind, Callable[[Any], Any]] = {
    "text": _text,
    "texts": _texts,
    "number": _number,
    "label": _label,
    "vector": _vector,
    "id": _id,
    "ids": _ids,
    "caption": _caption,
    "captions": _captions,
}
