"""Choose the reader of a file by its name, and turn the errors of all readers into one form.

A reader is a module with `read_column_names` and `read_rows`. It yields every row that it can read, in memory that does not grow
with the file, and a `BadRow` in place of each row that it cannot read.
"""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from zoo.core import faults
from zoo.core.errors import DataError, first_line
from zoo.data.formats import arrays, csv_files, idx, json_files, parquet_files, txt_files
from zoo.data.limits import CELL, READ_FAULTS, check_column_count
from zoo.data.raw_rows import BadRow, Item, RowLocation

if TYPE_CHECKING:
    import numpy as np

NAMES = ("csv", "tsv", "json", "jsonl", "parquet")
ENDINGS = tuple(f".{name}" for name in NAMES) + tuple(f".{name}.gz" for name in NAMES if name != "parquet")


class Reader(Protocol):
    """A module that reads one file format."""

    def read_column_names(self, path: Path, max_cell: int) -> tuple[str, ...]:
        """Return the column names. Raise DataError for a file that is not of this format."""

    def read_rows(self, path: Path, max_cell: int) -> Iterator[Item]:
        """Yield every row in order. A cell of more than `max_cell` bytes or characters is not read."""


class RandomReader(Protocol):
    """A reader that knows the number of rows and can read some of them."""

    def count_rows(self, path: Path) -> int:
        """Return the number of rows."""

    def read_rows(self, path: Path, max_cell: int, positions: np.ndarray | None = None) -> Iterator[Item]:
        """Yield the rows at ascending `positions`."""


def is_table(path: Path) -> bool:
    """Return whether the name of a file is that of a table. A txt file can be read too, but most are notes or licences."""
    return path.name.lower().endswith(ENDINGS) or idx.is_idx(path) or arrays.is_arrays(path)


def read_column_names(path: Path, max_cell: int = CELL) -> tuple[str, ...]:
    """Return the column names of a file. Raise DataError if it cannot be opened or has no columns."""
    try:
        names = _choose_reader(path).read_column_names(path, max_cell)
    except READ_FAULTS as error:
        faults.refuse_full_memory(error, path, DataError)
        raise DataError(f"{path}: cannot be read: {_describe(error)}") from None
    check_column_count(str(path), len(names))
    duplicates = {name for name, count in Counter(names).items() if count > 1}
    if duplicates:
        raise DataError(f"{path}: has two columns called {min(duplicates)!r}; rename one")
    return names


def read_rows(path: Path, max_cell: int = CELL) -> Iterator[Item]:
    """Yield every row, in order, of a file that `read_column_names` accepts."""
    count = 0
    try:
        for item in _choose_reader(path).read_rows(path, max_cell):
            count += not isinstance(item[1], BadRow)
            yield item
    except MemoryError as error:
        faults.refuse_full_memory(error, path, DataError)
    except (EOFError, OSError, zlib.error) as error:
        reason = f"{_describe(error)} after {count} whole rows, and the rest is lost; get the file again"
        yield RowLocation(str(path)), BadRow(reason, ends_file=True)


def find_random_reader(path: Path) -> RandomReader | None:
    """Return the reader of a file whose rows can be read without those before them, or None."""
    if arrays.is_arrays(path):
        return arrays
    return parquet_files if path.name.lower().endswith(".parquet") else None


def _choose_reader(path: Path) -> Reader:
    if idx.is_idx(path):
        return idx
    if arrays.is_arrays(path):
        return arrays
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(".parquet"):
        return parquet_files
    if txt_files.is_txt(path):
        return txt_files
    return json_files if name.endswith((".json", ".jsonl")) else csv_files


def _describe(error: Exception) -> str:
    if isinstance(error, EOFError):
        return "the gzip file is cut short"
    if isinstance(error, zlib.error | gzip.BadGzipFile):
        return f"the gzip file is damaged ({error})"
    return getattr(error, "strerror", None) or first_line(error)
