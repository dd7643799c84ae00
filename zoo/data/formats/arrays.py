"""npy, npz and h5 as rows: data sets of factors (dSprites, Shapes3D, MPI3D), and arrays of any names with a row each.

An array of uint8 and three axes, or four with 1 or 3 channels at the end, holds images; one of two axes holds vectors, one of one
axis numbers or names. A file of several arrays has a column for each, under its name; that of an .npy is called `image`,
`vector` or `value`. Known layouts, whose sources get columns of their own:

    dSprites    imgs (n, 64, 64), latents_classes (n, 6): color, shape, scale, orientation, x, y
    Shapes3D    images (480000, 64, 64, 3), labels (480000, 6): floor_hue, wall_hue, object_hue, scale, shape, orientation
    MPI3D       images alone, of a whole grid: object_color, object_shape, object_size, camera_height, background_color,
                horizontal, vertical

Images are read row by row, so that memory does not grow with the file; pickled arrays are never opened.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from zoo.core.errors import DataError
from zoo.core.lazy import lazy
from zoo.data.formats import image_files
from zoo.data.table import Fault, Place, Row

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy("numpy")

NPY, HDF = (".npy", ".npz"), (".h5", ".hdf5")
ENDINGS = (*NPY, *HDF)
DSPRITES = ("color", "shape", "scale", "orientation", "x", "y")
SHAPES3D = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
MPI3D = ("object_color", "object_shape", "object_size", "camera_height", "background_color", "horizontal", "vertical")
ALONE, GRID = "array", "grid of "  # what the array of an .npy and the sources of a whole grid are called here
GRIDS = {1_036_800: (6, 6, 2, 3, 3, 40, 40), 460_800: (4, 4, 2, 3, 3, 40, 40)}
UNREADABLE = "cannot be read"
LARGEST = 1 << 33  # bytes of an array that is held whole


class Header(NamedTuple):
    """Shape and type of an array, known before it is read."""

    shape: tuple[int, ...]
    dtype: Any

    @property
    def images(self) -> bool:
        """Whether its rows are images."""
        return self.dtype == np.uint8 and (len(self.shape) == 3 or (len(self.shape) == 4 and self.shape[3] in (1, 3)))


def is_arrays(path: Path) -> bool:
    """Whether a file is called as these are."""
    return path.name.lower().endswith(ENDINGS)


def columns(path: Path) -> tuple[str, ...]:
    """Names of the columns. Raises DataError for a file that cannot be read or holds no rows."""
    return tuple(name for called in _called(path, _headers(path)).values() for name in called)


def count(path: Path) -> int:
    """Rows of the file. Raises DataError as `columns` does."""
    return next(iter(_headers(path).values())).shape[0]


def rows(path: Path, positions: np.ndarray | None = None) -> Iterator[tuple[Place, Row | Fault]]:
    """The rows at ascending `positions`, or all of them, in order."""
    headers = _headers(path)
    called = _called(path, headers)
    total = next(iter(headers.values())).shape[0]
    wanted = np.arange(total) if positions is None else positions
    done = 0
    try:
        with _opened(path) as arrays:
            readers = [_reader(arrays, name, headers, called[name], wanted) for name in headers]
            if GRID in called:
                readers.append(zip(*np.unravel_index(wanted, GRIDS[total]), strict=True))
            names = [name for each in called.values() for name in each]
            for at, parts in zip(wanted.tolist(), zip(*readers, strict=True), strict=True):
                values = (v.item() if isinstance(v, np.generic) else v for part in parts for v in part)
                yield Place(str(path), at + 1), dict(zip(names, values, strict=True))
                done += 1
    except DataError as error:
        what = str(error).removeprefix(f"{path}: {UNREADABLE}: ")
        yield Place(str(path)), Fault(f"is damaged after {done} whole rows ({what}); get the file again")


# -- columns -----------------------------------------------------------------------------------------------------------


def _headers(path: Path) -> dict[str, Header]:
    """Arrays that are columns: those with as many rows as the images or, where there are none, as the first one."""
    with _opened(path) as arrays:
        found = {
            name: header
            for name in arrays.names
            if 1 <= len((header := arrays.header(name)).shape) <= 4 and header.dtype.kind in "biufUS"
        }
    first = next((h for h in found.values() if h.images), next(iter(found.values()), None))
    if first is None or not first.shape[0]:
        raise DataError(f"{path}: holds no array of numbers with a row each")
    kept = {name: h for name, h in found.items() if h.shape[0] == first.shape[0] and (len(h.shape) < 3 or h.images)}
    if {"imgs", "latents_classes"} <= kept.keys():
        kept.pop("latents_values", None)
    return kept


def _called(path: Path, headers: Mapping[str, Header]) -> dict[str, tuple[str, ...]]:
    """The columns that each array makes."""
    out: dict[str, tuple[str, ...]] = {}
    shown = next((name for name, header in headers.items() if header.images), None)
    for name, header in headers.items():
        if header.images and name == shown:
            out[name] = ("image",)
        elif _sources(name, header, headers):
            out[name] = DSPRITES if name == "latents_classes" else SHAPES3D
        else:
            out[name] = (name,) if name != ALONE else ("vector" if len(header.shape) == 2 else "value",)
    if list(headers) == ["images"] and headers["images"].shape[0] in GRIDS:
        out[GRID] = MPI3D
    double = [name for name, n in Counter(name for each in out.values() for name in each).items() if n > 1]
    if double:
        raise DataError(f"{path}: has two columns called {double[0]!r}")
    return out


def _sources(name: str, header: Header, headers: Mapping[str, Header]) -> bool:
    beside = {"latents_classes": "imgs", "labels": "images"}.get(name)
    return beside in headers and len(header.shape) == 2 and header.shape[1] == 6


def _reader(
    arrays: Any, name: str, headers: Mapping[str, Header], called: tuple[str, ...], wanted: np.ndarray
) -> Iterator[tuple[Any, ...]]:
    """The values of one array's columns, a tuple a row."""
    header = headers[name]
    if header.images:
        bright = np.uint8(255 if name == "imgs" and "latents_classes" in headers else 1)  # dSprites has 0 and 1
        return ((_picture(pixels * bright),) for pixels in arrays.some(name, wanted))
    if math.prod(header.shape) * header.dtype.itemsize > LARGEST:
        raise ValueError(f"{name} is too large to be held")
    whole = arrays.whole(name)
    if len(called) > 1:  # values of sources, of which a class is the place
        places = [np.unique(column, return_inverse=True)[1].ravel() for column in whole.T]
        return zip(*(column[wanted] for column in places), strict=True)
    if whole.dtype.kind == "S":
        whole = np.char.decode(whole, "utf-8")
    return ((value.tolist(),) for value in whole[wanted])


