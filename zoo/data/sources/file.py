"""`source: file`: find the files that a path means, and open them as one source."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path, PurePath

from zoo.core import confinement
from zoo.core.errors import DataError
from zoo.core.suggest import suggest
from zoo.data.formats import array_files, idx, image_files, tabular, txt_files
from zoo.data.raw_rows import Item, Origin, Source
from zoo.data.spec import FileData

VARIABLE = "ZOO_DATA"
ENDINGS = (*tabular.ENDINGS, *txt_files.ENDINGS, *idx.ENDINGS, *array_files.ENDINGS, *image_files.ENDINGS)


def find_files(data: FileData, folder: Path) -> list[Path]:
    """Return the sorted files that `data.path` means.

    If there are tables, only they are returned, because a table may describe the images beside it. A txt file is returned only
    if the path or its glob ends so, because most of those beside data are notes or licences. Raise DataError, with the full
    path, if there are no files.
    """
    try:
        expanded = expand_path(data.path)
        path = folder / expanded
        if path.is_file():
            confinement.check_path(path)
            return [_check_supported(path)]
        if path.is_dir():
            files = _sort_files(path, _leave_out_txt(path.rglob("*")))
            problem = "has no files of these kinds below it"
        elif _is_glob(data.path):
            fixed = Path(*_split_before_glob(expanded))
            found = (folder / fixed).glob(str(expanded.relative_to(fixed)))
            files = _sort_files(folder / fixed, found if txt_files.is_txt(expanded) else _leave_out_txt(found))
            problem = "matches no files of these kinds"
        else:
            problem = (
                "is not a regular file" if path.exists() else f"there is no such file or folder{_suggest_path(path)}"
            )
            raise DataError(f"{path}: {problem}")
    except (OSError, ValueError, RuntimeError) as error:  # a name that is too long or holds a NUL; an unknown ~user
        raise DataError(f"{data.path!r}: cannot be looked up: {getattr(error, 'strerror', None) or error}") from None
    if not files:
        raise DataError(f"{path}: {problem}: {', '.join(ENDINGS)}")
    for file in files:
        confinement.check_path(file)
    return files


def read_column_names(data: FileData, folder: Path) -> tuple[str, ...]:
    """Return the column names of the first file."""
    path = find_files(data, folder)[0]
    return (
        image_files.COLUMNS if image_files.is_image(path) else tabular.read_column_names(path, data.max_cell_mb << 20)
    )


def open_source(data: FileData, folder: Path) -> Source:
    """Find the files and read their headers. Raise DataError if there are none or if one cannot be read."""
    files = find_files(data, folder)
    origin = Origin(_public_name(data.path))
    if image_files.is_image(files[0]):
        base = Path(os.path.commonpath([path.parent for path in files]))
        folder_part = (str(base), image_files.COLUMNS)
        return Source(origin, (folder_part,), lambda: image_files.read_folder(files, base), has_files=True)
    max_cell = data.max_cell_mb << 20

    def read_rows() -> Iterator[Item]:
        return chain.from_iterable(tabular.read_rows(path, max_cell) for path in files)

    parts = tuple((str(path), tabular.read_column_names(path, max_cell)) for path in files)
    source = Source(origin, parts, read_rows, has_files=True)
    reader = tabular.find_random_reader(files[0]) if len(files) == 1 else None
    if reader is None:
        return source
    return replace(
        source,
        row_count=reader.count_rows(files[0]),
        read_rows_at=lambda positions: reader.read_rows(files[0], max_cell, positions),
    )


def expand_path(path: str) -> Path:
    """Expand `~` or `$ZOO_DATA` at the front of a path. Raise DataError if the variable is not set.

    For a recipe from the Hub, `$ZOO_DATA` is the folder of the data that the user names, and the variable is not read.
    """
    begins_with_variable = PurePath(path).parts[:1] in ((f"${VARIABLE}",), (f"${{{VARIABLE}}}",))
    if confinement.get_folder() is not None:
        return Path(*PurePath(path).parts[1:]) if begins_with_variable else Path(path)
    if not begins_with_variable:
        return Path(path).expanduser()
    root = os.environ.get(VARIABLE)
    if not root:
        raise DataError(f"{path}: the environment variable {VARIABLE} is not set; point it to the folder of the data")
    return Path(root).expanduser().absolute().joinpath(*PurePath(path).parts[1:])


def _public_name(path: str) -> str:
    """Return the path as the public card shows it. It must not tell where on the author's disk the file is."""
    return Path(path).name if Path(path).is_absolute() or path.startswith("~") else path


def _is_glob(text: str) -> bool:
    return any(character in text for character in "*?[")


def _split_before_glob(path: Path) -> Iterator[str]:
    """Yield the parts of a path before the first one that holds a wildcard."""
    for part in path.parts:
        if _is_glob(part):
            return
        yield part


def _is_supported(path: Path) -> bool:
    return tabular.is_table(path) or txt_files.is_txt(path) or image_files.is_image(path)


def _check_supported(path: Path) -> Path:
    if not _is_supported(path):
        raise DataError(f"{path}: files of this kind cannot be read; there are: {', '.join(ENDINGS)}")
    return path


def _sort_files(base: Path, paths: Iterable[Path]) -> list[Path]:
    """Return the supported files, without hidden files and files in hidden folders below `base`."""
    files = sorted((path.relative_to(base), path) for path in paths if _is_supported(path) and path.is_file())
    visible = [path for relative, path in files if not any(part.startswith(".") for part in relative.parts)]
    return [path for path in visible if not image_files.is_image(path)] or visible


def _leave_out_txt(paths: Iterable[Path]) -> Iterator[Path]:
    return (path for path in paths if not txt_files.is_txt(path))


def _suggest_path(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; the folder {path.parent} does not exist either"
    names = sorted(item.name for item in path.parent.iterdir() if item.is_dir() or _is_supported(item))
    return suggest(path.name, names, listing="that folder holds")
