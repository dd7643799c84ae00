"""`source: file`: which files a path means."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path, PurePath

from zoo.core.errors import DataError
from zoo.core.suggest import suggest
from zoo.data.formats import arrays, image_files, tabular
from zoo.data.spec import FileData
from zoo.data.table import Origin, Source

VARIABLE = "ZOO_DATA"


READ = (*tabular.ENDINGS, *image_files.IDX, *arrays.ENDINGS, *image_files.ENDINGS)


def find(data: FileData, folder: Path) -> list[Path]:
    """The files of `data.path`, sorted: tables, or images where there is no table, since a table may tell of the images beside
    it. Raises DataError with the resolved path when there are none."""
    try:
        given = expanded(data.path)
        path = folder / given
        if path.is_file():
            return [_supported(path)]
        if path.is_dir():
            found = _sorted(path, path.rglob("*"))
            missing = "has no files of these kinds below it"
        elif any(sign in data.path for sign in "*?["):
            fixed = Path(*_before_glob(given))
            found = _sorted(folder / fixed, (folder / fixed).glob(str(given.relative_to(fixed))))
            missing = "matches no files of these kinds"
        else:
            raise DataError(f"{path}: there is no such file or folder{_closest(path)}")
    except (OSError, ValueError, RuntimeError) as error:  # a name that is too long, or holds a NUL; ~nobody
        raise DataError(f"{data.path!r}: cannot be looked up: {getattr(error, 'strerror', None) or error}") from None
    if not found:
        raise DataError(f"{path}: {missing}: {', '.join(READ)}")
    return found


def columns(data: FileData, folder: Path) -> tuple[str, ...]:
    """Column names of the first file."""
    first = find(data, folder)[0]
    return image_files.COLUMNS if _is_image(first) else tabular.columns(first)


def open_source(data: FileData, folder: Path) -> Source:
    """Find the files and read their headers. Raises DataError."""
    files = find(data, folder)
    parts: tuple[tuple[str, tuple[str, ...]], ...]
    if _is_image(files[0]):
        base = Path(os.path.commonpath([path.parent for path in files]))
        parts = ((str(base), image_files.COLUMNS),)
    else:
        parts = tuple((str(path), tabular.columns(path)) for path in files)

    def rows() -> Iterator[tabular.Item]:
        if _is_image(files[0]):
            return image_files.folder_rows(files, base)
        return chain.from_iterable(map(tabular.rows, files))

    # A card is public: where on its author's disk a file lay is not part of it.
    name = Path(data.path).name if Path(data.path).is_absolute() or data.path.startswith("~") else data.path
    if len(files) == 1 and arrays.is_arrays(files[0]):
        return Source(Origin(name), parts, rows, arrays.count(files[0]), lambda some: arrays.rows(files[0], some))
    return Source(Origin(name), parts, rows)


def expanded(path: str) -> Path:
    """A path with its home or `$ZOO_DATA` written out. Raises DataError where that is not set."""
    if PurePath(path).parts[:1] not in ((f"${VARIABLE}",), (f"${{{VARIABLE}}}",)):
        return Path(path).expanduser()
    root = os.environ.get(VARIABLE)
    if not root:
        raise DataError(f"{path}: the environment variable {VARIABLE} is not set; point it to the folder of the data")
    return Path(root).expanduser().absolute().joinpath(*PurePath(path).parts[1:])


def _before_glob(path: Path) -> Iterator[str]:
    for part in path.parts:
        if any(sign in part for sign in "*?["):
            return
        yield part


def _is_image(path: Path) -> bool:
    return path.name.lower().endswith(image_files.ENDINGS)


def _is_supported(path: Path) -> bool:
    return tabular.is_table(path) or _is_image(path)


def _supported(path: Path) -> Path:
    if not _is_supported(path):
        raise DataError(f"{path}: files of this kind cannot be read; there are: {', '.join(READ)}")
    return path


def _sorted(base: Path, paths: Iterator[Path]) -> list[Path]:
    """Without hidden files and what lies in hidden folders below `base`."""
    found = [(path.relative_to(base), path) for path in paths if _is_supported(path) and path.is_file()]
    shown = [path for below, path in sorted(found) if not any(part.startswith(".") for part in below.parts)]
    return [path for path in shown if not _is_image(path)] or shown


def _closest(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; the folder {path.parent} does not exist either"
    names = sorted(item.name for item in path.parent.iterdir() if item.is_dir() or _is_supported(item))
    return suggest(path.name, names, listing="that folder holds")
