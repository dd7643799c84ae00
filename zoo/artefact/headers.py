"""Read the headers of safetensors files without torch: the name, the shape and the dtype of every tensor."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from zoo.core.errors import ArtefactError

HEADER = 16 << 20
"""Bytes of the longest safetensors header."""
TENSORS = 100_000
"""Largest number of tensors in one file."""
SIGNS_PER_TENSOR = 12
"""Most commas and colons that the header has for one tensor: four entries, a shape of up to six sizes, and two offsets."""
DTYPE_BYTES = {
    "F64": 8,
    "I64": 8,
    "U64": 8,
    "F32": 4,
    "I32": 4,
    "U32": 4,
    "F16": 2,
    "BF16": 2,
    "I16": 2,
    "U16": 2,
    "BOOL": 1,
    "I8": 1,
    "U8": 1,
}
"""Bytes of one value by dtype. Other dtypes, for example those of eight bits with a scale elsewhere, are refused."""
FLOATS = ("F64", "F32", "F16", "BF16")
INTEGERS = ("I64", "I32", "U8", "BOOL")
"""Dtypes of buffers that are not weights, for example positions and masks."""
Shape = tuple[int, ...]


class Entry(NamedTuple):
    """One tensor of a safetensors header."""

    shape: Shape
    dtype: str


def read_entries(path: Path) -> dict[str, Entry]:
    """Read the tensors by name from a safetensors header. Raises ArtefactError if it does not describe the file."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size - 8, HEADER):
                raise ValueError(f"its header claims {length} bytes")
            header = _parse(file.read(length))
        entries, end = _check_entries(header)
        if 8 + length + end != size:
            raise ValueError(f"it holds {size} bytes and describes {8 + length + end}")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, struct.error, RecursionError) as error:
        raise ArtefactError(
            f"{path}: cannot be read as safetensors: {str(error)[:120]}; download the model again"
        ) from None
    return entries


def _parse(text: bytes) -> dict[str, Any]:
    """Parse a header. The number of its values is limited first, because each of them takes more memory than its text."""
    if text.count(b",") + text.count(b":") + text.count(b"[") > SIGNS_PER_TENSOR * TENSORS:
        raise ValueError(f"its header describes more than {TENSORS} tensors")
    header: dict[str, Any] = json.loads(text, object_pairs_hook=_refuse_repeated_names)
    if not isinstance(header, dict):
        raise ValueError("its header is not an object")
    header.pop("__metadata__", None)
    if len(header) > TENSORS:
        raise ValueError(f"its header describes {len(header)} tensors, more than {TENSORS}")
    return header


def _refuse_repeated_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("its header holds a name twice")
    return values


def _check_entries(header: dict[str, Any]) -> tuple[dict[str, Entry], int]:
    """Return the entries, in the order of their bytes, and the number of bytes. Raise ValueError for gaps and overlaps."""
    end, entries = 0, {}
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        shape, (start, stop) = tuple(entry["shape"]), entry["data_offsets"]
        if not all(type(n) is int and n >= 0 for n in shape) or start != end:
            raise ValueError(f"tensor {name[:60]} has no place of its own")
        if entry["dtype"] not in DTYPE_BYTES:
            raise ValueError(f"tensor {name[:60]} has the dtype {str(entry['dtype'])[:20]}, which is not supported")
        if stop - start != math.prod(shape) * DTYPE_BYTES[entry["dtype"]]:
            raise ValueError(f"tensor {name[:60]} of shape {shape} has {stop - start} bytes")
        end, entries[name] = stop, Entry(shape, entry["dtype"])
    return entries, end


def read_header(path: Path) -> dict[str, Shape]:
    """Read the shapes by tensor name from a safetensors header. Raises ArtefactError if it does not describe the file."""
    return {name: entry.shape for name, entry in read_entries(path).items()}


def read_all(paths: Iterable[Path]) -> dict[str, Entry]:
    """Read the tensors of several files, for example of the shards of a model."""
    entries: dict[str, Entry] = {}
    for path in paths:
        entries |= read_entries(path)
    return entries
