"""The meaning of ROWS on the command line: a file, a builtin data set, one of the Hub, or a yaml file with a data section."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from zoo.core import faults, located_yaml, paths
from zoo.core.errors import DataError
from zoo.data.spec import BuiltinData, Data, FileData, HubData

if TYPE_CHECKING:
    from pydantic import BaseModel

YAML_ENDINGS = (".yaml", ".yml")


def read_section(rows: Any, folder: Path) -> tuple[Data, Path]:
    """Return the data section that `rows` means, and the folder where its relative paths start.

    Raise DataError for a value that means no rows.
    """
    if isinstance(rows, HubData | FileData | BuiltinData):
        return rows, folder
    if isinstance(rows, Mapping):
        return _validate(rows, "rows"), folder
    if not isinstance(rows, str | Path) or not str(rows):
        raise DataError(f"rows are a path, a data section or a list of mappings, not {type(rows).__name__}")
    name = str(rows)
    if name.lower().endswith(YAML_ENDINGS) and paths.is_file(folder / name):
        return _read_yaml(folder / name), (folder / name).parent
    kind, colon, rest = name.partition(":")
    if colon and kind == "builtin":
        dataset, _, table = rest.partition("/")
        return _validate({"source": kind, "name": dataset, "table": table or None}, name), folder
    if colon and kind == "hub":
        return _validate({"source": kind, "name": rest}, name), folder
    return FileData(source="file", path=name), folder


def name_section(section: Data) -> str:
    """Return the name of a data section for messages."""
    return section.path if isinstance(section, FileData) else f"{section.source}:{section.name}"


def _read_yaml(path: Path) -> Data:
    with faults.as_error_of_file(path):
        try:
            content = located_yaml.parse_value(path.read_text(encoding="utf-8"))
        except located_yaml.YamlError as error:
            raise DataError(f"{path}: {error.message}") from None
    section = content.get("data", content) if isinstance(content, Mapping) else content
    return _validate(section, str(path))


def _validate(section: Any, name: str) -> Data:
    adapter: TypeAdapter[BaseModel] = TypeAdapter(Data)
    try:
        checked: Any = adapter.validate_python(section)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"][1:]))
        raise DataError(f"{name}: {place or 'data'}: {first['msg']}; write it as a data section of a recipe") from None
    result: Data = checked
    return result
