"""Rows as a source yields them, before they are renamed, filtered and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Origin:
    """Where rows come from, for lock.json and the card. Unknown fields are empty.

    Attributes:
        revision: the commit or release that was read.
        licence: the licence as the source states it.
    """

    name: str
    revision: str = ""
    licence: str = ""
    url: str = ""
    citation: str = ""


class RowLocation(NamedTuple):
    """Where a row is. Rows count from 1 without the header; row 0 means the whole file.

    `line` is the line in a text file. It is printed only if it differs from the row.
    """

    name: str
    row: int = 0
    line: int = 0

    def __str__(self) -> str:
        if not self.row:
            return self.name
        line = f" (line {self.line})" if self.line not in (0, self.row) else ""
        return f"{self.name}:row {self.row}{line}"


@dataclass(frozen=True, slots=True)
class BadRow:
    """Takes the place of a row, or of the rest of a file, that cannot be read.

    Attributes:
        reason: continues the location, for example "is not JSON".
        ends_file: whether nothing after this place can be read. Such a fault is never skipped, because an unknown number of
            rows would vanish behind it.
    """

    reason: str
    ends_file: bool = False


Item = tuple[RowLocation, Row | BadRow]


@dataclass(frozen=True)
class Source:
    """Data whose columns are known but whose rows are not read yet.

    Attributes:
        parts: (name, column names in the data) of each file. Other sources have one part.
        read_rows: reads all rows from the start at each call, in a fixed order.
        row_count: the number of rows, if the source knows it.
        read_rows_at: reads the rows at ascending positions without the others, if the source can.
        has_files: whether rows are located by the path of their file, where paths of images start.
    """

    origin: Origin
    parts: tuple[tuple[str, tuple[str, ...]], ...]
    read_rows: Callable[[], Iterator[Item]]
    row_count: int | None = None
    read_rows_at: Callable[[np.ndarray], Iterator[Item]] | None = None
    has_files: bool = False
