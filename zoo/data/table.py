"""Tables: rows that were read and checked, in memory, with a fingerprint of their content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.data.mapped import iterate_batches
from zoo.data.raw_rows import Origin
from zoo.schema import Kind

if TYPE_CHECKING:
    import datasets
    import numpy as np
    import pyarrow as pa

INPUT_KINDS = ("text", "texts", "image", "vector", "caption", "captions", "pictures")
SOURCE = "source"  # the column of joined rows that names the table of a row
FINGERPRINT_BATCH = 4096  # rows; another size would change every fingerprint


@dataclass(frozen=True)
class Table:
    """Rows that were read and checked.

    Attributes:
        rows: every column. The columns of the roles have canonical types: text and id are strings, number is float64, texts
            and ids are lists of strings, vector is a list of float32, image is `datasets.Image`. A label column is int64 if
            all labels are whole numbers, and string otherwise.
        fingerprint: sha256 of the values of the roles, in order. The file format, file names, caches and other columns do
            not change it.
        skipped: one line for each bad row that was left out.
        roles: the columns that were asked for, sorted.
        inputs: the roles that hold texts, images or vectors, in the order in which they were asked for.
        parts: the tables that this one was joined of, by name; {} for a table of one data section.
        folder: the folder of a table on disk, whose rows are memory-mapped; None for a table in memory.
    """

    rows: datasets.Dataset
    fingerprint: str
    origin: Origin
    skipped: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    parts: Mapping[str, Table] = field(default_factory=dict)
    folder: Path | None = None


def build_table(
    columns: Mapping[str, Sequence[Any]], roles: Mapping[str, Kind], origin: Origin, skipped: Sequence[str]
) -> Table:
    """Build a table from columns whose roles hold canonical values.

    Another column keeps its type if one Arrow type fits all its values. Otherwise each value is written as JSON.
    """
    import datasets
    import pyarrow as pa

    arrays = {}
    for name, values in columns.items():
        if _is_arrow_name(name):
            if name in roles:
                arrays[name] = pa.array(values, choose_arrow_type(roles[name], is_whole=isinstance(values[0], int)))
            else:
                arrays[name] = _infer_array(values)
    features = datasets.Features.from_arrow_schema(pa.schema([(name, array.type) for name, array in arrays.items()]))
    for name, kind in roles.items():
        if kind == "image":
            features[name] = datasets.Image()
    rows = datasets.Dataset.from_dict(arrays, features=features)
    role_names = tuple(sorted(roles))
    inputs = tuple(name for name, kind in roles.items() if kind in INPUT_KINDS)
    return Table(rows, compute_fingerprint(rows, role_names), origin, tuple(skipped), role_names, inputs)


def filter_in_memory(table: Table, mask: np.ndarray) -> Table:
    """Return a new table with the rows at which `mask` (n,) bool is true, copied into memory."""
    import datasets
    import pyarrow as pa

    arrow = table.rows.with_format("arrow")[:].filter(pa.array(mask))
    arrays = dict(zip(arrow.column_names, arrow.columns, strict=True))
    rows = datasets.Dataset.from_dict(arrays, features=table.rows.features)
    return replace(table, rows=rows, fingerprint=compute_fingerprint(rows, table.roles))


def compute_fingerprint(rows: datasets.Dataset, names: Sequence[str]) -> str:
    """Return the hex sha256 of the columns `names`.

    The values are hashed as JSON, column by column, in batches of a fixed size, so that the same values give the same
    fingerprint however Arrow stores them.
    """
    digest = hashlib.sha256()
    for name in names:
        digest.update(json.dumps([name, len(rows)]).encode())
        for block in iterate_batches(rows.select_columns([name]), FINGERPRINT_BATCH):
            values = block.column(name).to_pylist()
            if values and isinstance(values[0], dict):  # a column of images
                values = [hashlib.sha256(image["bytes"]).hexdigest() for image in values]
            elif _holds_lists_of_images(values):
                values = [[_identify_image(image) for image in images] for images in values]
            digest.update(json.dumps(values, ensure_ascii=False).encode())
    return digest.hexdigest()


def _holds_lists_of_images(values: Sequence[Any]) -> bool:
    return any(isinstance(value, list) and value and isinstance(value[0], dict) for value in values)


def _identify_image(image: Mapping[str, Any]) -> Any:
    """Return the hash of an image's bytes. An image that is opened later is identified by the name and size of its file."""
    if image["bytes"] is not None:
        return hashlib.sha256(image["bytes"]).hexdigest()
    if not image["path"]:
        return image["path"]
    path = Path(image["path"])
    return [path.name, path.stat().st_size]


def choose_arrow_type(kind: Kind, *, is_whole: bool) -> pa.DataType:
    """Return the type of a role. Labels are integers if they are whole numbers, and text otherwise."""
    import pyarrow as pa

    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    types = {
        "label": pa.int64() if is_whole else pa.string(),
        "number": pa.float64(),
        "vector": pa.list_(pa.float32()),
        "texts": pa.list_(pa.string()),
        "ids": pa.list_(pa.string()),
        "captions": pa.list_(pa.string()),
        "image": image,
        "pictures": pa.list_(image),
    }
    return types.get(kind, pa.string())


def _infer_array(values: Sequence[Any]) -> pa.Array:
    """Return an array of the type that fits all values, or of their JSON if no type that `datasets` knows fits."""
    import datasets
    import pyarrow as pa

    try:
        array = pa.array(values)
        datasets.Features.from_arrow_schema(pa.schema([("column", array.type)]))
    except (pa.ArrowException, TypeError, ValueError, OverflowError):  # UnicodeEncodeError is a ValueError
        return pa.array([None if value is None else json.dumps(value, default=str) for value in values], pa.string())
    return array


def _is_arrow_name(name: str) -> bool:
    """Return whether Arrow can name a column so: the name must be Unicode and hold no NUL, which ends it."""
    return "\0" not in name and (name.isascii() or name == name.encode(errors="replace").decode())
