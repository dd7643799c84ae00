"""Open npy, npz and h5 files, and read their arrays whole or row by row.

Pickled arrays are never loaded, because a pickle can run code.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Protocol

from zoo.core import faults
from zoo.core.errors import DataError, first_line
from zoo.data.limits import MAX_RATIO, READ_FAULTS

if TYPE_CHECKING:
    import numpy as np

HDF_ENDINGS = (".h5", ".hdf5")
ENDINGS = (".npy", ".npz", *HDF_ENDINGS)
NPY_ARRAY = "array"  # the name that the only array of an npy file has here
UNREADABLE = "cannot be read"
MAX_NPY_HEADER = 1 << 16  # bytes
MAX_CHUNK = 1 << 27  # bytes of one chunk of an HDF5 file, which is decompressed whole


class Header(NamedTuple):
    """Shape and dtype of an array, which are known before the array is read."""

    shape: tuple[int, ...]
    dtype: Any

    @property
    def holds_images(self) -> bool:
        """Whether each row is an image: uint8 of (height, width), or of (height, width, 1 or 3)."""
        is_image = len(self.shape) == 3 or (len(self.shape) == 4 and self.shape[3] in (1, 3))
        return bool(self.dtype == "uint8") and is_image

    @property
    def byte_count(self) -> int:
        """The size of the array in bytes."""
        return int(math.prod(self.shape) * self.dtype.itemsize)


class ArrayFile(Protocol):
    """An open file of named arrays."""

    names: list[str]

    def close(self) -> None:
        """Close the file."""

    def read_header(self, name: str) -> Header:
        """Return shape and dtype of an array."""

    def read_array(self, name: str) -> np.ndarray:
        """Return a whole array."""

    def read_array_rows(self, name: str, positions: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the rows of an array of uint8 at ascending `positions`."""


@contextmanager
def open_arrays(path: Path) -> Iterator[ArrayFile]:
    """Open a file of arrays. Inside the block, turn every error of reading into a DataError that names the file."""
    try:
        arrays: ArrayFile = _HdfFile(path) if path.name.lower().endswith(HDF_ENDINGS) else _NumpyFile(path)
        with closing(arrays):
            yield arrays
    except READ_FAULTS as error:
        faults.refuse_full_memory(error, path, DataError)
        raise DataError(f"{path}: {UNREADABLE}: {first_line(error, limit=100)}") from None


