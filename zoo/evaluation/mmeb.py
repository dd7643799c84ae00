"""MMEB as tasks of mteb: each query chooses among candidates of its own, the first of which is right.

The original script takes the first of equal scores, which is the right one; here a tie is a miss (`anyretrieval.Strict`).
Source: Jiang et al., "VLM2Vec", arXiv 2410.05160; code and data: TIGER-Lab/VLM2Vec, TIGER-Lab/MMEB-eval.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo import data
from zoo.core.errors import DataError, ZooError
from zoo.data import Table
from zoo.data.formats import tabular
from zoo.data.sources import file
from zoo.data.spec import FileData, HubData
from zoo.evaluation import any_retrieval
from zoo.evaluation.mmeb_sets import METAS, SETS
from zoo.evaluation.spec import Mmeb
from zoo.schema import Kind

HUB = "TIGER-Lab/MMEB-eval"
NEED: dict[str, Kind] = {"tgt_text": "captions"}
OPTIONAL: dict[str, Kind] = {
    "qry_text": "caption",
    "qry_img_path": "pictures",
    "tgt_img_path": "pictures",
    "qry_inst": "caption",
    "tgt_inst": "caption",
}


def expanded(task: Mmeb) -> list[Mmeb]:
    """One task a data set."""
    base = task.name or "MMEB"
    return [task.model_copy(update={"name": f"{base} {name}", "sets": (name,)}) for name in task.sets or SETS]


def read(task: Mmeb, folder: Path) -> Table:
    """The rows of the one data set of an `expanded` task, from its folder or the Hub. Raises DataError, ZooError."""
    (name,) = task.sets
    common = {"images": task.images, "limit": task.limit}
    if task.folder is None:
        source: Any = HubData(source="hub", name=HUB, config=name, split="test", revision=task.revision, **common)
    else:
        base = (folder / file.expand_path(task.folder)).absolute()
        source = FileData(source="file", path=str(_found(base, name)), **_images(common, base))
    return data.read(source, NEED, OPTIONAL, folder=folder)


def _images(common: dict[str, Any], base: Path) -> dict[str, Any]:
    inside = base / "images"
    return common if common["images"] else common | {"images": str(inside if inside.is_dir() else base)}


def _found(base: Path, name: str) -> Path:
    """A folder of the data set's name, or the one table of that name."""
    if (base / name).is_dir():
        return base / name
    files = [path for path in sorted(base.glob(f"{name}.*")) if tabular.is_table(path)]
    if len(files) != 1:
        what = "holds no table or folder" if not files else f"holds {' and '.join(path.name for path in files)}"
        raise ZooError(f"mmeb: {base} {what} for {name}; name fewer `sets`, or another `folder`")
    return files[0]


def shaped(table: Table, task: str) -> Any:
    """Queries with candidates of their own. Raises DataError for a row without a query or without candidates."""
    asked: dict[str, any_retrieval.Side] = {}
    candidates: dict[str, any_retrieval.Side] = {}
    relevant: dict[str, dict[str, int]] = {}
    ranked: dict[str, list[str]] = {}
    for place, row in enumerate(table.rows, 1):
        query = any_retrieval.side(_joined(row.get("qry_inst"), row.get("qry_text")), row.get("qry_img_path"))
        texts, images = row.get("tgt_text") or [], row.get("tgt_img_path") or []
        if texts and images and len(texts) != len(images):
            raise DataError(f"{task}: row {place} has {len(texts)} texts and {len(images)} images of candidates")
        sides = [
            any_retrieval.side(
                _joined(row.get("tgt_inst"), texts[i] if texts else ""), images[i : i + 1] if images else ()
            )
            for i in range(max(len(texts), len(images)))
        ]
        held = [each for each in sides if each is not None]
        if query is None or len(held) < 2 or sides[0] is None:
            what = "query" if query is None else "candidates, the first of which is right"
            raise DataError(f"{task}: row {place} of {table.origin.name} has no {what}")
        names = [any_retrieval.name(each) for each in held]
        candidates |= dict(zip(names, held, strict=True))
        key = f"q{place}"
        asked[key], relevant[key], ranked[key] = query, {names[0]: 1}, sorted(set(names))
    return any_retrieval.split(asked, candidates, relevant, ranked)


def _joined(instruction: Any, text: Any) -> str:
    return " ".join(part for part in (instruction, text) if part)


def about(task: Mmeb, scores: Mapping[str, Any]) -> dict[str, Any]:
    """What the report says of one data set besides its score."""
    (name,) = task.sets
    found = SETS[name]
    return {
        "set": name,
        "meta": found.meta,
        "distribution": "in" if found.trained else "out",
        "candidates": scores.get("candidates"),
        "chance": scores.get("chance"),
    }


def averages(results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means over the data sets of MMEB among the results at the first view: of all, by meta-task, in and out of distribution; of
    what was measured, and with how many sets there were where they are not all."""
    found: dict[str, tuple[dict[str, Any], float]] = {}
    for entry in results:
        told = (entry.get("details") or {}).get("mmeb")
        if told and told["set"] not in found:
            found[told["set"]] = (told, entry["value"])
    out: dict[str, float] = {}

    def mean(label: str, chosen: Any) -> None:
        values = [value for told, value in found.values() if chosen(told)]
        whole = sum(chosen({"meta": s.meta, "distribution": "in" if s.trained else "out"}) for s in SETS.values())
        if values:
            out[label if len(values) == whole else f"{label} ({len(values)} of {whole})"] = statistics.fmean(values)

    mean("overall", lambda told: True)
    for meta in METAS:
        mean(meta, lambda told, meta=meta: told["meta"] == meta)
    mean("in distribution", lambda told: told["distribution"] == "in")
    mean("out of distribution", lambda told: told["distribution"] == "out")
    return out
