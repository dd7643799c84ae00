"""The limits that a reader checks before it allocates memory, and the exceptions of the libraries that parse files.

A header of a few bytes can claim any number of rows, columns or bytes, and a compressed file can grow a thousandfold. Each claim
is held against the bytes that are there.
"""

from __future__ import annotations

import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

from zoo.core.errors import DataError

CELL_MB = 16  # the default of `max_cell_mb`
CELL = CELL_MB << 20  # bytes, or characters of a text file
MAX_COLUMNS = 10_000
MAX_NESTING = 32
MAX_RATIO = 1_100  # deflate makes data at most 1,032 times smaller
MAX_ABSENT_CELLS = 10_000_000  # that are made because some rows have columns which others lack

READ_FAULTS: tuple[type[Exception], ...] = (
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    SystemError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""Exceptions that numpy, h5py, pyarrow, zipfile and gzip raise for damaged files."""


class TooLargeError(ValueError):
    """A cell or a line that is larger than the limit."""

    def __init__(self, limit: int, subject: str = "") -> None:
        super().__init__(
            f"{subject}is larger than {limit >> 20} MB; if this is right, raise `max_cell_mb` of the data section"
        )


def refuse_large_cell(limit: int, subject: str) -> NoReturn:
    """Raise DataError for a file whose header claims cells that are larger than `limit`."""
    raise DataError(str(TooLargeError(limit, f"{subject} ")))


def check_column_count(name: str, count: int) -> None:
    """Raise DataError for a file with too many columns."""
    if count > MAX_COLUMNS:
        raise DataError(f"{name}: has {count:,} columns; at most {MAX_COLUMNS:,} can be read")


def is_nested_too_deeply(value: Any) -> bool:
    """Return whether lists and objects are nested deeper than MAX_NESTING."""
    level: Iterable[Any] = [value]
    for _ in range(MAX_NESTING):
        level = [inner for outer in level if isinstance(outer, dict | list) for inner in _list_inner(outer)]
        if not level:
            return False
    return True


def _list_inner(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def is_cell_too_large(value: Any, limit: int) -> bool:
    """Return whether a text, the bytes of a file or a list of numbers takes more than `limit` bytes."""
    if isinstance(value, str | bytes):
        return len(value) > limit
    if isinstance(value, list):
        return len(value) * 8 > limit
    return isinstance(value, dict) and any(is_cell_too_large(inner, limit) for inner in value.values())


class BoundedLines:
    """The lines of a text file. A row of more than `limit` characters raises TooLargeError before more of it is read."""

    def __init__(self, read_line: Callable[[int], str], limit: int) -> None:
        self._read_line, self._limit, self._used = read_line, limit, 0

    def start_row(self) -> None:
        """Count from here on."""
        self._used = 0

    def skip_line(self) -> None:
        """Move past the rest of a line that was too long."""
        while (piece := self._read_line(1 << 20)) and not piece.endswith(("\n", "\r")):
            pass

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._read_line(self._limit - self._used + 1)
        if not line:
            raise StopIteration
        self._used += len(line)
        if self._used > self._limit:
            raise TooLargeError(self._limit)
        return line
