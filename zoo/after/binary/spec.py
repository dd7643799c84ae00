"""The fields of the step `binary`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from zoo.after.spec import Kind, StepSpec


class Spec(StepSpec):
    """A bit for each component: its sign. A query is compared as float vector with the signs, or by its own signs.

    With `rescore: int8`, a code also holds a byte for each component. It scores the best candidates of the signs again.
    """

    kind: ClassVar[Kind] = "codes"

    step: Literal["binary"]
    centred: bool = Field(True, description="Take the signs of the vectors minus the mean of the documents.")
    query: Literal["float", "signs"] = Field(
        "float",
        description="Compare the signs of documents with float queries, or with the signs of queries by Hamming distance.",
    )
    rescore: Literal["none", "int8"] = Field(
        "none",
        description="int8: score the best candidates again with a byte for each component, which is stored with the signs.",
    )
    candidates: Annotated[int, Field(ge=1, le=1000)] = Field(
        4, description="How many candidates are scored again, as a multiple of the rows that a search returns."
    )
