"""Look at files before anything is decided: their columns, their first rows, and how many rows there are."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.core import paths
from zoo.core.errors import DataError, ZooError
from zoo.data.column_mapping import SEPARATORS
from zoo.data.formats import image_files
from zoo.data.raw_rows import BadRow
from zoo.data.sources import file
from zoo.data.spec import FileData
from zoo.starter.columns import NAMES, Column, describe_columns

FIRST_ROWS = 5_000
MOST_COUNTED = 1_000_000
MOST_HEADER_WORDS, MOST_HEADER_LETTERS = 6, 60
_KNOWN_NAMES = frozenset(itertools.chain.from_iterable(NAMES.values()))


@dataclass(frozen=True)
class Table:
    """The beginning of a file or of a folder of files.

    Attributes:
        path: as the user named it.
        columns: what the columns of the first rows hold.
        rows: the first rows that can be read.
        count: how many rows there are; at most MOST_COUNTED are counted.
        bad: why the first bad row cannot be read, or "".
        is_folder_of_images: whether the label of an image is the name of its folder.
    """

    path: Path
    columns: list[Column]
    rows: Sequence[Mapping[str, Any]]
    count: int
    bad: str = ""
    is_folder_of_images: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(column.name for column in self.columns)

    def find_column(self, name: str) -> Column:
        """Return the column of this name."""
        return next(column for column in self.columns if column.name == name)

    def describe_columns(self) -> str:
        """List the columns with their contents, for messages."""
        return ", ".join(f"{column.name} ({CONTENTS[column.content]})" for column in self.columns)


CONTENTS = {
    "text": "texts",
    "whole": "whole numbers",
    "number": "numbers",
    "flag": "true or false",
    "image": "images",
    "vector": "lists of numbers",
    "texts": "lists of texts",
    "empty": "empty",
    "other": "values of several types",
}
"""Contents in words."""


def look(path: Path) -> Table:
    """Read the beginning of a file or folder. Raise DataError if there is nothing that can be read, with what to do."""
    if not os.path.lexists(path):
        file.find_files(make_source(path), Path())  # says what is near
    source = file.open_source(make_source(path), Path())
    files_by_columns = {tuple(sorted(columns)): name for name, columns in reversed(source.parts)}
    if len(files_by_columns) > 1:
        first, second, *_ = sorted(files_by_columns.values())
        raise DataError(f"{path}: {first} and {second} have different columns; name one file, or a folder of one kind")
    _check_header(path, source.parts[0][1])
    items = source.read_rows()
    first_items = list(itertools.islice(items, FIRST_ROWS))
    rows = [row for _, row in first_items if not isinstance(row, BadRow)]
    bad_rows = [(location, row) for location, row in first_items if isinstance(row, BadRow)]
    for location, row in bad_rows:
        if row.ends_file:
            raise DataError(f"{location}: {row.reason}")
    bad = f"{bad_rows[0][0]}: {bad_rows[0][1].reason}" if bad_rows else ""
    count = source.row_count or len(first_items)
    if source.row_count is None and count == FIRST_ROWS:
        count += sum(1 for _ in itertools.islice(items, MOST_COUNTED - FIRST_ROWS))
    if not rows:
        raise DataError(bad or f"{path}: has a header but no rows; add rows below it")
    names = tuple(dict.fromkeys(itertools.chain(source.parts[0][1], *(row.keys() for row in rows))))
    is_images = source.parts[0][1] == image_files.COLUMNS and Path(source.parts[0][0]).is_dir()
    return Table(path, describe_columns(names, rows), rows, count, bad, is_images)


def make_source(path: Path) -> FileData:
    """Return a data section for a path of the command line."""
    return FileData(source="file", path=str(path.absolute()))


def _check_header(path: Path, names: Sequence[str]) -> None:
    """Raise DataError if the first line of a csv or tsv file is not a header: bytes of another format, or a row.

    A row has a number, a long text, or empty cells alone.
    """
    if ".csv" not in path.suffixes and ".tsv" not in path.suffixes:
        return
    separator, right = ("\t", "tabs") if ".tsv" in path.suffixes else (",", "commas")
    cells = [name.strip() for name in names]
    if any(not character.isprintable() and not character.isspace() for cell in cells for character in cell):
        raise DataError(
            f"{path}: the header holds bytes that are not text, so the file has another format; save it as csv or jsonl"
        )
    if any(cell.lower() in _KNOWN_NAMES for cell in cells):
        return
    other = next((mark for mark in SEPARATORS if mark != separator and len(cells) == 1 and mark in cells[0]), None)
    if other is not None:
        raise DataError(
            f"{path}: the header {cells[0][:60]!r} is separated by {SEPARATORS[other]}; save the file with {right} between the "
            "columns"
        )
    row_cell = next((cell for cell in cells if _looks_like_value(cell)), None if any(cells) else "")
    if row_cell is not None:
        raise DataError(
            f"{path}:1: has no header: {row_cell[:40]!r} looks like a value, not the name of a column; write a line of names "
            f"above it with {right} between them, for example question and answer"
        )


def _looks_like_value(cell: str) -> bool:
    is_long = len(cell.split()) > MOST_HEADER_WORDS or len(cell) > MOST_HEADER_LETTERS
    return is_long or cell.replace(".", "", 1).removeprefix("-").isdecimal()


def refuse_missing(path: Path) -> None:
    """Raise ZooError if the path is empty or a broken link."""
    if not str(path) or (os.path.lexists(path) and not path.exists()):
        raise ZooError(f"{path}: points to nothing; give a file or a folder that exists")
    if not paths.is_folder(path) and path.exists() and path.is_file() and path.stat().st_size == 0:
        raise DataError(f"{path}: is empty; give a file with rows")
