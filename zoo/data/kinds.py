"""Check a value against the `Kind` of its role, and convert it to one canonical form.

File formats differ in what they can express: csv has only text, json distinguishes 1 from "1", pandas turns whole numbers into
floats. The same rows must come out equal from all of them.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from zoo.core import confinement
from zoo.data.formats import image_files
from zoo.data.limits import CELL, TooLargeError
from zoo.schema import Kind

MAY_BE_MISSING = ("ids", "caption", "captions", "pictures")
MAX_EXACT = 2**53  # from here on, floating-point numbers of 64 bits skip whole numbers
MAX_FLOAT32 = 3.4028234663852886e38
_WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,18}")  # "007" and "1.0" are names, not numbers


def convert_value(kind: Kind, value: Any, image_folder: Path | None, max_cell: int = CELL) -> Any:
    """Return `value` in the canonical form of `kind`.

    Args:
        image_folder: where relative paths of images start. Without it, a path is refused.
        max_cell: the largest file of an image in bytes.

    Raises:
        ValueError: if the value does not fit. The text continues the name of the column, for example "is empty".
    """
    if value is None and kind not in MAY_BE_MISSING:
        raise ValueError("is missing")
    if kind == "image":
        return _to_image(value, image_folder, max_cell)
    if kind == "pictures":
        return [_to_picture(item, image_folder, max_cell) for item in _as_list(value)]
    return _CONVERTERS[kind](value)


def unify_labels(values: Sequence[str | int]) -> list[str] | list[int]:
    """Return all labels as integers of 64 bits if each is a whole number or its plain decimal form, else all as strings."""
    if all(is_whole_number(value) for value in values):
        return [int(value) for value in values]
    return [str(value) for value in values]


def match_labels(labels: Iterable[str | int], classes: Iterable[str | int]) -> list[str | int]:
    """Return `labels` with the type that `classes` have, so that labels of two files can be compared.

    The labels of one file are strings if only one of them is not a whole number. The same whole number is then a string in one
    file and an integer in the other. Integers become their decimal form, which can be converted back.
    """
    class_types = {type(name) for name in classes}
    if class_types == {str}:
        return [str(label) for label in labels]
    if class_types == {int}:
        return [int(label) if is_whole_number(label) else label for label in labels]
    return list(labels)


def name_class(label: str | int, classes: Sequence[str]) -> str:
    """Return the name of the class with the number `label`. Raise ValueError for a label that is not such a number."""
    if not is_whole_number(label) or not 0 <= int(label) < len(classes):
        raise ValueError(f"is {_describe(label)}, but `classes` names the numbers from 0 to {len(classes) - 1}")
    return classes[int(label)]


def is_whole_number(value: str | int) -> bool:
    """Return whether a label is a whole number of 64 bits, or the plain decimal form of one."""
    if isinstance(value, str):
        return bool(_WHOLE_NUMBER.fullmatch(value)) and _fits_64_bits(int(value))
    return _fits_64_bits(value)


# -- text, numbers and labels ------------------------------------------------------------------------------------------


def _to_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"is {_describe(value)}, not text")
    if not value or value.isspace():
        raise ValueError("is empty")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("holds half a surrogate pair, which is not a character") from None
    return value


def _to_caption(value: Any) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        return ""
    return _to_text(value)


def _to_number(value: Any) -> float:
    if isinstance(value, str) and not value.strip():
        raise ValueError("is empty")
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str) or "_" in str(value):
        raise ValueError(f"is {_describe(value)}, not a number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise ValueError(f"is {_describe(value)}, not a number") from None
    if not math.isfinite(number):
        raise ValueError(f"is {_describe(value)}, not a finite number")
    if abs(number) >= MAX_EXACT and not isinstance(value, float) and not _equals_whole_number(number, value):
        raise ValueError(f"is {_describe(value)}, which a number of 64 bits does not hold exactly")
    return number


def _equals_whole_number(number: float, value: int | Decimal | str) -> bool:
    """Return whether `number` is exactly `value`. Text in another form than that of a whole number is not compared."""
    is_other_text = isinstance(value, str) and not re.fullmatch(r"[+-]?[0-9]+", value.strip())
    return is_other_text or int(number) == int(value)


def _to_label(value: Any) -> str | int:
    if isinstance(value, str):
        return _to_text(value)
    if not isinstance(value, int | float | Decimal):
        raise ValueError(f"is {_describe(value)}, not a string or a whole number")
    if not isinstance(value, int) and (not math.isfinite(value) or value != int(value)):
        raise ValueError(f"is {_describe(value)}, not a string or a whole number")
    if isinstance(value, float) and abs(value) >= MAX_EXACT:
        message = "is {}, and a floating-point number of this size is not exact; write it as a whole number or as text"
        raise ValueError(message.format(_describe(value)))
    return int(value)


def _fits_64_bits(value: int) -> bool:
    return -(2**63) <= value < 2**63


def _to_id(value: Any) -> str:
    if isinstance(value, bool):
        raise ValueError(f"is {_describe(value)}, not a string or a whole number")
    return str(_to_label(value))


# -- lists -------------------------------------------------------------------------------------------------------------


def _to_texts(value: Any) -> list[str]:
    return _convert_items(_to_text, _parse_list(value, "texts"))


def _to_captions(value: Any) -> list[str]:
    return [_to_caption(item) for item in _as_list(value)]


def _to_vector(value: Any) -> list[float]:
    numbers = _parse_list(value, "numbers")
    is_plain = {float, int}.issuperset(map(type, numbers)) and all(map(math.isfinite, numbers))
    vector = list(numbers) if is_plain else [_to_number(item) for item in numbers]
    if max(map(abs, vector)) > MAX_FLOAT32:
        raise ValueError(f"holds {max(vector, key=abs)!r}, which is beyond 32-bit floating-point numbers")
    return vector


def _to_ids(value: Any) -> list[str]:
    """Return the ids without repetitions. A csv cell is empty, a JSON list, or one id."""
    if isinstance(value, str):
        value = value.strip()
        if value.startswith("["):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                raise ValueError(f"is {_describe(value)}, which begins as a JSON list but is not valid JSON") from None
    if value is None or value == "":
        return []
    items = value if isinstance(value, list | tuple) else [value]
    return list(dict.fromkeys(_convert_items(_to_id, items)))


def _convert_items(convert: Callable[[Any], str], items: Sequence[Any]) -> list[str]:
    """Convert each item. Raise ValueError with the number of the item, from 1."""
    converted = []
    for number, item in enumerate(items, 1):
        try:
            converted.append(convert(item))
        except ValueError as error:
            raise ValueError(f"item {number} {error}") from None
    return converted


def _parse_list(value: Any, items: str) -> list[Any] | tuple[Any, ...]:
    """Return a list that is not empty. A csv cell holds it as JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError(f"is {_describe(value)}, not a list of {items}; in csv write a JSON list") from None
    if not isinstance(value, list | tuple):
        raise ValueError(f"is {_describe(value)}, not a list of {items}")
    if not value:
        raise ValueError("is an empty list")
    return value


