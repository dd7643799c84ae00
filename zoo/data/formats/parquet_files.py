"""Parquet files, and the record batches of Arrow, as rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.core.errors import DataError, first_line
from zoo.data.formats.text_lines import NOT_UTF8
from zoo.data.raw_rows import BadRow, Item, Row, RowLocation

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH = 1024  # rows


def read_column_names(path: Path) -> tuple[str, ...]:
    """Return the column names. Raise DataError for a file that is not parquet."""
    return tuple(_open_parquet(path).schema_arrow.names)


def read_rows(path: Path) -> Iterator[Item]:
    """Yield every row in order."""
    import pyarrow as pa

    file = _open_parquet(path)
    name, number, row_count = str(path), 0, file.metadata.num_rows
    try:
        for batch in file.iter_batches(batch_size=BATCH):
            for row in convert_batch(batch):
                number += 1
                yield RowLocation(name, number), row
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = f"is damaged after {number} of {row_count} rows ({first_line(error)}); get the file again"
        yield RowLocation(name), BadRow(reason, ends_file=True)


def convert_batch(batch: pa.RecordBatch | pa.Table) -> Iterator[Row | BadRow]:
    """Yield the rows of an Arrow batch as Python values."""
    try:
        yield from batch.to_pylist()
    except (ValueError, OverflowError):  # Arrow stores strings that are not UTF-8, and dates outside Python's range
        for index in range(batch.num_rows):
            try:
                yield batch.slice(index, 1).to_pylist()[0]
            except UnicodeDecodeError:
                yield NOT_UTF8
            except (ValueError, OverflowError) as error:
                yield BadRow(f"cannot be read: {first_line(error)}")


def _open_parquet(path: Path) -> pq.ParquetFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as parquet: {first_line(error)}") from None
