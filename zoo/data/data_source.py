"""One source in a list of training data, as the training needs it: its name, its loss, its prompts and its share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from zoo.data.spec import BuiltinSource, FileSource, HubSource


@dataclass(frozen=True)
class DataSource:
    """One source of the training rows. Rows of several sources carry its name under the key `source`.

    Attributes:
        name: unique in the list.
        loss: the loss of its rows; None for that of the encoder.
        prompts: texts by role, "query" and "document", that replace those of the encoder. A role may be missing.
        weight: how often rows are drawn from it relative to the others; None if the recipe gives no weight.
        rows: rows that are drawn from it in an epoch; None if its share decides.
    """

    name: str
    loss: str | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    weight: float | None = None
    rows: int | None = None


def describe_sources(entries: Iterable[HubSource | FileSource | BuiltinSource]) -> dict[str, DataSource]:
    """Return what the entries of a list say, by name."""
    sources = {}
    for entry in entries:
        prompts = {role: text for role, text in entry.prompts.model_dump().items() if text is not None}
        name = name_source(entry)
        sources[name] = DataSource(name, entry.loss, prompts, entry.weight, entry.rows)
    return sources


def name_source(entry: Any) -> str:
    """Return the alias of an entry, or else the name of its data set, file or folder without endings."""
    if entry.alias:
        return str(entry.alias)
    if isinstance(entry, FileSource):
        parts = [part for part in PurePath(entry.path).parts if not any(character in part for character in "*?[")]
        name = parts[-1] if parts else "data"
        return name.lstrip(".~$").split(".")[0] or "data"
    name = entry.name.rpartition("/")[2]
    return f"{name}-{entry.table}" if isinstance(entry, BuiltinSource) and entry.table else name
