"""Hostile data files: each must end in a DataError, in little memory and time.

    python tests/support/hostile_data.py FOLDER

writes them all and reads each. It prints a JSON line for each: name, outcome, additional megabytes of memory, and seconds.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

from hostile_arrays import Change, Content, list_arrays, list_hdf5, list_idx
from hostile_images import list_images
from hostile_tables import list_parquet, list_tables

from zoo import data
from zoo.core.errors import DataError
from zoo.data.spec import FileData


def list_others() -> Iterator[tuple[str, Content]]:
    """Yield what is no regular file."""

    def make_link(target: str) -> Change:
        return lambda path: path.symlink_to(target)

    yield "other-zero.csv", make_link("/dev/zero")
    yield "other-null.jsonl", make_link("/dev/null")
    yield "other-random.npy", make_link("/dev/urandom")
    yield "other-memory.parquet", make_link("/proc/self/mem")
    yield "other-loop.csv", make_link("other-loop.csv")
    yield "other-gone.csv", make_link("nowhere.csv")
    for ending in ("csv", "jsonl", "npy", "h5", "parquet", "csv.gz"):
        yield f"other-pipe.{ending}", os.mkfifo
    yield "other-folder.csv", Path.mkdir


LISTS = (list_arrays, list_hdf5, list_idx, list_tables, list_parquet, list_images, list_others)


def write_all(folder: Path) -> list[Path]:
    """Write every file, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for list_files in LISTS:
        for name, content in list_files():
            path = folder / name
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                content(path)
            paths.append(path)
    assert len({path.name for path in paths}) == len(paths), "two files of one name"
    return paths


def choose_needs(path: Path) -> Mapping[str, str]:
    """Return the role that is read: the one that such a file could fill if it was honest."""
    kind = path.name.partition("-")[0]
    if kind in ("npy", "npz", "h5", "number") or path.name == "parquet-rows.parquet":
        return {"n": "number"}
    return {"image": "image"} if kind in ("idx", "image") else {"text": "text"}


def read(path: Path) -> None:
    """Read a data file, or a table with one cell that names an image."""
    source = path
    if path.name.startswith("image-"):
        source = path.with_suffix(".csv")
        source.write_text(f"image\n{path.name}\n")
    section = FileData(source="file", path=str(source))
    table = data.read(section, choose_needs(path), folder=path.parent)
    if path.name.startswith("image-"):
        table.rows[0]


def read_megabytes(name: str) -> float:
    match = re.search(name + r":\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match
    return int(match[1]) / 1024


def measure(path: Path) -> tuple[str, str, float, float]:
    """Read a file. Return its name, the outcome, the largest additional memory in megabytes, and the seconds. For Linux."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak of memory is counted from here
    memory, start = read_megabytes("VmRSS"), time.perf_counter()
    try:
        read(path)
        outcome = "accepted"
    except DataError as error:
        outcome = f"refused: {error}"[:300]
    except BaseException as error:
        outcome = f"crashed: {type(error).__name__}: {error}"[:300]
    return path.name, outcome, read_megabytes("VmHWM") - memory, time.perf_counter() - start


def main() -> None:
    folder = Path(sys.argv[1])
    (folder / "honest").mkdir(parents=True)
    (folder / "honest" / "honest.csv").write_text("text\na\n")
    read(folder / "honest" / "honest.csv")  # imports what every file needs
    warnings.simplefilter("ignore")
    for path in write_all(folder / "hostile"):
        sys.stdout.write(json.dumps(measure(path)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
