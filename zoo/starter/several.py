"""Several files of training rows: a draft for each, joined into one recipe with a list under `data:`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from zoo.core.errors import ZooError
from zoo.data.data_source import name_source
from zoo.data.spec import FileSource
from zoo.families import starters
from zoo.families.starters import Facts
from zoo.schema import Training
from zoo.starter import shapes
from zoo.starter.draft import Draft, Drafting
from zoo.starter.look import Table
from zoo.starter.materials import Materials
from zoo.starter.shapes import Goal

SHARE_TRAINED = 0.85  # of the rows of a source, at least: validation rows may be held out
SHAPES = ("pairs", "triplets", "scored-pairs", "labels", "texts")
"""The shapes whose rows may be in several files."""


def write_drafts(materials: Materials, facts: Facts, goal: Goal | None, folder: Path, name: str) -> Draft:
    """Return the draft of a recipe that trains on all tables. `facts` are those of the first one.

    Raise ZooError for a table of another shape, and for tables whose encoders are of two families.
    """
    drafts, tables = [], [materials.main, *materials.more]
    for table in tables:
        finding = shapes.find_shape(table, goal)
        if finding.shape not in SHAPES:
            raise ZooError(
                f"{table.path}: holds {finding.shape}, and several files can hold {', '.join(SHAPES)}; put its rows into "
                "one file or folder, and give that alone"
            )
        starter = starters.make_starter(finding.shape, facts)
        own = replace(materials, main=table, more=[])
        drafts.append(Drafting(own, finding, starter, folder).write(name))
    if materials.test is not None:
        names = set(materials.test.names)
        tested = next(number for number, table in enumerate(tables) if names.issuperset(table.names))
        for number, draft in enumerate(drafts):
            if number != tested:
                draft.values.pop("evaluation", None)
    return _join(drafts, tables)


def _join(drafts: Sequence[Draft], tables: Sequence[Table]) -> Draft:
    """Return one draft whose `data` and `evaluation` are those of all drafts."""
    first = drafts[0]
    names = _choose_names([draft.values["data"] for draft in drafts])
    joined = Draft({**first.values, "data": [], "evaluation": []}, {}, [], first.spec, first.rows)
    for draft, table, name in zip(drafts, tables, names, strict=True):
        number, tasks = len(joined.values["data"]), len(joined.values["evaluation"])
        joined.values["data"].append(_make_entry(draft, first, tables[0], table, name))
        for entry in draft.values.get("evaluation", []):
            task = {"task": entry["task"], "name": f"{entry['task']}-{name}"}
            joined.values["evaluation"].append(task | {key: part for key, part in entry.items() if key != "task"})
        for (section, *rest), text in draft.comments.items():
            if section == "data":
                joined.comments["data", number, *rest] = text
            elif section == "evaluation" and "evaluation" in draft.values:
                joined.comments["evaluation", tasks, *rest[1:]] = text
            elif section == "encoder" and draft is first:
                joined.comments[section, *rest] = text
        joined.doubts += [f"{table.path.name}: {doubt}" for doubt in draft.doubts]
        joined.held_out += draft.held_out
    if not joined.values["evaluation"]:
        del joined.values["evaluation"]
    _fit_batch(joined, drafts, tables)
    return joined


def _fit_batch(joined: Draft, drafts: Sequence[Draft], tables: Sequence[Table]) -> None:
    """Write a smaller batch if a source has too few rows for the default, because a batch has rows of one source."""
    counts = [
        table.count if draft.rows is None else len(draft.rows) for draft, table in zip(drafts, tables, strict=True)
    ]
    smallest = min(count - draft.held_out for count, draft in zip(counts, drafts, strict=True))
    default: int = Training.model_fields["batch_size"].default
    if not joined.spec.mixes_sources or smallest * SHARE_TRAINED >= default:
        return
    size = 1 << max(1, int(smallest * SHARE_TRAINED).bit_length() - 1)
    joined.values["training"] = {"batch_size": size}
    joined.comments["training", "batch_size"] = "no source may have fewer rows than a batch; larger ones learn more"


def _choose_names(sections: Sequence[dict[str, Any]]) -> list[str]:
    """Return a name for each source; a number tells files of the same name apart."""
    names = [name_source(FileSource(source="file", path=section["path"])) for section in sections]
    counts = Counter(names)
    return [f"{name}-{number}" if counts[name] > 1 else name for number, name in enumerate(names, 1)]


def _make_entry(draft: Draft, first: Draft, first_table: Table, table: Table, name: str) -> dict[str, Any]:
    """Return an entry of the list, with an alias and a loss if it needs them."""
    section, own, main = dict(draft.values["data"]), draft.values["encoder"], first.values["encoder"]
    if own["family"] != main["family"]:
        raise ZooError(
            f"{first_table.path} and {table.path}: need two encoders, {main['family']} and {own['family']}; give files of one "
            "kind, or write a recipe for each"
        )
    if name_source(FileSource(source="file", path=section["path"])) != name:
        section["alias"] = name
    if own.get("loss") != main.get("loss"):
        section["loss"] = own["loss"]
    return section