def _as_list(value: Any) -> list[Any] | tuple[Any, ...]:
    """Return None, one value or several values as a list. A csv cell is a JSON list or one text."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return [value]
    if isinstance(value, list | tuple):
        return value
    return [] if value is None else [value]


# -- images ------------------------------------------------------------------------------------------------------------


def _to_image(value: Any, folder: Path | None, max_cell: int) -> dict[str, Any]:
    """Return {"bytes", "path": None} of an encoded image, after decoding it once.

    `value` is the bytes of an image file, the path of one, or {"bytes", "path"} as on the Hub.
    """
    value = _unpack_image(value)
    if isinstance(value, str):
        path = _find_image(value, folder, max_cell)
        try:
            value = path.read_bytes()
        except OSError as error:
            raise ValueError(f"is {_describe(value)}, {error.strerror}") from None
    if not isinstance(value, bytes):
        raise ValueError(f"is {_describe(value)}, not an image")
    image_files.decode_image(value)
    return {"bytes": value, "path": None}


def _to_picture(value: Any, folder: Path | None, max_cell: int) -> dict[str, Any]:
    """Return {"bytes", "path"} of an image that is opened later: its bytes, or the full path of its file, or None for both."""
    value = _unpack_image(value)
    if value is None or value == "":
        return {"bytes": None, "path": None}
    if isinstance(value, bytes):
        return {"bytes": value, "path": None}
    if not isinstance(value, str):
        raise ValueError(f"is {_describe(value)}, not an image")
    return {"bytes": None, "path": str(_find_image(value, folder, max_cell))}


def _find_image(value: str, folder: Path | None, max_cell: int) -> Path:
    """Return the file that a cell names. It must be a regular file below `folder` of at most `max_cell` bytes."""
    name = _describe(_to_text(value))
    if folder is None:
        raise ValueError(f"is {name}, but this source holds no files; name their folder with `images:`")
    path = Path(os.path.normpath(folder / value))
    if not path.is_relative_to(os.path.normpath(folder)):
        raise ValueError(f"is {name}, which is not below {folder}; set `images:` to the folder of all images")
    try:
        confinement.check_path(path)
        status = path.stat()
    except (OSError, ValueError) as error:
        raise ValueError(f"is {name}, {getattr(error, 'strerror', None) or error}") from None
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"is {name}, which is not a regular file")
    if status.st_size > max_cell:
        raise TooLargeError(max_cell, f"is {name}, which ")
    return path


def _unpack_image(value: Any) -> Any:
    """Return the bytes or the path of an image that is stored as on the Hub, and any other value unchanged."""
    return (value.get("bytes") or value.get("path")) if isinstance(value, dict) else value


def _describe(value: Any) -> str:
    """Return at most 40 characters that show `value` in an error message."""
    if isinstance(value, dict | list | tuple | bytes):
        return {dict: "an object", list: "a list", tuple: "a list", bytes: "bytes"}[type(value)]
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= 40 else f"{text[:37]}…"


_CONVERTERS: dict[Kind, Callable[[Any], Any]] = {
    "text": _to_text,
    "texts": _to_texts,
    "number": _to_number,
    "label": _to_label,
    "vector": _to_vector,
    "id": _to_id,
    "ids": _to_ids,
    "caption": _to_caption,
    "captions": _to_captions,
}
