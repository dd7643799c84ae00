"""Rows that two data sets share: texts are compared after normalisation, images by their pixels.

A row is the same in two data sets if its first two inputs occur together in one row of the other set, for example query and
document. A row with one input is the same if the input occurs in any row. Labels and scores do not count.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zoo.data.formats import image_files
from zoo.data.mapped import iterate_batches

if TYPE_CHECKING:
    import datasets

    from zoo.data.table import Table

Keys = npt.NDArray[np.uint64]
BATCH = 4096  # rows that are read at once
BLOCK_ROWS = 1 << 18  # rows whose keys are in memory at once
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # mixes the two keys of a pair


def compute_row_keys(table: Table) -> Keys:
    """Return the keys (n, inputs) of the inputs of every row, in the order of `table.inputs`; 0 for a missing input.

    Equal keys mean equal inputs. A column of lists gives as many inputs as its longest list has.
    """
    columns = [_compute_column(table.rows, name) for name in table.inputs]
    return np.concatenate(columns, axis=1) if columns else np.zeros((len(table.rows), 0), np.uint64)


def iterate_row_keys(table: Table) -> Iterator[Keys]:
    """Yield the keys of `compute_row_keys` for blocks of rows, which may have other numbers of columns."""
    for start in range(0, len(table.rows), BLOCK_ROWS):
        rows = table.rows.select(range(start, min(start + BLOCK_ROWS, len(table.rows))))
        columns = [_compute_column(rows, name) for name in table.inputs]
        yield np.concatenate(columns, axis=1) if columns else np.zeros((len(rows), 0), np.uint64)


def find_shared_rows(keys: Keys, others: Keys) -> npt.NDArray[np.bool_]:
    """Return a mask (n,) of the rows of `keys` (n, …) that are rows of `others` (m, …) as well."""
    first, second = _take_first_two(keys)
    is_shared: npt.NDArray[np.bool_] = np.isin(first, others[others != 0]) & (first != 0)
    has_pair = second != 0
    if has_pair.any():
        pairs = [
            _mix(others[:, i], others[:, j])[(others[:, i] != 0) & (others[:, j] != 0)] for i, j in _list_pairs(others)
        ]
        known = np.concatenate(pairs) if pairs else np.zeros(0, np.uint64)
        is_shared[has_pair] = np.isin(_mix(first, second)[has_pair], known)
    return is_shared


def find_holding_rows(keys: Keys, others: Keys) -> npt.NDArray[np.bool_]:
    """Return a mask (n,) of the rows of `keys` (n, …) in which `find_shared_rows` finds a row of `others` (m, …)."""
    first, second = _take_first_two(others)
    singles, pairs = first[(first != 0) & (second == 0)], _mix(first, second)[second != 0]
    holds: Any = np.isin(keys, singles).any(axis=1)
    for i, j in _list_pairs(keys):
        is_pair = (keys[:, i] != 0) & (keys[:, j] != 0)
        holds = holds | (is_pair & np.isin(_mix(keys[:, i], keys[:, j]), pairs))
    mask: npt.NDArray[np.bool_] = holds
    return mask


def _list_pairs(keys: Keys) -> Iterator[tuple[int, int]]:
    """Yield the columns whose inputs count as a pair: the first two inputs of a row, each with every other one."""
    for i in range(min(2, keys.shape[1])):
        yield from ((i, j) for j in range(i + 1, keys.shape[1]))


def _take_first_two(keys: Keys) -> tuple[Keys, Keys]:
    """Return the first and the second input of every row; 0 for a missing one."""
    padded = np.pad(keys, ((0, 0), (0, 2)))
    order = np.argsort(padded == 0, axis=1, kind="stable")[:, :2]
    first, second = np.take_along_axis(padded, order, axis=1).T
    return first, second


def _mix(a: Keys, b: Keys) -> Keys:
    """Return a key of two inputs whose order does not count."""
    low, high = np.minimum(a, b), np.maximum(a, b)
    with np.errstate(over="ignore"):
        mixed: Keys = low * MULTIPLIER ^ (high + (high << np.uint64(7)))
    return mixed


# -- keys of inputs ------------------------------------------------------------------------------------------------------


def _compute_column(rows: datasets.Dataset, name: str) -> Keys:
    lists: list[list[int]] = []
    for block in iterate_batches(rows.select_columns([name]), BATCH):
        values = block.column(name).to_pylist()
        is_vector = _holds_numbers(values)
        lists += [[_compute_key(value)] if is_vector else _compute_keys(value) for value in values]
    width = max(map(len, lists), default=0)
    keys = np.zeros((len(lists), width), np.uint64)
    for number, row_keys in enumerate(lists):
        keys[number, : len(row_keys)] = row_keys
    return keys


def _holds_numbers(values: Sequence[Any]) -> bool:
    return any(isinstance(value, list) and value and isinstance(value[0], float) for value in values)


def _compute_keys(value: Any) -> list[int]:
    return [_compute_key(item) for item in (value if isinstance(value, list) else [value]) if _has_content(item)]


def _has_content(value: Any) -> bool:
    if isinstance(value, dict):
        return value["bytes"] is not None or bool(value["path"])
    return value is not None and value != ""


def _compute_key(value: Any) -> int:
    """Return a 64-bit hash of a normalised text, of the pixels of an image, or of the components of a vector."""
    if isinstance(value, str):
        content = normalise_text(value).encode(errors="replace")
    elif isinstance(value, dict):
        content = _read_pixels(value)
    else:
        content = np.asarray(value, np.float32).tobytes()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest()) or 1


def normalise_text(text: str) -> str:
    """Return a text without differences of case, of width and composition of characters (NFKC), and of white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _read_pixels(image: dict[str, Any]) -> bytes:
    """Return size and RGB pixels of an image; its bytes if it cannot be decoded, and its path if it cannot be read."""
    content = image["bytes"]
    try:
        content = Path(image["path"]).read_bytes() if content is None else content
        pixels = image_files.normalise_image(image_files.decode_image(content))
        return f"{pixels.size}".encode() + pixels.tobytes()
    except (OSError, ValueError):
        return content if content is not None else str(image["path"]).encode()
