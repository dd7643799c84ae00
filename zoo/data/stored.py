"""Tables on disk: rows that were read and checked, in Arrow files that are memory-mapped.

A small table stays in memory. From `MEMORY_ROWS` rows on, its blocks are written while they are read, so that memory does not
grow with the rows. The folder of a table is complete or absent. Its name depends on where the rows come from and on everything
that chooses them, so a resumed run opens it again instead of reading the data.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.core import atomic_files
from zoo.data import kinds
from zoo.data.mapped import iterate_batches, open_file
from zoo.data.raw_rows import Origin
from zoo.data.split import comparison_key, hash_group
from zoo.data.table import Table, choose_arrow_type, compute_fingerprint, filter_in_memory
from zoo.schema import Kind

if TYPE_CHECKING:
    import datasets
    import numpy as np
    import pyarrow as pa

MEMORY_ROWS = 200_000  # a table with fewer rows stays in memory
BLOCK = 8192  # rows that are written at once
SHARD_ROWS = 1 << 20  # rows of a file
MAX_SLICES = 2048  # stretches of rows that are kept as they are; with more of them, the rows are written again
RECORD = "rows.json"  # written last


class Spill:
    """Columns whose blocks go to disk once they are many. The roles and the column `by` are kept, other columns are not."""

    def __init__(self, folder: Path, roles: Mapping[str, Kind], by: str | None) -> None:
        self.folder, self.roles, self.by = folder, dict(roles), by
        self.count = 0
        self.has_whole_labels, self.vector_sizes = True, dict[str, set[int]]()
        self._writer: ShardWriter | None = None

    @property
    def is_used(self) -> bool:
        """Whether rows are on disk."""
        return self.count > 0

    def write(self, columns: Mapping[str, list[Any]]) -> None:
        """Write all rows of `columns` and empty its lists. Labels are written as text."""
        import pyarrow as pa

        if self._writer is None:
            self._writer = ShardWriter(self.folder, make_features(self.roles, self.by))
        arrays, row_count = [], len(columns[next(iter(self.roles))])
        for field in self._writer.schema:
            values = columns.get(field.name) or [None] * row_count
            kind = self.roles.get(field.name)
            if kind == "label":
                self.has_whole_labels &= all(map(kinds.is_whole_number, values))
                values = [str(value) for value in values]
            elif kind == "vector":
                self.vector_sizes.setdefault(field.name, set()).update(map(len, values))
            elif kind is None:
                values = [None if value is None else comparison_key(value) for value in values]
            arrays.append(pa.array(values, field.type))
        self._writer.write(pa.record_batch(arrays, schema=self._writer.schema))
        self.count += row_count
        for values in columns.values():
            values.clear()

    def close(self) -> tuple[datasets.Dataset, str]:
        """Return the rows and the beginning of the names of their files. Labels that are all whole numbers become integers."""
        import datasets

        assert self._writer is not None  # the caller asks `is_used`
        self._writer.close()
        rows = open_rows(self.folder)
        labels = [role for role, kind in self.roles.items() if kind == "label"]
        if not (labels and self.has_whole_labels):
            return rows, "rows"
        features = rows.features.copy()
        for role in labels:
            features[role] = datasets.Value("int64")
        return rewrite(rows, features, self.folder, "whole"), "whole"

    def discard(self) -> None:
        """Forget all rows."""
        if self._writer is not None:
            self._writer.close()
        for path in self.folder.glob("*.arrow"):
            path.unlink()
        self._writer, self.count = None, 0


class ShardWriter:
    """Writes record batches to Arrow files of about SHARD_ROWS rows."""

    def __init__(self, folder: Path, features: datasets.Features, prefix: str = "rows") -> None:
        self.folder, self.prefix = folder, prefix
        self.schema: pa.Schema = features.arrow_schema
        self._number = self._rows = 0
        self._stream: Any = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch with the schema of the files."""
        import pyarrow as pa

        if self._stream is None:
            if self._number == 0 and self.prefix == "rows":
                shutil.rmtree(self.folder, ignore_errors=True)  # of a run that was killed
            self.folder.mkdir(parents=True, exist_ok=True)
            self._stream = pa.ipc.new_stream(str(self.folder / f"{self.prefix}-{self._number:05}.arrow"), self.schema)
            self._number, self._rows = self._number + 1, 0
        self._stream.write_batch(batch)
        self._rows += len(batch)
        if self._rows >= SHARD_ROWS:
            self.close()

    def close(self) -> None:
        """Finish the current file."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def make_features(roles: Mapping[str, Kind], by: str | None) -> datasets.Features:
    """Return the types of the columns of a table on disk."""
    import datasets
    import pyarrow as pa

    fields = [(name, choose_arrow_type(kind, is_whole=False)) for name, kind in roles.items()]
    fields += [(by, pa.string())] if by is not None and by not in roles else []
    features = datasets.Features.from_arrow_schema(pa.schema(fields))
    for name, kind in roles.items():
        if kind == "image":
            features[name] = datasets.Image()
    return features


def open_rows(folder: Path, prefix: str = "rows") -> datasets.Dataset:
    """Open the Arrow files of a folder as one memory-mapped data set."""
    import datasets

    return datasets.concatenate_datasets([open_file(path) for path in sorted(folder.glob(f"{prefix}-*.arrow"))])


def rewrite(
    rows: datasets.Dataset, features: datasets.Features, folder: Path, prefix: str, mask: np.ndarray | None = None
) -> datasets.Dataset:
    """Write rows again with other types, or only those at which `mask` is true, and remove the other files of the folder."""
    import pyarrow as pa

    writer, start = ShardWriter(folder, features, prefix), 0
    for block in iterate_batches(rows):
        kept = block if mask is None else block.filter(pa.array(mask[start : start + len(block)]))
        start += len(block)
        for batch in kept.cast(writer.schema).combine_chunks().to_batches():
            writer.write(batch)
    writer.close()
    for path in folder.glob("*.arrow"):
        if not path.name.startswith(f"{prefix}-"):
            path.unlink()
    return open_rows(folder, prefix)


def hash_column(rows: datasets.Dataset, name: str) -> np.ndarray:
    """Return a 64-bit hash (n,) of each value of a column, by which `holdout` compares them."""
    import numpy as np

    hashes = [
        np.fromiter((hash_group(value) for value in block.column(name).to_pylist()), np.uint64, len(block))
        for block in iterate_batches(rows.select_columns([name]))
    ]
    return np.concatenate(hashes)


# -- folders of tables ---------------------------------------------------------------------------------------------------


def compute_key(values: Any) -> str:
    """Return the name of the folder of a table that is made from these JSON-able values."""
    return atomic_files.digest([1, values])[:32]


def open_table(folder: Path) -> Table | None:
    """Open a table that is complete, or return None."""
    try:
        record = atomic_files.read_json(folder / RECORD)
    except (OSError, ValueError):
        return None
    return Table(
        open_rows(folder, record["prefix"]),
        record["fingerprint"],
        Origin(**record["origin"]),
        tuple(record["skipped"]),
        tuple(record["roles"]),
        tuple(record["inputs"]),
        folder=folder,
    )


def record_table(table: Table, folder: Path, prefix: str) -> None:
    """Complete the folder of a table: write its fingerprint and what else `open_table` needs."""
    record = {
        "fingerprint": compute_fingerprint(table.rows, table.roles),
        "origin": asdict(table.origin),
        "skipped": table.skipped,
        "roles": table.roles,
        "inputs": table.inputs,
        "prefix": prefix,
    }
    atomic_files.write_json(folder / RECORD, record)


@contextlib.contextmanager
def make_folder(folder: Path) -> Iterator[Path]:
    """Yield the place of a new folder for a table, and rename it to `folder` if a table was recorded there.

    `ShardWriter` makes the folder, so that the processes of a distributed run do not meet in it for a small table.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    try:
        yield partial
        if (partial / RECORD).exists():
            shutil.rmtree(folder, ignore_errors=True)
            partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def filter_table(table: Table, mask: np.ndarray) -> Table:
    """Return a new table with the rows at which `mask` (n,) bool is true.

    A few stretches of a table on disk are kept as they are. Otherwise the rows are written again, into a folder beside the
    table's.
    """
    import datasets
    import numpy as np

    if table.folder is None:
        return filter_in_memory(table, mask)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    stretches = edges.reshape(-1, 2).tolist()
    if 0 < len(stretches) <= MAX_SLICES:
        parts = [table.rows.select(range(start, stop)) for start, stop in stretches]
        rows = datasets.concatenate_datasets(parts)
        return replace(table, rows=rows, fingerprint=compute_fingerprint(rows, table.roles))
    folder = table.folder.with_name(
        hashlib.blake2b(table.fingerprint.encode() + np.packbits(mask).tobytes(), digest_size=16).hexdigest()
    )
    stored = open_table(folder)
    if stored is not None:
        return stored
    with make_folder(folder) as partial:
        rows = rewrite(table.rows, table.rows.features, partial, "rows", mask)
        record_table(replace(table, rows=rows), partial, "rows")
    stored = open_table(folder)
    assert stored is not None  # it was just written
    return stored
