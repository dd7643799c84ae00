"""Read JSON that a stranger wrote: no key twice, no NaN, no infinity, and no more values than memory allows."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

MEMORY = 192 << 20
"""Largest memory in bytes that the values of one file may take, as `check_memory` counts."""
BYTES_BY_SIGN = {b"{": 184, b"[": 64, b",": 60, b":": 24}
"""Memory of one value by the character that comes with it: a mapping, a list, a further value, a key."""


def read(path: Path, *, memory: int = MEMORY, may_repeat_keys: bool = False) -> Any:
    """Read a UTF-8 JSON file. Raise OSError, ValueError or RecursionError if it cannot be read or breaks a rule.

    Args:
        path: the file.
        memory: largest memory in bytes that its values may take.
        may_repeat_keys: whether the last of equal keys counts, as in the vocabularies of some published tokenizers.
    """
    text = path.read_bytes()
    check_memory(text, memory)
    return parse(text.decode("utf-8"), may_repeat_keys=may_repeat_keys)


def parse(text: str, *, may_repeat_keys: bool = False) -> Any:
    """Parse a JSON text. Raise ValueError or RecursionError if it breaks a rule; the arguments are those of `read`."""
    make_object = dict if may_repeat_keys else _make_object
    return json.loads(text, object_pairs_hook=make_object, parse_constant=_refuse_constant)


def check_memory(text: bytes, memory: int = MEMORY) -> None:
    """Raise ValueError if the values of a JSON text would take more memory. A few bytes can stand for a long value."""
    needed = len(text) + sum(size * text.count(sign) for sign, size in BYTES_BY_SIGN.items())
    if needed > memory:
        raise ValueError(f"its values would take {needed >> 20} MB of memory, more than {memory >> 20} MB")


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        keys = sorted(key for key, _ in pairs)
        repeated = next(key for key, following in pairwise(keys) if key == following)
        raise ValueError(f"the key {repeated[:60]!r} is there twice")
    return values


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
