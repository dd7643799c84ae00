"""`task: diagnose`: how healthy the space of an encoder is, without labels."""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from zoo.core import scikit_dimension
from zoo.core.errors import DataError
from zoo.data import Table
from zoo.data.spec import Data
from zoo.evaluation.task import MeasuredTask, Mistake, Scores
from zoo.schema import Positive

if TYPE_CHECKING:
    from datasets import Dataset

    from zoo.encoder import Encoder

LEAST = 10
RANKS_NOTHING = "these figures show faults of one model, so a free baseline is no bar for them; give a number"


class Diagnose(MeasuredTask):
    """Directions in use, intrinsic dimension, hubs and faults of the vectors of any encoder, without labels. Main score: vendi.

    The figures show faults, and order the widths of one model. They are not compared with other models, because noise raises
    them.
    """

    roles = {"data": {}}
    optional = {"data": {"text": "text", "image": "image", "vector": "vector"}}
    test_fields = ()  # rows of the training may be diagnosed as well
    compares_models = False

    task: Literal["diagnose"]
    data: Data = Field(description="Inputs. A thousand or more say something.")
    rows: Positive = Field(10_000, description="Inputs that are drawn at most. Compare figures of equally many.")
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(42, description="Seed of the draw.")

    def find_mistakes(self, folder: Path, unsure: Container[str] = ()) -> list[Mistake]:
        """Also report a missing library, and a free baseline as the bar."""
        mistakes = super().find_mistakes(folder, unsure)
        if problem := scikit_dimension.find_problem():
            mistakes.append((("task",), problem))
        if self.at_least == "baseline":
            mistakes.append((("at_least",), RANKS_NOTHING))
        return mistakes

    def check_tables(self, tables: Mapping[str, Table]) -> None:
        """Raises DataError for fewer than ten rows."""
        count = len(tables["data"].rows)
        if count < LEAST:
            raise DataError(f"{self.title}: {count} rows say nothing about a space: give {LEAST} or more")

    def measure(self, encoder: Encoder, rows: Mapping[str, Dataset]) -> Scores:
        """Figures of the space; curves and findings are details."""
        from zoo.diagnosis.of_encoder import diagnose_rows, list_figures

        found = diagnose_rows(encoder, rows["data"], most=self.rows, seed=self.seed)
        neighbourhood = found.neighbourhood
        details: dict[str, Any] = {
            "rows": found.rows,
            "dim": found.dim,
            "variances": [list(point) for point in found.variances],
            "dimensions": [list(point) for point in neighbourhood.gride] if neighbourhood else [],
            "remarks": [str(finding) for finding in found.findings],
        }
        return list_figures(found), details
