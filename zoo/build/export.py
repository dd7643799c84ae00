"""Save a view of a model as a model folder of its own, and note its parent, licence, backbone and score."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.artefact import manifest, model_folder
from zoo.card import render, run_record
from zoo.core import atomic_files
from zoo.core.errors import ZooError
from zoo.encoder import Encoder

KEPT_SECTIONS = ("name", "encoder", "data", "card")
"""Sections of the parent's recipe that are also true of the cut. It was neither trained nor evaluated by itself."""
LICENCE_FILES = ("LICENSE", "NOTICE")


@dataclass(frozen=True)
class Table:
    """How the token table of an exported model is stored.

    Attributes:
        codec: int8, int4 or pq; float for the plain table of a model whose table is coded.
        texts: unlabelled texts, for `finer` and `steps`.
        finer: the share of the rows that pq stores in int8.
        steps: steps of distillation of pq.
    """

    codec: str
    texts: Sequence[str] = ()
    finer: float = 0.0
    steps: int = 0

    def apply(self, view: Any) -> Any:
        """Return a twin of `view` with such a table. Raises ZooError if it has no table that can be coded."""
        from zoo.text import table_export

        table_export.check(view, self.codec, has_texts=bool(self.texts), finer=self.finer, steps=self.steps)
        if self.codec == "float":
            return table_export.restore_table(view)
        codec: Any = self.codec
        return table_export.code_table(view, codec, texts=self.texts, finer=self.finer, steps=self.steps)


def export(
    parent: Path, whole: Encoder, options: Mapping[str, Any], target: Path, *, table: Table | None = None
) -> Path:
    """Write the view of `whole` with these options to `target`, and return `target`.

    Args:
        parent: the model folder from which `whole` was opened.
        whole: the encoder without options.
        options: the options of the view; without options the model is exported as it is.
        target: the new model folder.
        table: how the token table is stored; None for the table as it is. The parent's results are then left out, because
            they were measured with another table.

    The folder has the parent's licence, backbone, data and measured row, and a card of its own. Raises ZooError for a view that
    a model folder cannot hold, for example another instruction.

    Steps after training are kept if the view is the one that they were fitted on: the whole encoder. `find_lost_steps` names
    those that are left out.
    """
    view = whole.view(**options) if options else whole
    if table is not None:
        view = table.apply(view)
    record = run_record.read(parent) if (parent / manifest.NAME).is_file() else None
    with atomic_files.replace_folder(target) as partial:
        with model_folder.explain_view(view.spec.family, options):
            model_folder.save(view, partial, parent=_describe_parent(whole, record, options))
        if record is not None:
            for name in LICENCE_FILES:
                if (parent / name).is_file():
                    shutil.copy2(parent / name, partial / name)
            if table is None:
                _write_measurements(partial, whole, options, record)
            elif record.lock:
                lock = {name: entry for name, entry in record.lock.items() if name != "after"}
                atomic_files.write_json(partial / "lock.json", lock)
            render.write_card(partial, type(whole.spec))
            manifest.write(partial)
    return target


def is_distilled(folder: Path) -> bool:
    """Return whether the words of an exported model folder's token table were distilled."""
    return bool(atomic_files.read_json(folder / "config.json")["zoo"].get("table", {}).get("distilled_steps"))


def describe_table(folder: Path) -> str:
    """Describe the coded token table of an exported model folder in one line."""
    facts = atomic_files.read_json(folder / "config.json")["zoo"].get("table")
    if facts is None:
        return "the token table is plain again: 32 bits a number"
    before = facts["undistilled_worst_cosine"]
    without = "" if before is None else f" (before the distillation {before:.4f})"
    return (
        f"token table: {facts['codec']}, {facts['bytes'] / 1e6:.2f} MB instead of {facts['float_bytes'] / 1e6:.2f} MB; relative "
        f"squared error of a row {facts['mean_error']:.4f}, of the worst, {facts['worst_token']!r}, "
        f"{facts['worst_error']:.4f}; lowest cosine to the float model of {facts['texts']} texts "
        f"{facts['worst_cosine']:.4f}{without}"
    )


def find_lost_steps(whole: Encoder, options: Mapping[str, Any], table: Table | None = None) -> list[str]:
    """Return the names of the steps after training that a view of `whole`, or a model with another table, does not have."""
    if table is not None:
        return [step.spec.step for step in whole.steps]
    view = whole.view(**options) if options else whole
    return [] if view.steps else [step.spec.step for step in whole.steps]


def _describe_parent(whole: Encoder, record: run_record.Record | None, options: Mapping[str, Any]) -> dict[str, Any]:
    recipe = {} if record is None else {name: record.recipe[name] for name in KEPT_SECTIONS if name in record.recipe}
    return {"name": whole.name, "revision": whole.revision, "view": dict(options), "recipe": recipe}


def _write_measurements(folder: Path, whole: Encoder, options: Mapping[str, Any], record: run_record.Record) -> None:
    """Write the parent's lock and the results of this view. Other results are not those of the new model."""
    has_steps = bool(whole.view(**options).steps)
    if record.lock:
        lock = {name: entry for name, entry in record.lock.items() if has_steps or name != "after"}
        atomic_files.write_json(folder / "lock.json", lock)
    wanted = whole.view(**options).view_options
    results = []
    for entry in run_record.list_results(record.report):
        with suppress(ZooError):  # the report may be of an older version
            if whole.view(**run_record.as_mapping(entry.get("view"))).view_options == wanted:
                results.append({**entry, "view": {}})
    if results:
        report = {name: entry for name, entry in record.report.items() if has_steps or name != "codes"}
        atomic_files.write_json(folder / "report.json", {**report, "results": results})
