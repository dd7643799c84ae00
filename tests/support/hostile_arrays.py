"""Hostile files of arrays: npy, npz, HDF5 and idx, each with the name that chooses its reader."""

from __future__ import annotations

import gzip
import io
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Change = Callable[[Path], None]
Content = bytes | Change
"""What a file holds, or a function that writes it."""
BIG = 2**31 - 1


def make_npy(shape: Any, dtype: str = "<f8", body: bytes = b"", **entries: Any) -> bytes:
    """Make an .npy file whose header claims `shape`."""
    header = repr({"descr": dtype, "fortran_order": False, "shape": shape} | entries)
    return make_npy_of_header(header, body)


def make_npy_of_header(header: str, body: bytes = b"", version: bytes = b"\1\0") -> bytes:
    text = header.encode("latin1") + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H" if version[0] == 1 else "<I", len(text)) + text + body


def make_zip(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", method) as file:
        warnings.simplefilter("ignore")  # zipfile warns of two members of one name
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def save_array(array: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def list_arrays() -> Iterator[tuple[str, Content]]:
    """Yield .npy and .npz files: claims without bytes, odd types and shapes, pickles, damaged headers and archives."""
    shapes = {
        "rows": (10**9, 8),
        "size": (2, 40_000, 40_000),
        "most": (2**62, 4),
        "over": (2**40, 2**40),
        "one": (2**63,),
    }
    for name, shape in shapes.items():
        for dtype in ("<f8", "|u1", "<U9", "<c16"):
            yield f"npy-{name}-{dtype[1:]}.npy", make_npy(shape, dtype)
    odd_shapes: dict[str, Any] = {
        "negative": (-5, 3),
        "zero": (10**9, 0),
        "scalar": (),
        "text": "(4,)",
        "float": (4.0,),
        "none": None,
        "deep": (1,) * 65,
        "list": [4],
        "bool": (True, 10**9),
        "nested": ((4,),),
    }
    for name, shape in odd_shapes.items():
        yield f"npy-shape-{name}.npy", make_npy(shape, body=b"" if name in ("zero", "bool") else bytes(32))
    for name, dtype in {"object": "|O", "unknown": "<z9", "empty": "", "huge": "<U2000000000", "void": "|V0"}.items():
        yield f"npy-type-{name}.npy", make_npy((4,), dtype, bytes(64))
    pickled = save_array(np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    yield "npy-pickle.npy", pickled
    headers = {
        "call": "{'descr': __import__('os').system('true'), 'fortran_order': False, 'shape': (4,)}",
        "deep": "(" * 5000 + ")" * 5000,
        "missing": "{'descr': '<f8', 'shape': (4,)}",
        "list": "[1, 2]",
        "open": "{'descr': ",
        "more": "{'descr': '<f8', 'fortran_order': False, 'shape': (4,), 'x': 1}",
        "nul": "{'descr': '<f8\0'}",
        "token": "{'descr': '<f8', 'shape': ((, }",
        "big": "{'descr': '<f8', 'shape': (" + "9" * 5000 + ",)}",
    }
    for name, header in headers.items():
        yield f"npy-header-{name}.npy", make_npy_of_header(header, bytes(32))
    yield "npy-two.npy", save_array(np.arange(4)) + save_array(np.arange(4))
    yield "npy-header-long.npy", b"\x93NUMPY\2\0\xff\xff\xff\xff{"
    yield "npy-header-2.npy", make_npy_of_header("{" + " " * 200_000, version=b"\2\0")
    yield (
        "npy-version.npy",
        make_npy_of_header("{'descr': '<f8', 'fortran_order': False, 'shape': (4,)}", version=b"\x09\0"),
    )
    honest = save_array(np.ones((4, 2)))
    for size in (0, 5, 6, 8, 9, 60, len(honest) - 1):
        yield f"npy-cut-{size}.npy", honest[:size]
    for name, content in (("array", honest), ("pickle", pickled), ("claim", make_npy((10**9,)))):
        yield f"npz-cut-{name}.npz", make_zip({"n.npy": content})[:-30]
        if name != "array":
            yield f"npz-{name}.npz", make_zip({"n.npy": content})
    for name, method in (("bzip2", zipfile.ZIP_BZIP2), ("lzma", zipfile.ZIP_LZMA)):
        yield f"npz-{name}.npz", make_zip({"n.npy": honest}, method)
    yield "npz-empty.npz", make_zip({})
    yield "npz-none.npz", b""
    yield "npz-text.npz", make_zip({"n.npy": b"no array"})
    yield "npz-inner.npz", make_zip({"n.npy": make_zip({"n.npy": honest})})
    yield "npz-lengths.npz", make_zip({"n.npy": honest, "text.npy": save_array(np.arange(3))})
    yield "npz-bomb.npz", make_zip({"n.npy": make_npy((1 << 27,), "<f8") + bytes(1 << 24)})
    whole = make_zip({"n.npy": honest})
    directory = whole.rindex(b"PK\1\2")
    for name, position, change in (
        ("encrypted", directory + 8, b"\1"),
        ("claim", directory + 24, struct.pack("<I", 10**9)),
        ("method", directory + 10, b"\x63"),
        ("checksum", directory + 16, b"abcd"),
        ("offset", directory + 42, struct.pack("<I", BIG)),
        ("count", len(whole) - 12, b"\xff\x7f"),
    ):
        yield f"npz-directory-{name}.npz", whole[:position] + change + whole[position + len(change) :]


def write_h5(write: Callable[[h5py.File], None]) -> Change:
    """Return a change that writes an HDF5 file."""

    def change(path: Path) -> None:
        with h5py.File(path, "w") as file:
            write(file)

    return change


def list_hdf5() -> Iterator[tuple[str, Content]]:
    """Yield HDF5 files that point outside themselves, claim more than they hold, or hold odd types."""

    def point_outside(file: h5py.File) -> None:
        file.create_dataset("n", (4,), "S6", external=[("secret.txt", 0, 24)])

    def point_to_device(file: h5py.File) -> None:
        file.create_dataset("n", (4,), "u1", external=[("/dev/zero", 0, 4)])

    def make_virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout(shape=(4,), dtype="i8")
        layout[:] = h5py.VirtualSource("other.h5", "x", shape=(4,))
        file.create_virtual_dataset("n", layout)

    def make_link(file: h5py.File) -> None:
        file["n"] = h5py.ExternalLink("/etc/passwd", "/x")

    def make_soft_link(file: h5py.File) -> None:
        file["n"] = h5py.SoftLink("/n")

    def make_references(file: h5py.File) -> None:
        file["x"] = np.arange(4)
        file["n"] = np.array([file["x"].ref] * 4, dtype=h5py.ref_dtype)

    def make_large_chunks(file: h5py.File) -> None:
        images = file.create_dataset("n", (400, 1000, 1000), "u1", chunks=(400, 1000, 1000), compression="gzip")
        images[:1, :1, :1] = 1

    def make_empty(file: h5py.File) -> None:
        file["n"] = h5py.Empty("f8")

    def make_compound(file: h5py.File) -> None:
        file["n"] = np.zeros(4, dtype=[("a", "f8"), ("b", "i4")])

    def make_opaque(file: h5py.File) -> None:
        file.create_dataset("n", data=np.zeros(4, "V9"))

    def make_lists(file: h5py.File) -> None:
        lists = file.create_dataset("n", (4,), h5py.vlen_dtype(np.dtype("f8")))
        lists[0] = np.ones(5)

    def make_scalar(file: h5py.File) -> None:
        file["n"] = 4.0

    def make_group(file: h5py.File) -> None:
        file.create_group("n")

    writers = [
        point_outside,
        point_to_device,
        make_virtual,
        make_link,
        make_soft_link,
        make_references,
        make_large_chunks,
        make_empty,
        make_compound,
        make_opaque,
        make_lists,
        make_scalar,
        make_group,
    ]
    for writer in writers:
        yield f"h5-{writer.__name__}.h5", write_h5(writer)
    for name, shape, dtype in (
        ("rows", (10**12, 8, 8), "u1"),
        ("size", (1, 40_000, 40_000), "u1"),
        ("floats", (10**10, 8), "f8"),
        ("flat", (10**13,), "i8"),
    ):
        chunk = tuple(min(size, 100) for size in shape)
        yield (
            f"h5-claim-{name}.h5",
            write_h5(lambda file, s=shape, d=dtype, c=chunk: file.create_dataset("n", s, d, chunks=c)),
        )
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["n"] = np.arange(4)
    honest = buffer.getvalue()
    for size in (0, 4, 8, 96, 500, len(honest) // 2):
        yield f"h5-cut-{size}.h5", honest[:size]
    yield "h5-deep.h5", write_h5(lambda file: file.update({"n": np.ones((2, 2, 2))}))
    yield "h5-text.h5", b"text\na\n"


def make_idx(*sizes: int, kind: int = 8, body: bytes = b"") -> bytes:
    return bytes([0, 0, kind, len(sizes)]) + b"".join(size.to_bytes(4, "big") for size in sizes) + body


def list_idx() -> Iterator[tuple[str, Content]]:
    """Yield idx files with claims, wrong types and cut content."""
    claims = {
        "count": (4 * 10**9, 8, 8),
        "size": (1, 40_000, 40_000),
        "both": (2**32 - 1,) * 3,
        "four": (9, 99, 99, 3),
        "none": (0, 8, 8),
    }
    for name, sizes in claims.items():
        yield f"idx-{name}-images-idx{len(sizes)}-ubyte", make_idx(*sizes)
        yield f"idx-{name}-images-idx{len(sizes)}-ubyte.gz", gzip.compress(make_idx(*sizes))
    yield "idx-kind-images-idx3-ubyte", make_idx(4, 2, 2, kind=0x77, body=bytes(16))
    yield "idx-floats-images-idx3-ubyte", make_idx(4, 2, 2, kind=0x0E, body=bytes(16 * 8))
    yield "idx-magic-images-idx3-ubyte", b"\1\2\3\4" + bytes(40)
    yield "idx-levels-images-idx3-ubyte", make_idx(*([1] * 200), body=b"\1")
    yield "idx-cut-images-idx3-ubyte", make_idx(4, 3, 3, body=bytes(30))
    yield "idx-header-images-idx3-ubyte", make_idx(4, 3, 3)[:9]
    yield "idx-short-images-idx3-ubyte", b"\0"
    yield "idx-empty-images-idx3-ubyte", b""
    yield "idx-more-images-idx3-ubyte", make_idx(1, 2, 2, body=bytes(40))
    yield "idx-gz-images-idx3-ubyte.gz", make_idx(1, 2, 2, body=bytes(4))
    yield "idx-more-images-idx3-ubyte.gz", gzip.compress(make_idx(1, 2, 2, body=bytes(40)))
    yield "idx-bomb-images-idx3-ubyte.gz", gzip.compress(make_idx(1, 2, 2, body=bytes(1 << 24)))
