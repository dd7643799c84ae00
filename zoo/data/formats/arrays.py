"""npy, npz and h5 files as rows: data sets of factors (dSprites, Shapes3D, MPI3D), and arrays of any name with one entry per row.

An array of uint8 with three axes, or with four axes and 1 or 3 channels last, holds images. An array of two axes holds vectors,
and an array of one axis holds numbers or names. Each array is a column under its own name; that of an npy file is called `image`,
`vector` or `value`. Three layouts are known by the names of their arrays. Their sources become one column each:

    dSprites    imgs (n, 64, 64), latents_classes (n, 6): color, shape, scale, orientation, x, y
    Shapes3D    images (480000, 64, 64, 3), labels (480000, 6): floor_hue, wall_hue, object_hue, scale, shape, orientation
    MPI3D       images only, of a whole grid: object_color, object_shape, object_size, camera_height, background_color,
                horizontal, vertical

Images are read row by row, so that memory does not grow with the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.core.errors import DataError
from zoo.data.formats.array_files import ENDINGS, NPY_ARRAY, UNREADABLE, ArrayFile, Header, open_arrays
from zoo.data.formats.image_files import encode_pnm
from zoo.data.limits import CELL, check_column_count, refuse_large_cell
from zoo.data.raw_rows import BadRow, Item, RowLocation

if TYPE_CHECKING:
    import numpy as np

DSPRITES = ("color", "shape", "scale", "orientation", "x", "y")
SHAPES3D = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
MPI3D = ("object_color", "object_shape", "object_size", "camera_height", "background_color", "horizontal", "vertical")
GRID = "grid of "  # stands for an array in the result of `_name_columns`; no array can have this name
GRIDS = {1_036_800: (6, 6, 2, 3, 3, 40, 40), 460_800: (4, 4, 2, 3, 3, 40, 40)}
MAX_ARRAY_BYTES = 1 << 33  # of an array that is read whole


def is_arrays(path: Path) -> bool:
    """Return whether the name of a file is that of a file of arrays."""
    return path.name.lower().endswith(ENDINGS)


def read_column_names(path: Path, max_cell: int = CELL) -> tuple[str, ...]:
    """Return the column names. Raise DataError if the file cannot be read or holds no rows."""
    columns = _name_columns(path, _read_headers(path))
    return tuple(name for names in columns.values() for name in names)


def count_rows(path: Path) -> int:
    """Return the number of rows. Raise DataError if the file cannot be read or holds no rows."""
    return _count_rows(_read_headers(path))


def read_rows(path: Path, max_cell: int = CELL, positions: np.ndarray | None = None) -> Iterator[Item]:
    """Yield the rows at ascending `positions`, or all rows, in order."""
    import numpy as np

    headers = _read_headers(path)
    columns = _name_columns(path, headers)
    row_count = _count_rows(headers)
    for name, header in headers.items():
        if header.byte_count // row_count > max_cell:
            refuse_large_cell(max_cell, f"{path}: a row of {name}")
    if positions is None:
        positions = np.arange(row_count)
    done = 0
    try:
        with open_arrays(path) as arrays:
            readers = [_read_columns(arrays, name, headers, len(columns[name]), positions) for name in headers]
            if GRID in columns:
                readers.append(zip(*np.unravel_index(positions, GRIDS[row_count]), strict=True))
            column_names = [name for names in columns.values() for name in names]
            for position, cells_by_array in zip(positions.tolist(), zip(*readers, strict=True), strict=True):
                cells = (cell for cells in cells_by_array for cell in cells)
                values = [cell.item() if isinstance(cell, np.generic) else cell for cell in cells]
                yield RowLocation(str(path), position + 1), dict(zip(column_names, values, strict=True))
                done += 1
    except DataError as error:
        reason = str(error).removeprefix(f"{path}: {UNREADABLE}: ")
        message = f"is damaged after {done} of {len(positions)} rows ({reason}); get the file again"
        yield RowLocation(str(path)), BadRow(message, ends_file=True)


# -- which columns a file has ------------------------------------------------------------------------------------------


def _read_headers(path: Path) -> dict[str, Header]:
    """Return the arrays that are columns.

    These are the arrays with as many rows as the first array of images or, without images, as the first array.
    """
    with open_arrays(path) as arrays:
        check_column_count(str(path), len(arrays.names))
        headers = {name: arrays.read_header(name) for name in arrays.names}
    headers = {
        name: header
        for name, header in headers.items()
        if 1 <= len(header.shape) <= 4 and header.dtype.kind in "biufUS"  # numbers and text; never pickles
    }
    first = next((header for header in headers.values() if header.holds_images), next(iter(headers.values()), None))
    if first is None or not first.shape[0]:
        raise DataError(f"{path}: holds no array of numbers with one entry per row")
    columns = {
        name: header
        for name, header in headers.items()
        if header.shape[0] == first.shape[0] and (len(header.shape) < 3 or header.holds_images)
    }
    if {"imgs", "latents_classes"} <= columns.keys():
        columns.pop("latents_values", None)  # dSprites: the same factors as latents_classes
    if not columns:
        raise DataError(f"{path}: holds no array of numbers with one entry per row, or of images")
    return columns


def _count_rows(headers: Mapping[str, Header]) -> int:
    return next(iter(headers.values())).shape[0]


def _name_columns(path: Path, headers: Mapping[str, Header]) -> dict[str, tuple[str, ...]]:
    """Return the names of the columns that each array makes. Raise DataError if two columns have the same name."""
    columns: dict[str, tuple[str, ...]] = {}
    image_array = next((name for name, header in headers.items() if header.holds_images), None)
    for name, header in headers.items():
        if name == image_array:
            columns[name] = ("image",)
        elif _holds_sources(name, header, headers):
            columns[name] = DSPRITES if name == "latents_classes" else SHAPES3D
        elif name == NPY_ARRAY:
            columns[name] = ("vector" if len(header.shape) == 2 else "value",)
        else:
            columns[name] = (name,)
    if list(headers) == ["images"] and _count_rows(headers) in GRIDS:
        columns[GRID] = MPI3D
    counts = Counter(name for names in columns.values() for name in names)
    duplicates = [name for name, count in counts.items() if count > 1]
    if duplicates:
        raise DataError(f"{path}: has two columns called {duplicates[0]!r}; rename one array")
    return columns


def _holds_sources(name: str, header: Header, headers: Mapping[str, Header]) -> bool:
    """Return whether an array holds the six sources of dSprites or Shapes3D."""
    images = {"latents_classes": "imgs", "labels": "images"}.get(name)
    return images in headers and len(header.shape) == 2 and header.shape[1] == 6


# -- the cells of a column ---------------------------------------------------------------------------------------------


def _read_columns(
    arrays: ArrayFile, name: str, headers: Mapping[str, Header], column_count: int, positions: np.ndarray
) -> Iterator[tuple[Any, ...]]:
    """Return an iterator over the rows at `positions`: a tuple with the cell of each column that the array makes."""
    import numpy as np

    header = headers[name]
    if header.holds_images:
        is_binary = name == "imgs" and "latents_classes" in headers  # the pixels of dSprites are 0 and 1
        brightness = np.uint8(255 if is_binary else 1)
        return ((_encode_image(pixels * brightness),) for pixels in arrays.read_array_rows(name, positions))
    if header.byte_count > MAX_ARRAY_BYTES:
        raise ValueError(f"{name} is too large to be held in memory")
    array = arrays.read_array(name)
    if column_count > 1:  # sources: number the distinct values of each, in ascending order
        classes = [np.unique(column, return_inverse=True)[1].ravel() for column in array.T]
        return zip(*(column[positions] for column in classes), strict=True)
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8")
    return ((value.tolist(),) for value in array[positions])


def _encode_image(pixels: np.ndarray) -> bytes:
    """Return the bytes of a PGM or PPM file for pixels (height, width) or (height, width, 1 or 3)."""
    height, width, *channels = pixels.shape
    return encode_pnm(pixels.tobytes(), width, height, *channels)