def _picture(pixels: np.ndarray) -> bytes:
    """The bytes of a PGM or PPM file."""
    height, width = pixels.shape[:2]
    kind = 6 if pixels.ndim == 3 and pixels.shape[2] == 3 else 5
    return b"P%d %d %d 255\n" % (kind, width, height) + np.ascontiguousarray(pixels).tobytes()


# -- files -------------------------------------------------------------------------------------------------------------


class _Zip:
    """The arrays of an npz, or the only one of an npy, whose rows can be read in order without the others."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.zip = zipfile.ZipFile(path) if path.name.lower().endswith(".npz") else None
        self.names = [n[:-4] for n in self.zip.namelist() if n.endswith(".npy")] if self.zip else [ALONE]
        self.held: list[IO[bytes]] = []

    def close(self) -> None:
        for file in self.held:
            file.close()
        if self.zip:
            self.zip.close()

    def _open(self, name: str) -> tuple[IO[bytes], Header]:
        file = self.zip.open(f"{name}.npy") if self.zip else self.path.open("rb")
        self.held.append(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        version = np.lib.format.read_magic(file)
        if version not in read:
            raise ValueError(f"is of an unknown version {version}")
        shape, fortran, dtype = read[version](file)
        if fortran and len(shape) > 1:
            raise ValueError("is in Fortran order; save it in C order")
        return file, Header(shape, dtype)

    def header(self, name: str) -> Header:
        return self._open(name)[1]

    def whole(self, name: str) -> np.ndarray:
        file, header = self._open(name)
        data = file.read(math.prod(header.shape) * header.dtype.itemsize)
        return np.frombuffer(data, header.dtype).reshape(header.shape)

    def some(self, name: str, wanted: np.ndarray) -> Iterator[np.ndarray]:
        file, header = self._open(name)
        size = math.prod(header.shape[1:])
        if not 0 < size <= image_files.LARGEST:
            raise ValueError(f"holds images of {size} bytes")
        start, at = file.tell(), 0
        for place in wanted.tolist():
            if self.zip is None:
                file.seek(start + place * size)
            else:
                file.seek((place - at) * size, 1)  # inside a zip: reads what it passes over, in pieces
            pixels = file.read(size)
            at = place + 1
            if len(pixels) < size:
                raise EOFError("it ends too early")
            yield np.frombuffer(pixels, np.uint8).reshape(header.shape[1:])


class _Hdf:
    def __init__(self, path: Path) -> None:
        try:
            import h5py
        except ImportError:
            raise DataError(
                f'{path}: h5 files need h5py, which is not installed: pip install "embedding-zoo[factors]"'
            ) from None
        self.file = h5py.File(path, "r")
        self.names = [name for name, held in self.file.items() if isinstance(held, h5py.Dataset)]

    def close(self) -> None:
        self.file.close()

    def header(self, name: str) -> Header:
        return Header(self.file[name].shape, self.file[name].dtype)

    def whole(self, name: str) -> np.ndarray:
        return self.file[name][()]

    def some(self, name: str, wanted: np.ndarray) -> Iterator[np.ndarray]:
        held = self.file[name]
        return (held[place] for place in wanted.tolist())


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        arrays: Any = _Hdf(path) if path.name.lower().endswith(HDF) else _Zip(path)
        with closing(arrays):
            yield arrays
    except (EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: {UNREADABLE}: {' '.join(str(error).split())[:100]}") from None
