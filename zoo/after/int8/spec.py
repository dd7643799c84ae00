"""The fields of the step `int8`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from zoo.after.spec import Kind, StepSpec


class Spec(StepSpec):
    """A byte for each component. Its range is that of the documents of the fit, so a code never depends on its batch."""

    kind: ClassVar[Kind] = "codes"

    step: Literal["int8"]
    clip: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        0.0,
        description="Share of the values of each component that is cut off at either end of its range. 0 takes the smallest "
        "and the largest value.",
    )