class _NumpyFile:
    """The arrays of an npz file, or the only array of an npy file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._zip = zipfile.ZipFile(path) if path.name.lower().endswith(".npz") else None
        self._open_files: list[IO[bytes]] = []
        self.names = [NPY_ARRAY]
        if self._zip:
            self.names = [name.removesuffix(".npy") for name in self._zip.namelist() if name.endswith(".npy")]

    def close(self) -> None:
        for file in self._open_files:
            file.close()
        if self._zip:
            self._zip.close()

    def read_header(self, name: str) -> Header:
        return self._open(name)[1]

    def read_array(self, name: str) -> np.ndarray:
        import numpy as np

        file, header = self._open(name)
        return np.frombuffer(file.read(header.byte_count), header.dtype).reshape(header.shape)

    def read_array_rows(self, name: str, positions: np.ndarray) -> Iterator[np.ndarray]:
        import numpy as np

        file, header = self._open(name)
        row_bytes = math.prod(header.shape[1:])
        start, next_position = file.tell(), 0
        for position in positions.tolist():
            if self._zip is None:
                file.seek(start + position * row_bytes)
            else:
                # A zip file cannot jump: seek decompresses the rows between, in pieces.
                file.seek((position - next_position) * row_bytes, 1)
            pixels = file.read(row_bytes)
            next_position = position + 1
            if len(pixels) < row_bytes:
                raise EOFError("it ends too early")
            yield np.frombuffer(pixels, np.uint8).reshape(header.shape[1:])

    def _open(self, name: str) -> tuple[IO[bytes], Header]:
        """Return the file of an array, at its first byte of data, and its header."""
        byte_count = self._count_bytes(name)
        file = self._zip.open(f"{name}.npy") if self._zip else self._path.open("rb")
        self._open_files.append(file)
        header = _read_npy_header(file)
        rest = byte_count - file.tell()
        check_claim(header, rest)
        if header.byte_count < rest and not header.dtype.hasobject:  # pickled objects may have any size
            raise ValueError("goes on after its array; save each array in a file of its own, or all in an npz file")
        return file, header

    def _count_bytes(self, name: str) -> int:
        """Return the size of the npy file of an array. Raise ValueError if a zip file claims more than it can hold."""
        if self._zip is None:
            return self._path.stat().st_size
        entry = self._zip.getinfo(f"{name}.npy")
        if entry.flag_bits & 1:
            raise ValueError(f"{name} is encrypted; save it without a password")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{name} is compressed in another way than numpy does it; save it with numpy")
        if entry.file_size > max(entry.compress_size, 1) * MAX_RATIO:
            raise ValueError(
                f"{name} claims {entry.file_size} bytes, more than {entry.compress_size} compressed ones can hold"
            )
        return entry.file_size


def _read_npy_header(file: IO[bytes]) -> Header:
    from numpy.lib import format as npy

    header_readers = {(1, 0): (2, npy.read_array_header_1_0), (2, 0): (4, npy.read_array_header_2_0)}
    version = npy.read_magic(file)
    if version not in header_readers:
        raise ValueError(f"is of an unknown version {version}")
    length_size, read_header = header_readers[version]
    length = file.read(length_size)
    if int.from_bytes(length, "little") > MAX_NPY_HEADER:
        raise ValueError("has a header that is too long")
    shape, is_fortran, dtype = read_header(io.BytesIO(length + file.read(int.from_bytes(length, "little"))))
    if is_fortran and len(shape) > 1:
        raise ValueError("is in Fortran order; save it in C order")
    return Header(shape, dtype)


def check_claim(header: Header, byte_count: int) -> None:
    """Raise ValueError if an array claims more than the `byte_count` bytes that are there, or rows of no bytes."""
    if header.shape and (min(header.shape) < 0 or (header.shape[0] and not header.byte_count)):
        raise ValueError(f"has an array of the shape {header.shape} and {header.dtype}, which holds nothing")
    if header.byte_count > byte_count:
        raise ValueError(f"the header claims {header.byte_count} bytes, but only {byte_count} follow")


class _HdfFile:
    """The arrays at the top level of an HDF5 file."""

    def __init__(self, path: Path) -> None:
        try:
            import h5py
        except ImportError:
            raise DataError(
                f'{path}: h5 files need h5py, which is not installed: pip install "embedding-zoo[factors]"'
            ) from None
        self._file = h5py.File(path, "r")
        for name in self._file:
            if not isinstance(self._file.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{name} is a link; copy the array into the file")
        self.names = [name for name, item in self._file.items() if isinstance(item, h5py.Dataset)]

    def close(self) -> None:
        self._file.close()

    def read_header(self, name: str) -> Header:
        """Return the header. Raise ValueError for an array that is not in this file, or that claims more than the file holds."""
        import h5py

        dataset = self._file[name]
        if dataset.external or dataset.is_virtual:
            raise ValueError(f"{name} is stored in another file; copy the array into this one")
        if h5py.check_ref_dtype(dataset.dtype):
            raise ValueError(f"{name} holds references; store the values themselves")
        header = Header(dataset.shape or (), dataset.dtype)
        check_claim(header, dataset.id.get_storage_size() * (1 if dataset.compression is None else MAX_RATIO))
        if dataset.chunks and math.prod(dataset.chunks) * dataset.dtype.itemsize > MAX_CHUNK:
            raise ValueError(f"{name} is stored in chunks of more than {MAX_CHUNK >> 20} MB; store it in smaller ones")
        return header

    def read_array(self, name: str) -> np.ndarray:
        array: np.ndarray = self._file[name][()]
        return array

    def read_array_rows(self, name: str, positions: np.ndarray) -> Iterator[np.ndarray]:
        dataset = self._file[name]
        return (dataset[position] for position in positions.tolist())
