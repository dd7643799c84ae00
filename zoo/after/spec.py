"""`StepSpec`, the base of every entry of `after:` in a recipe. It imports pydantic only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field

from zoo.data.spec import Data
from zoo.schema import Kind as ColumnKind
from zoo.schema import Positive, Roles, Section

Kind = Literal["codes", "scores"]
"""What a step changes: vectors, which become `codes`, or the `scores` of a search."""
Mistake = tuple[tuple[str | int, ...], str]
"""Where a section is wrong (a path below it), and what is wrong."""
PAIRED = ("queries", "answers")
"""Parts of `Material` that come from rows of a query and a document."""


class StepData(NamedTuple):
    """A data section of a step, the columns that it needs, and those that it uses if they are there."""

    data: Data
    roles: Roles
    optional: Roles = {}


class StepSpec(Section):
    """The fields that every step has.

    A step that uses foreign queries has a further field `none: Data | None`, and one that keeps codes of an older model valid a
    field `compatible_with: str | None`. Both are read by these names.

    Attributes of the class:
        kind: what the step changes.
        needs: the parts of `zoo.after.material.Material` without which the step cannot be fitted.
        uses: the parts that it uses if they are there.
    """

    kind: ClassVar[Kind]
    needs: ClassVar[tuple[str, ...]] = ("documents",)
    uses: ClassVar[tuple[str, ...]] = ()

    step: str = Field(description="The name of the step.")
    data: Data | None = Field(
        None,
        description="Rows to fit the step on: a `document`, and a `query` that it answers if the step reads queries. Default: "
        "the training rows.",
    )
    limit: Positive = Field(
        100_000,
        description="The largest number of documents, and of queries, that the step is fitted on. If there are more, they are "
        "drawn by the seed of the training.",
    )

    @property
    def reads_queries(self) -> bool:
        """Whether the step uses queries or answers."""
        return bool({*self.needs, *self.uses} & {*PAIRED})

    @property
    def needs_queries(self) -> bool:
        """Whether the step cannot be fitted without queries or answers."""
        return bool({*self.needs} & {*PAIRED})

    def list_data(self, kind: ColumnKind = "text") -> Mapping[str, StepData]:
        """Return the data sections that the entry gives, by the name of their field. `kind` is what the encoder reads."""
        sections: dict[str, StepData] = {}
        query: Roles = {"query": kind}
        if self.data is not None:
            required = {"document": kind, **(query if self.needs_queries else {})}
            optional = query if self.reads_queries and not self.needs_queries else {}
            sections["data"] = StepData(self.data, required, optional)
        foreign = getattr(self, "none", None)
        if foreign is not None:
            sections["none"] = StepData(foreign, query)
        return sections

    def find_mistakes(self, folder: Path) -> list[Mistake]:
        """Return mistakes that only this step can see, without reading data. Relative paths start at `folder`."""
        return []
