"""Several tables as one: their rows one table after the other, and the name of its table in each row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from zoo.core.errors import DataError
from zoo.data.raw_rows import Origin
from zoo.data.stored import filter_table
from zoo.data.table import SOURCE, Table

if TYPE_CHECKING:
    import datasets
    import numpy as np
    import pyarrow as pa


REPEATED = 1 << 16  # rows of a chunk


def join_tables(parts: Mapping[str, Table]) -> Table:
    """Return one table of the rows of `parts`, in their order, with the name of the part in the column `source`.

    It has the roles of all parts and no other columns. A role that a part lacks is null in its rows. Labels of whole numbers and
    of strings become strings.
    """
    import datasets

    parts = _unify_labels(parts)
    roles = tuple(sorted({role for table in parts.values() for role in table.roles}))
    features = datasets.Features(
        {role: next(table.rows.features[role] for table in parts.values() if role in table.roles) for role in roles}
    )
    features[SOURCE] = datasets.Value("string")
    rows = datasets.concatenate_datasets([_extend(name, table, features) for name, table in parts.items()])
    fingerprint = hashlib.sha256(json.dumps([[name, table.fingerprint] for name, table in parts.items()]).encode())
    return Table(
        rows,
        fingerprint.hexdigest(),
        Origin(", ".join(dict.fromkeys(table.origin.name for table in parts.values()))),
        tuple(line for table in parts.values() for line in table.skipped),
        roles,
        tuple(dict.fromkeys(role for table in parts.values() for role in table.inputs)),
        dict(parts),
    )


def filter_joined(table: Table, mask: np.ndarray) -> Table:
    """Return a new table with the rows at which `mask` (n,) bool is true, also of a table without parts.

    Raise DataError if no rows of a part are left.
    """
    if not table.parts:
        return filter_table(table, mask)
    parts, start = {}, 0
    for name, part in table.parts.items():
        kept = mask[start : start + len(part.rows)]
        start += len(part.rows)
        if not kept.any():
            raise DataError(f"no rows of the source {name} are left; take it out of the list, or give it other rows")
        parts[name] = part if kept.all() else filter_table(part, kept)
    return join_tables(parts)


def find_spans(rows: Any) -> dict[str, range]:
    """Return the row numbers of each source of joined rows; {} for rows of one data section."""
    from pyarrow import compute

    if SOURCE not in getattr(rows, "column_names", ()):
        return {}
    spans: dict[str, range] = {}
    start = first_of_run = 0
    for chunk in _read_column(rows, SOURCE):
        runs = compute.run_end_encode(chunk)
        for name, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
            stop = start + end
            spans[name] = range(spans[name].start if name in spans else first_of_run, stop)
            first_of_run = stop
        start += len(chunk)
    return spans


def split_by_source(rows: datasets.Dataset) -> dict[str, datasets.Dataset]:
    """Return the rows of each source with the columns that it has; {} for rows of one data section."""
    spans = find_spans(rows)
    absent = list_absent_columns(rows, spans)
    return {name: rows.select(span).remove_columns(list(absent[name])) for name, span in spans.items()}


def list_absent_columns(rows: datasets.Dataset, spans: Mapping[str, range]) -> dict[str, tuple[str, ...]]:
    """Return for each source the columns that are null in all its rows, because the source does not have them."""
    absent = {}
    for name, span in spans.items():
        part = rows.select(span).with_format("arrow")[:]
        absent[name] = tuple(
            column for column in part.column_names if len(part) and part.column(column).null_count == len(part)
        )
    return absent


def _read_column(rows: datasets.Dataset, name: str) -> Sequence[pa.Array]:
    chunks: Sequence[pa.Array] = rows.select_columns([name]).with_format("arrow")[:].column(name).chunks
    return chunks


def _extend(name: str, table: Table, features: datasets.Features) -> datasets.Dataset:
    """Return the rows with exactly the columns of `features`."""
    import datasets
    import pyarrow as pa

    arrow = table.rows.select_columns(list(table.roles)).with_format("arrow")[:]
    schema = features.arrow_schema
    arrays = []
    for field in schema:
        if field.name == SOURCE:
            arrays.append(_repeat(name, len(arrow)))
        elif field.name in arrow.column_names:
            arrays.append(arrow.column(field.name))
        else:
            arrays.append(pa.nulls(len(arrow), field.type))
    # `Dataset.from_dict` would pickle all rows, also those of a file, to find a fingerprint.
    return datasets.Dataset(
        pa.Table.from_arrays(arrays, schema=schema),
        info=datasets.DatasetInfo(features=features),
        fingerprint=hashlib.sha256(f"{name} {table.fingerprint} {len(arrow)}".encode()).hexdigest()[:16],
    )


def _repeat(name: str, count: int) -> pa.ChunkedArray:
    """Return a column of the same text, whose chunks share their memory."""
    import pyarrow as pa

    chunk = pa.repeat(pa.scalar(name), min(count, REPEATED))
    return pa.chunked_array(
        [chunk] * (count // REPEATED) + [chunk[: count % REPEATED]] if count > REPEATED else [chunk]
    )


def _unify_labels(parts: Mapping[str, Table]) -> dict[str, Table]:
    """Return the tables with labels of one type. The fingerprints stay as they are."""
    import datasets

    is_mixed = len({str(table.rows.features["label"]) for table in parts.values() if "label" in table.roles}) > 1
    if not is_mixed:
        return dict(parts)
    return {
        name: replace(table, rows=table.rows.cast_column("label", datasets.Value("string")))
        if "label" in table.roles
        else table
        for name, table in parts.items()
    }
