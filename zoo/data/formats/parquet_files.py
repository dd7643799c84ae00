"""Parquet files, and the record batches of Arrow, as rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.core import faults
from zoo.core.errors import DataError, first_line
from zoo.data.formats import parquet_footer
from zoo.data.formats.text_lines import NOT_UTF8
from zoo.data.limits import CELL, MAX_NESTING, MAX_RATIO, READ_FAULTS, check_column_count, refuse_large_cell
from zoo.data.raw_rows import BadRow, Item, Row, RowLocation

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH = 1024  # rows
SMALL_BATCH = 16  # of a file whose sizes are not known
BATCH_BYTES = 1 << 27
MAX_GROWTH = 1 << 28  # bytes that a file may always grow to, however small it is
MAX_ROWS_PER_BYTE = 64


def read_column_names(path: Path, max_cell: int = CELL) -> tuple[str, ...]:
    """Return the column names. Raise DataError for a file that is not parquet."""
    return tuple(_open_parquet(path).schema_arrow.names)


def count_rows(path: Path) -> int:
    """Return the number of rows, which the file states. Raise DataError if it is more than the file can hold."""
    file = _open_parquet(path)
    _check_claims(path, file, CELL)
    return int(file.metadata.num_rows)


def read_rows(path: Path, max_cell: int = CELL, positions: np.ndarray | None = None) -> Iterator[Item]:
    """Yield the rows at ascending `positions`, or every row, in order."""
    import pyarrow as pa

    file = _open_parquet(path)
    _check_claims(path, file, max_cell)
    name, number, row_count = str(path), 0, file.metadata.num_rows
    byte_count, limit = 0, max(MAX_GROWTH, path.stat().st_size * MAX_RATIO)
    try:
        for group, batch_size in enumerate(_choose_batch_sizes(path, file)):
            wanted = None
            if positions is not None:
                end = number + file.metadata.row_group(group).num_rows
                wanted = set(positions[(positions >= number) & (positions < end)].tolist())
                if not wanted:
                    number = end
                    continue
            for batch in file.iter_batches(batch_size=batch_size, row_groups=[group]):
                byte_count += batch.nbytes
                if byte_count > limit:
                    raise ValueError(f"its rows take more than {limit >> 20} MB")
                for row in convert_batch(batch):
                    number += 1
                    if wanted is None or number - 1 in wanted:
                        yield RowLocation(name, number), row
        if number != row_count:
            raise ValueError("it states another number of rows than it holds")
    except (pa.ArrowException, *READ_FAULTS) as error:
        faults.refuse_full_memory(error, name, DataError)
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


def _check_claims(path: Path, file: pq.ParquetFile, max_cell: int) -> None:
    """Raise DataError for more rows or larger cells than can be read, before any of them is."""
    if _compute_depth(file.schema_arrow) > MAX_NESTING:
        raise DataError(f"{path}: is nested more than {MAX_NESTING} levels deep; make it flatter")
    byte_count, row_count = path.stat().st_size, file.metadata.num_rows
    if row_count > byte_count * MAX_ROWS_PER_BYTE:
        raise DataError(
            f"{path}: claims {row_count} rows, more than its {byte_count} bytes can hold; get the file again"
        )
    for chunks in parquet_footer.read_column_chunks(path) or ():
        for index, chunk in enumerate(chunks):
            if chunk.uncompressed_size > max_cell * max(chunk.num_values, 1):
                refuse_large_cell(max_cell, f"{path}: a cell of column {index + 1}")


def _choose_batch_sizes(path: Path, file: pq.ParquetFile) -> list[int]:
    """Return for each row group how many rows are read at once, so that a batch takes about BATCH_BYTES.

    A dictionary stores a text once however many rows have it, and Arrow copies the text into each row. The longest text may be as
    large as the dictionary.
    """
    chunks = parquet_footer.read_column_chunks(path)
    if chunks is None or len(chunks) != file.num_row_groups:
        return [SMALL_BATCH] * file.num_row_groups
    sizes = []
    for group, columns in enumerate(chunks):
        row_count = max(file.metadata.row_group(group).num_rows, 1)
        row_bytes = 1 + sum(chunk.uncompressed_size // row_count + chunk.dictionary_size for chunk in columns)
        sizes.append(min(BATCH, max(1, BATCH_BYTES // row_bytes)))
    return sizes


def _compute_depth(schema: pa.Schema) -> int:
    """Return how deep the types of the columns are nested. The walk ends at one level more than MAX_NESTING."""
    level, depth = list(schema.types), 0
    while level and depth <= MAX_NESTING:
        level, depth = [kind.field(index).type for kind in level for index in range(kind.num_fields)], depth + 1
    return depth


def _open_parquet(path: Path) -> pq.ParquetFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        check_column_count(str(path), len(file.schema_arrow.names))
        return file
    except (pa.ArrowException, *READ_FAULTS) as error:
        faults.refuse_full_memory(error, path, DataError)
        raise DataError(f"{path}: cannot be read as parquet: {first_line(error)}") from None
