"""Write arrays that arrive in blocks as one .npy file, in constant memory, and map the rows of such a file."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from zoo.core import atomic_files, faults, paths
from zoo.core.errors import DataError, first_line

if TYPE_CHECKING:
    import numpy as np

HEADER_BYTES = 128


def write_npy(blocks: Iterable[np.ndarray[Any, Any]], target: str | IO[bytes]) -> int:
    """Write blocks of rows as one .npy file and return the number of rows.

    The header needs the number of rows, so it is written last. A file is written under a temporary name and renamed when it
    is whole. A pipe cannot be rewound, so its content is collected in a temporary file and then copied.
    """
    if isinstance(target, str):
        with atomic_files.replace_file(Path(target)) as partial, partial.open("wb+") as file:
            return _write_blocks(blocks, file)
    with tempfile.TemporaryFile() as file:
        count = _write_blocks(blocks, file)
        file.seek(0)
        shutil.copyfileobj(file, target)
        target.flush()
    return count


def _write_blocks(blocks: Iterable[np.ndarray[Any, Any]], file: IO[bytes]) -> int:
    import numpy as np

    count, first = 0, None
    for block in blocks:
        if first is None:
            first = block
            _write_header(file, block, 0)
        file.write(np.ascontiguousarray(block).tobytes())
        count += len(block)
    _write_header(file, first if first is not None else np.empty((0, 0), np.float32), count)
    return count


def _write_header(file: IO[bytes], block: np.ndarray[Any, Any], rows: int) -> None:
    """Write a .npy 1.0 header for `rows` rows like those of `block` at the start of the file.

    The header has 128 bytes for every number of rows, so that it can be overwritten. The file position afterwards is where
    it was before, or behind the header if the file was empty.
    """
    import numpy as np

    descr = np.lib.format.dtype_to_descr(block.dtype)
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {(rows, *block.shape[1:])}, }}"
    position = file.seek(0, 1)
    file.seek(0)
    file.write(b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + text.ljust(117).encode("latin1") + b"\n")
    file.seek(max(position, HEADER_BYTES))


def open_rows(path: str | Path) -> np.ndarray[Any, Any]:
    """Map the array (n, d) of a .npy file. Raise DataError for a missing or damaged file, pickles, and another shape."""
    import numpy as np

    if not paths.is_file(path):
        raise DataError(f"{path}: there is no such file; give an .npy of vectors, as `zoo encode` writes it")
    try:
        rows: np.ndarray[Any, Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        faults.refuse_full_memory(error, Path(path), DataError)
        raise DataError(f"{path}: cannot be read as an .npy file: {first_line(error, limit=100)}") from None
    if not isinstance(rows, np.ndarray) or rows.ndim != 2:
        raise DataError(f"{path}: holds no rows of vectors (n, d); write it with numpy.save, or with `zoo encode`")
    return rows
