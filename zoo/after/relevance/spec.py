"""The fields of the step `relevance`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from zoo.after.spec import Kind, StepSpec
from zoo.data.spec import Data
from zoo.schema import Section


class Target(Section):
    """`target:`, the aim of the cut-off."""

    precision: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.9, description="Share of the rows at or above the cut-off that shall answer their query, on held-out queries."
    )


class Spec(StepSpec):
    """Turn the scores of a search into probabilities, and choose one cut-off for all queries."""

    kind: ClassVar[Kind] = "scores"
    needs: ClassVar[tuple[str, ...]] = ("documents", "queries", "answers")
    uses: ClassVar[tuple[str, ...]] = ("foreign",)

    step: Literal["relevance"]
    top: Annotated[int, Field(ge=5, le=1000)] = Field(
        50, description="Number of rows of a search whose scores are looked at. 20 to 100 suit most searches."
    )
    target: Target = Field(Target(), description="The aim of the cut-off.")
    none: Data | None = Field(
        None, description="Queries that no document answers, so that the step learns to reject such queries."
    )
