"""`codes` in a recipe: `after: [{step: codes, dims: 192, bits: 2}]`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from zoo.after.spec import Kind, StepSpec
from zoo.schema import Positive


class Spec(StepSpec):
    """The fields of the step `codes`."""

    kind: ClassVar[Kind] = "codes"
    uses: ClassVar[tuple[str, ...]] = ("queries", "answers", "old_documents")

    step: Literal["codes"]
    dims: Positive = Field(192, description="Components of a code. A code has `dims` × `bits` bits in all.")
    bits: Literal[1, 2, 4] = Field(2, description="Bits of a component, on average.")
    allocation: Literal["variance", "equal"] = Field(
        "variance",
        description="`variance` gives more bits to the leading components and fewer or none to the last ones, `dims` × `bits` "
        "in all. `equal` gives each of the `dims` leading components `bits` bits.",
    )
    rounding: Literal["trellis", "nearest"] = Field(
        "trellis",
        description="`trellis` gives a component twice the levels for its bits, and rounds a vector as a whole. `nearest` rounds "
        "each component to its nearest level, which is faster and loses more.",
    )
    goal: Literal["neighbours", "task"] = Field(
        "neighbours",
        description="`neighbours` keeps the nearest documents of the float vectors. `task` first trains a head on pairs of a "
        "query and its answer, which changes the nearest documents.",
    )
    head: Literal["linear", "residual"] = Field(
        "linear", description="The map before the code: `linear`, or `residual` with a hidden layer beside it."
    )
    hidden: Positive = Field(512, description="Width of the hidden layer of a residual head.")
    symmetric: bool = Field(
        False, description="Round queries as well. By default queries stay float vectors, which finds more."
    )
    norm: bool = Field(
        False,
        description="Keep the length of each vector, in 2 further bytes. An encoder whose score is a dot product needs it.",
    )
    compatible_with: str | None = Field(
        None,
        description="A model folder with `codes`. The new queries can then search the codes of that model's documents.",
    )
    steps: Annotated[int, Field(ge=0)] = Field(
        600,
        description="Optimiser steps of the code, and as many of a head. 0 keeps the rotation, which needs no training.",
    )
    batch_size: Positive = Field(64, description="Queries of an optimiser step of the code's training.")
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = Field(
        5e-5, description="The highest learning rate of the code's training. It falls to 0."
    )
    temperature: Annotated[float, Field(gt=0)] = Field(0.05, description="Scores are divided by it in the losses.")

    @property
    def needs_queries(self) -> bool:
        """Whether the step cannot be fitted without queries: a task is trained on pairs."""
        return self.goal == "task"

    @property
    def has_head(self) -> bool:
        """Whether a map stands before the code. Without one, queries are compared as they are."""
        return self.goal == "task" or self.head == "residual" or self.compatible_with is not None

    @property
    def total_bits(self) -> int:
        """Bits of one code, without the length of the vector."""
        return self.dims * self.bits
