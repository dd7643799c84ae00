"""The `after:` section of a recipe: a list of steps, each with the fields of its own Spec. Pydantic only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from zoo import after
from zoo.after.spec import StepSpec

if TYPE_CHECKING:
    AfterStep = StepSpec
else:
    AfterStep = Annotated[
        Union[tuple(after.load_spec(name) for name in after.names())],  # noqa: UP007
        Field(discriminator="step"),
    ]
"""One entry of `after:`. A recipe may also write a bare string NAME for {step: NAME}."""
