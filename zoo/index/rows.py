"""The rows that an index is built from: find their columns, and read them in blocks.

The rows are read twice. The first pass finds the kind of each column, bad rows and equal ids before anything is encoded; the
second pass yields blocks. Neither keeps more than a block in memory, except for the ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from zoo.core.errors import DataError
from zoo.core.suggest import suggest
from zoo.data import kinds
from zoo.data.formats import image_files
from zoo.index.column_kinds import convert_cell, find_kind, get_arrow_type, join_kinds

if TYPE_CHECKING:
    import pyarrow as pa

    from zoo.data.spec import Data

ID = "_id"
"""The column of the index that holds the ids, as texts."""
ID_NAMES = ("_id", "id")
BLOCK = 4096  # rows
Item = tuple[Any, Mapping[str, Any]]
"""Where a row is, for messages, and its cells by column."""


@dataclass(frozen=True)
class RowSource:
    """Rows that can be read several times.

    Attributes:
        name: for messages.
        read: reads all rows from the start.
        reads_texts: whether each cell is a text that stands for a value of another kind, as in csv.
        image_folder: where the path of an image starts; None for the folder of the file that holds the row.
    """

    name: str
    read: Callable[[], Iterator[Item]]
    reads_texts: bool = False
    image_folder: Path | None = None


@dataclass(frozen=True)
class Layout:
    """Which columns an index reads and keeps.

    Attributes:
        texts: the columns whose texts are encoded, in the order in which they are joined by a space.
        image: the column whose image is encoded, or None.
        id: the column of the ids, or None if the rows are numbered.
        columns: the kind of every column that is kept, by name.
    """

    texts: tuple[str, ...]
    image: str | None = None
    id: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def schema(self) -> pa.Schema:
        """The schema of rows.parquet."""
        import pyarrow as pa

        kept = [(name, get_arrow_type(kind)) for name, kind in self.columns.items() if name != ID]
        return pa.schema([(ID, pa.string()), *kept])

    def join_texts(self, row: Mapping[str, Any]) -> str:
        """Return the text of a row that is encoded: its columns, without empty ones, joined by a space."""
        return " ".join(str(row[name]) for name in self.texts if row.get(name))


@dataclass(frozen=True)
class Block:
    """Rows with their inputs for the encoder.

    Attributes:
        rows: a table with `Layout.schema`.
        inputs: the text or the bytes of the image of each row.
    """

    rows: pa.Table
    inputs: list[Any]


def open_rows(rows: Any, folder: Path = Path()) -> RowSource:
    """Open rows, which can then be read several times.

    Args:
        rows: a path that `data:` reads, `builtin:NAME/TABLE`, `hub:OWNER/NAME`, a yaml file with a data section, a data
            section, or a list of mappings.
        folder: where relative paths start.

    Raise DataError if they cannot be opened.
    """
    from zoo import data
    from zoo.index import row_names

    if isinstance(rows, list | tuple):
        return _open_list(rows)
    section, start = row_names.read_section(rows, folder)
    return RowSource(
        row_names.name_section(section),
        lambda: data.stream(section, folder=start),
        _holds_texts_only(section, start),
        start / section.images if section.images else None,
    )


def _holds_texts_only(section: Data, folder: Path) -> bool:
    from zoo.data.sources import file
    from zoo.data.spec import FileData

    if not isinstance(section, FileData):
        return False
    names = [path.name.lower().removesuffix(".gz") for path in file.find_files(section, folder)]
    return all(name.endswith((".csv", ".tsv")) for name in names)


def _open_list(rows: Iterable[Any]) -> RowSource:
    items = list(rows)
    for number, row in enumerate(items, 1):
        if not isinstance(row, Mapping):
            raise DataError(f"row {number} is {type(row).__name__}, not a mapping of columns to values")

    def read() -> Iterator[Item]:
        for number, row in enumerate(items, 1):
            yield f"row {number}", row

    return RowSource("rows", read)


def find_layout(
    source: RowSource, texts: Iterable[str] = (), id_column: str | None = None, image: str | None = None
) -> tuple[Layout, int]:
    """Read all rows once. Return the columns, and the number of rows.

    Args:
        texts: columns whose texts are encoded. By default `text`, or else the only column of texts.
        id_column: the column of the ids. By default `_id` or `id`; without such a column, the rows are numbered from 0.
        image: the column whose image is encoded instead of texts.

    Raise DataError for a column that is missing, for an id that occurs twice or is empty, and if there are no rows.
    """
    found: dict[str, set[str]] = {}
    own_id, count = id_column, 0
    ids: set[str] = set()
    likely_texts, first_empty = tuple(dict.fromkeys(texts)) or ("text",), None
    for location, row in source.read():
        if first_empty is None and not any(str(row.get(name) or "").strip() for name in likely_texts):
            first_empty = location
        if count == 0 and own_id is None:
            own_id = next((name for name in ID_NAMES if name in row), None)
        for name, value in row.items():
            kind = find_kind(value, reads_texts=source.reads_texts)
            seen = found.setdefault(name, set())
            if kind is not None:
                seen.add(kind)
        if own_id is not None:
            key = read_id(location, row, own_id)
            if key in ids and id_column is None:
                own_id, ids = None, set()  # a column that happens to be called id, and repeats values
            elif key in ids:
                raise DataError(f"{location}: {own_id}: the id {key!r} occurs twice; name another column with --id")
            else:
                ids.add(key)
        count += 1
    if not count:
        raise DataError(f"{source.name}: there are no rows")
    columns = {name: join_kinds(seen or {"text"}) for name, seen in found.items()}
    _check_names(source, columns, own_id)
    if image is not None:
        _require_column(source, image, columns)
        return Layout((), image, own_id, columns), count
    chosen = _choose_texts(source, tuple(texts), columns, own_id)
    if chosen == likely_texts and first_empty is not None:
        _refuse_empty_text(first_empty, chosen)
    return Layout(chosen, None, own_id, {**columns, **dict.fromkeys(chosen, "text")}), count


def read_id(location: Any, row: Mapping[str, Any], column: str) -> str:
    """Return the id of a row as a text. Raise DataError if it is empty."""
    value = row.get(column)
    if value is None or not str(value).strip():
        raise DataError(f"{location}: {column}: the id is empty; fill it, or name another column with --id")
    return str(value)


def _check_names(source: RowSource, columns: Mapping[str, str], id_column: str | None) -> None:
    if id_column is not None:
        _require_column(source, id_column, columns)
    if ID in columns and id_column != ID:
        raise DataError(f"{source.name}: the index keeps its ids in {ID}; rename this column, or give --id {ID}")


def _require_column(source: RowSource, name: str, columns: Mapping[str, str]) -> None:
    if name not in columns:
        raise DataError(f"{source.name}: there is no column {name!r}{suggest(name, columns)}")


def _choose_texts(
    source: RowSource, texts: tuple[str, ...], columns: Mapping[str, str], id_column: str | None
) -> tuple[str, ...]:
    for name in texts:
        _require_column(source, name, columns)
    if texts:
        return tuple(dict.fromkeys(texts))
    if "text" in columns:
        return ("text",)
    candidates = [name for name, kind in columns.items() if kind == "text" and name != id_column]
    if len(candidates) != 1:
        listed = f"the columns of texts are {', '.join(candidates)}" if candidates else "no column holds texts"
        raise DataError(f"{source.name}: say which column to encode with --text; {listed}")
    return (candidates[0],)


def read_blocks(source: RowSource, layout: Layout, next_number: int, size: int = BLOCK) -> Iterator[Block]:
    """Yield all rows in blocks of `size`. Rows without an id column get the numbers from `next_number` on as ids.

    Raise DataError for a row without text, and for a cell that does not fit its column.
    """
    import pyarrow as pa

    cells: list[dict[str, Any]] = []
    inputs: list[Any] = []
    for number, (location, row) in enumerate(source.read(), next_number):
        cells.append(_convert_row(location, row, layout, number, reads_texts=source.reads_texts))
        inputs.append(_read_input(source, location, row, cells[-1], layout))
        if len(cells) == size:
            yield Block(pa.Table.from_pylist(cells, layout.schema), inputs)
            cells, inputs = [], []
    if cells:
        yield Block(pa.Table.from_pylist(cells, layout.schema), inputs)


def _convert_row(
    location: Any, row: Mapping[str, Any], layout: Layout, number: int, *, reads_texts: bool
) -> dict[str, Any]:
    converted = {}
    for name, kind in layout.columns.items():
        try:
            converted[name] = convert_cell(kind, row.get(name), reads_texts=reads_texts and kind != "text")
        except (ValueError, OverflowError) as error:
            raise DataError(f"{location}: {name}: {error}") from None
    converted[ID] = str(number) if layout.id is None else read_id(location, row, layout.id)
    return converted


def _read_input(
    source: RowSource, location: Any, row: Mapping[str, Any], converted: dict[str, Any], layout: Layout
) -> Any:
    """Return what the encoder gets of a row."""
    if layout.image is None:
        text = layout.join_texts(converted)
        if not text.strip():
            _refuse_empty_text(location, layout.texts)
        return text
    value = row.get(layout.image)
    folder = source.image_folder or (Path(location.name).parent if hasattr(location, "name") else Path())
    path = str(value) if isinstance(value, str | Path) else None
    try:
        image = kinds.convert_value("image", path if path is not None else value, folder)
    except ValueError as error:
        raise DataError(f"{location}: {layout.image}: {error}") from None
    converted[layout.image] = str((folder / path).absolute()) if path is not None else None
    return image["bytes"]


def check_added_rows(source: RowSource, layout: Layout, taken: Callable[[str], bool], next_number: int) -> int:
    """Read all rows that will be added to an index, and return their number.

    Raise DataError for a column of texts that is missing, a cell that does not fit its column, and an id that is in the index
    or occurs twice.
    """
    count = 0
    ids: set[str] = set()
    for location, row in source.read():
        missing = [name for name in (*layout.texts, layout.image, layout.id) if name is not None and name not in row]
        if missing:
            raise DataError(f"{location}: there is no column {missing[0]!r}{suggest(missing[0], row)}")
        converted = _convert_row(location, row, layout, next_number + count, reads_texts=source.reads_texts)
        key = converted[ID]
        if layout.image is None and not layout.join_texts(converted).strip():
            _refuse_empty_text(location, layout.texts)
        if key in ids or taken(key):
            where = "occurs twice" if key in ids else "is in the index already; remove it first"
            raise DataError(f"{location}: the id {key!r} {where}")
        ids.add(key)
        count += 1
    if not count:
        raise DataError(f"{source.name}: there are no rows")
    return count


def _refuse_empty_text(location: Any, texts: Iterable[str]) -> NoReturn:
    raise DataError(f"{location}: {', '.join(texts)}: there is no text; fill it, or leave the row out")


def is_image_source(source: RowSource) -> bool:
    """Return whether the rows are a folder of images."""
    first = next(source.read(), None)
    return first is not None and {*image_files.COLUMNS} == {*first[1]}
