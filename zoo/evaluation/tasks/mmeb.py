"""`task: mmeb`: the data sets of MMEB. Each query chooses among candidates of its own, and the first of them is right.

The original script takes the first of equal scores, which is the right one. Here a tie is a miss
(`multimodal_retrieval.StrictRetrieval`). Source: Jiang et al., "VLM2Vec", arXiv 2410.05160; data: TIGER-Lab/MMEB-eval.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from zoo import data
from zoo.core.errors import DataError, ZooError
from zoo.core.suggest import suggest
from zoo.data import Table
from zoo.data.formats import tabular
from zoo.data.sources import file
from zoo.data.spec import FileData, HubData
from zoo.evaluation.mmeb_sets import METAS, SETS
from zoo.evaluation.mteb_build import MtebTask
from zoo.evaluation.task import LocalTask, ReadyTask, Roles
from zoo.schema import Positive

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask

HUB = "TIGER-Lab/MMEB-eval"
REQUIRED: Roles = {"tgt_text": "captions"}
OPTIONAL: Roles = {
    "qry_text": "caption",
    "qry_img_path": "pictures",
    "tgt_img_path": "pictures",
    "qry_inst": "caption",
    "tgt_inst": "caption",
}


class Mmeb(LocalTask):
    """The data sets of MMEB, each a task of its own. Main score: strict_hit_at_1.

    The score is hit@1 among a query's own candidates; ties are misses. Data comes from the Hub, or from a `folder` in the layout
    of TIGER-Lab/MMEB-eval: a table or a folder with each set's name.
    """

    shows_answers = True

    task: Literal["mmeb"]
    sets: tuple[str, ...] = Field((), description="Names of data sets. Default: all 36.")
    folder: str | None = Field(
        None, description="A folder in the layout of TIGER-Lab/MMEB-eval. Default: the data of the Hub."
    )
    images: str | None = Field(
        None, description="Where paths of images start. Default: `images` in the folder, or the folder itself."
    )
    revision: str | None = Field(None, description="Revision of the data on the Hub.")
    limit: Positive | None = Field(None, description="Queries of each set, drawn with seed 0.")

    @field_validator("sets")
    @classmethod
    def _check_sets(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in SETS:
                raise ValueError(f"MMEB has no set {name!r}{suggest(name, SETS)}")
        return value

    def expand(self) -> Sequence[Mmeb]:
        """One task for each data set."""
        title = self.name or "MMEB"
        return [self.model_copy(update={"name": f"{title} {name}", "sets": (name,)}) for name in self.sets or SETS]

    def prepare(self, folder: Path, lock: dict[str, Any]) -> ReadyTask:
        """Read the one data set of an expanded task."""
        return self.make_ready(self.read_tables(folder), lock)

    def read_tables(self, folder: Path) -> dict[str, Table]:
        """The rows of the one data set of an expanded task, from its folder or the Hub. Raises DataError and ZooError."""
        (name,) = self.sets
        fields = {"images": self.images, "limit": self.limit}
        if self.folder is None:
            source: Any = HubData(source="hub", name=HUB, config=name, split="test", revision=self.revision, **fields)
        else:
            base = (folder / file.expand_path(self.folder)).absolute()
            source = FileData(source="file", path=str(_find_set(base, name)), **_add_images(fields, base))
        return {"data": data.read(source, REQUIRED, OPTIONAL, folder=folder)}

    def shape(self, tables: Mapping[str, Table]) -> Any:
        """Raises DataError for a row without a query, and for one without at least two candidates."""
        return shape_rows(tables["data"], self.title)

    def list_modalities(self, tables: Mapping[str, Table], task_data: Any) -> frozenset[str]:
        """The modalities that occur on either side."""
        from zoo.evaluation import multimodal_retrieval

        return frozenset(multimodal_retrieval.list_modalities(task_data))

    @classmethod
    def load_mteb_class(cls) -> type[AbsTask]:
        """Retrieval among each query's own candidates."""
        from zoo.evaluation.multimodal_retrieval import StrictRetrieval

        return StrictRetrieval

    def describe_mteb_task(self, task_data: Any) -> MtebTask:
        """The category says which modalities each side has."""
        from zoo.evaluation import multimodal_retrieval

        return MtebTask(
            self.load_mteb_class(),
            "Any2AnyRetrieval",
            "strict_hit_at_1",
            task_data["category"],
            modalities=multimodal_retrieval.list_modalities(task_data),
        )

    def describe_result(self, scores: Mapping[str, Any]) -> dict[str, Any]:
        """The data set, its meta-task, and what a random choice would score."""
        (name,) = self.sets
        set_info = {
            "set": name,
            "meta": SETS[name].meta,
            "distribution": "in" if SETS[name].trained else "out",
            "candidates": scores.get("candidates"),
            "chance": scores.get("chance"),
        }
        return {"mmeb": set_info}

    @classmethod
    def summarise_results(cls, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Averages over the data sets."""
        return {"averages": average(results)}


def _add_images(fields: dict[str, Any], base: Path) -> dict[str, Any]:
    """Where paths of images start: as the recipe says, or in `images`, or in the folder itself."""
    if fields["images"]:
        return fields
    inside = base / "images"
    return fields | {"images": str(inside if inside.is_dir() else base)}


def _find_set(base: Path, name: str) -> Path:
    """A folder with the data set's name, or the one table of that name. Raises ZooError."""
    if (base / name).is_dir():
        return base / name
    files = [path for path in sorted(base.glob(f"{name}.*")) if tabular.is_table(path)]
    if len(files) != 1:
        problem = "holds no table or folder" if not files else f"holds {' and '.join(path.name for path in files)}"
        raise ZooError(f"mmeb: {base} {problem} for {name}; name fewer `sets`, or another `folder`")
    return files[0]


def shape_rows(table: Table, title: str) -> Any:
    """Queries with candidates of their own. Raises DataError for a row without a query or with fewer than two candidates."""
    from zoo.evaluation import multimodal_retrieval

    queries: dict[str, Any] = {}
    documents: dict[str, Any] = {}
    relevant: dict[str, dict[str, int]] = {}
    candidates: dict[str, list[str]] = {}
    for number, row in enumerate(table.rows, 1):
        query = multimodal_retrieval.make_side(_join(row.get("qry_inst"), row.get("qry_text")), row.get("qry_img_path"))
        sides = _read_candidates(row, number, title)
        present = [side for side in sides if side is not None]
        if query is None or len(present) < 2 or sides[0] is None:
            missing = "query" if query is None else "candidates, the first of which is right"
            raise DataError(f"{title}: row {number} of {table.origin.name} has no {missing}")
        ids = [multimodal_retrieval.make_id(side) for side in present]
        documents |= dict(zip(ids, present, strict=True))
        key = f"q{number}"
        queries[key], relevant[key], candidates[key] = query, {ids[0]: 1}, sorted(set(ids))
    return multimodal_retrieval.shape_sides(queries, documents, relevant, candidates)


def _read_candidates(row: Mapping[str, Any], number: int, title: str) -> list[Any]:
    """The candidates of a row, the right one first; None for a candidate that is neither a text nor an image."""
    from zoo.evaluation import multimodal_retrieval

    texts, images = row.get("tgt_text") or [], row.get("tgt_img_path") or []
    if texts and images and len(texts) != len(images):
        raise DataError(f"{title}: row {number} has {len(texts)} texts and {len(images)} images of candidates")
    sides = []
    for i in range(max(len(texts), len(images))):
        text = _join(row.get("tgt_inst"), texts[i] if texts else "")
        sides.append(multimodal_retrieval.make_side(text, images[i : i + 1] if images else ()))
    return sides


def _join(instruction: Any, text: Any) -> str:
    return " ".join(part for part in (instruction, text) if part)


def average(results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean scores over the data sets of MMEB among the results, each at its first view.

    There is one mean over all data sets, one for each meta-task, and one in and one out of distribution. A label says how many
    data sets were measured if they are not all.
    """
    measured: dict[str, tuple[dict[str, Any], float]] = {}
    for entry in results:
        set_info = (entry.get("details") or {}).get("mmeb")
        if set_info and set_info["set"] not in measured:
            measured[set_info["set"]] = (set_info, entry["value"])
    means: dict[str, float] = {}

    def add(label: str, belongs: Callable[[Mapping[str, Any]], bool]) -> None:
        scores = [score for set_info, score in measured.values() if belongs(set_info)]
        total = sum(belongs({"meta": s.meta, "distribution": "in" if s.trained else "out"}) for s in SETS.values())
        if scores:
            means[label if len(scores) == total else f"{label} ({len(scores)} of {total})"] = statistics.fmean(scores)

    add("overall", lambda set_info: True)
    for meta in METAS:
        add(meta, lambda set_info, meta=meta: set_info["meta"] == meta)  # type: ignore[misc]
    add("in distribution", lambda set_info: set_info["distribution"] == "in")
    add("out of distribution", lambda set_info: set_info["distribution"] == "out")
    return means
