"""Read safetensors files with NumPy alone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import PackError

DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "U16": "<u2",
    "U8": "u1",
    "I8": "i1",
    "BOOL": "?",
}
LARGEST_HEADER = 100 << 20


def read(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of a safetensors file by name. Raise PackError if the file is malformed."""
    try:
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        if len(content) < 8 or length > min(LARGEST_HEADER, len(content) - 8):
            raise ValueError("its header is longer than the file")
        header = json.loads(content[8 : 8 + length])
        header.pop("__metadata__", None)
        return {name: _read_array(content[8 + length :], entry) for name, entry in header.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PackError(f"{path}: is not a safetensors file: {str(error)[:120]}; copy the folder again") from None


def _read_array(data: bytes, entry: dict[str, Any]) -> npt.NDArray[Any]:
    dtype, shape, (start, end) = np.dtype(DTYPES[entry["dtype"]]), entry["shape"], entry["data_offsets"]
    if not 0 <= start <= end <= len(data) or end - start != math.prod(shape) * dtype.itemsize:
        raise ValueError("the bytes of a tensor do not fit its shape")
    return np.frombuffer(data[start:end], dtype).reshape(shape)
