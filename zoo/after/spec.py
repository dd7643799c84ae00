"""`StepSpec`, the base of every entry of `after:` in a recipe. It imports pydantic only."""

from __future__ import annotations

from typing import ClassVar, Literal

from zoo.schema import Section

Kind = Literal["codes", "scores"]
"""What a step changes: vectors, which become `codes`, or the `scores` of a search."""


class StepSpec(Section):
    """The fields that every step has.

    Attributes of the class:
        kind: what the step changes.
        needs: the parts of `zoo.after.material.Material` without which the step cannot be fitted.
        uses: the parts that it uses if they are there.
    """

    kind: ClassVar[Kind]
    needs: ClassVar[tuple[str, ...]] = ("documents",)
    uses: ClassVar[tuple[str, ...]] = ()

    step: str
