"""Arrow files that are mapped into memory, and readers of them whose memory does not grow with the rows.

The system counts the pages of a mapped file as memory of the process from when they are read until they are released. A released
page is read again from the file when it is needed, so releasing changes no value.
"""

from __future__ import annotations

import mmap
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

BLOCK = 8192  # rows that are read at once, one after the other
SCATTERED = 1024  # rows that are read at once from anywhere; each may load 64 KB for each of its columns, or more
_maps: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


def open_file(path: Path) -> datasets.Dataset:
    """Open an Arrow file of one stream as a memory-mapped data set."""
    import datasets
    import pyarrow as pa
    from datasets.table import MemoryMappedTable

    with path.open("rb") as file:
        pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    _maps.add(pages)
    table = pa.ipc.open_stream(pa.py_buffer(pages)).read_all()
    return datasets.Dataset(MemoryMappedTable(table, str(path)))


def release_pages() -> None:
    """Release all pages of the files that are open, on systems that can."""
    if hasattr(mmap, "MADV_DONTNEED"):
        for pages in _maps:
            pages.madvise(mmap.MADV_DONTNEED)


def iterate_batches(rows: datasets.Dataset, size: int = BLOCK) -> Iterator[pa.Table]:
    """Yield the rows in blocks of Arrow columns. The pages of a block are released after it."""
    arrow = rows.with_format("arrow")
    for start in range(0, len(rows), size):
        yield arrow[start : start + size]
        release_pages()


def read_column(rows: datasets.Dataset, name: str) -> Iterator[Any]:
    """Yield the cells of a column. Images stay encoded."""
    for block in iterate_batches(rows.select_columns([name])):
        yield from block.column(name).to_pylist()


def fetch_rows(rows: Any, indices: Sequence[int]) -> list[Any]:
    """Return the rows with these numbers, of a data set or of a family's own sequence of rows."""
    fetch = getattr(rows, "__getitems__", None)
    fetched: list[Any] = []
    for start in range(0, len(indices), SCATTERED):
        part = list(indices[start : start + SCATTERED])
        fetched += fetch(part) if fetch is not None else [rows[index] for index in part]
        release_pages()
    return fetched


class FetchedRows:
    """Rows that a loader fetches batch by batch with `fetch_rows`."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.rows[index]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return the rows of a batch."""
        return fetch_rows(self.rows, indices)
