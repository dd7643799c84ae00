"""Indexes that are searched by the server: each is opened with the served model that built it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zoo.core.errors import ArtefactError, ZooError
from zoo.index import folder
from zoo.index.index import Index
from zoo.index.model_file import ModelFile
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
