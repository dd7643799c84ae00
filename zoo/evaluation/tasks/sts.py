"""`task: sts`: pairs of texts with a score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from zoo.core.errors import DataError
from zoo.data import Table
from zoo.data.spec import Data
from zoo.evaluation.mteb_build import MtebTask
from zoo.evaluation.task import LocalTask

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask

COLUMNS = ("sentence1", "sentence2", "score")


class Sts(LocalTask):
    """Scored pairs. Main score: cosine_spearman."""

    roles = {"data": {"sentence1": "text", "sentence2": "text", "score": "number"}}
    official_type = "STS"

    task: Literal["sts"]
    data: Data = Field(description="Pairs of texts with a score of their similarity.")

    def shape(self, tables: Mapping[str, Table]) -> Any:
        """Raises DataError if all pairs have the same score, because nothing correlates with a constant."""
        from datasets import Dataset, DatasetDict

        rows = tables["data"].rows
        if len(set(rows["score"])) < 2:
            raise DataError(f"{self.title}: every pair has the same score, which nothing can correlate with")
        return DatasetDict(test=Dataset.from_dict({name: rows[name] for name in COLUMNS}))

    @classmethod
    def load_mteb_class(cls) -> type[AbsTask]:
        """mteb's abstract task."""
        from mteb.abstasks.sts import AbsTaskSTS

        return AbsTaskSTS

    def describe_mteb_task(self, task_data: Any) -> MtebTask:
        """The range of the scores is that of the rows."""
        scores = task_data["test"]["score"]
        return MtebTask(
            self.load_mteb_class(),
            "STS",
            "cosine_spearman",
            columns={"column_names": COLUMNS[:2]},
            attributes={"min_score": min(scores), "max_score": max(scores)},
        )
