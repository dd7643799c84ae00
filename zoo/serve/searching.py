"""Indexes that are searched by the server: each is opened with the served model that built it."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.core.errors import ArtefactError, ZooError
from zoo.index import folder
from zoo.index.index import Index
from zoo.index.model_file import ModelFile
from zoo.index.opened import Hit
from zoo.serve.model import ServedModel


def attach_indexes(paths: Sequence[str], models: Sequence[ServedModel]) -> None:
    """Open indexes, and give each to the model that built it. An index has the name of its folder.

    Raise ZooError if two have the same name, and for an index that was built with another model.
    """
    names = [Path(path).resolve().name for path in paths]
    for path, name in zip(paths, names, strict=True):
        if names.count(name) > 1:
            raise ZooError(f"--index {path}: another index is called {name!r} too; rename one of the folders")
        _attach(Path(path), name, models)


def _attach(path: Path, name: str, models: Sequence[ServedModel]) -> None:
    manifest = folder.read_manifest(path)
    record = ModelFile.read(folder.check_file(path, manifest, manifest.parts["model"])).encoder
    family = record.get("family")
    candidates = [model for model in models if model.encoder.spec.family == family]
    if not candidates:
        raise ArtefactError(
            f"{path}: was built with {record.get('reference') or f'a model of the family {family}'}, which is not served; "
            "serve that model too"
        )
    problems = []
    for model in candidates:
        try:
            encoder = model.encoder.view(**record["view"]) if record.get("view") else model.encoder
            model.indexes[name] = Index.open(path, encoder)
        except ZooError as error:
            problems.append(error)
        else:
            return
    raise problems[0]


def describe_hits(hits: Sequence[Hit]) -> list[dict[str, Any]]:
    """Return hits as values that JSON can hold."""
    return [
        {
            "id": hit.id,
            "score": hit.score,
            "text": hit.text,
            "probability": hit.probability,
            "place": None if hit.place is None else list(hit.place),
            "columns": _make_plain(hit.row),
        }
        for hit in hits
    ]


def _make_plain(value: Any) -> Any:
    """Return a value of a column as JSON holds it. Bytes, NaN and infinity become null."""
    if isinstance(value, Mapping):
        return {str(name): _make_plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_make_plain(part) for part in value]
    if isinstance(value, datetime.date | datetime.datetime):
        return value.isoformat()
    if isinstance(value, bytes) or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value
