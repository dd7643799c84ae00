"""`TeacherSpec`: the fields of a frozen model that scores pairs of texts. Pydantic only."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from zoo.schema import Section


class TeacherSpec(Section):
    """`teacher:`, a frozen model that scores each anchor with the candidates of its row, once, before training."""

    model: Annotated[str, Field(min_length=1, description="Hub id, folder, or package:NAME.")]
    kind: Literal["cross-encoder", "encoder"] = Field(
        "cross-encoder", description="cross-encoder: reads both texts together. encoder: cosines of its vectors."
    )
    temperature: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="kl: its scores are divided by it. Default: 1 for a cross-encoder, `temperature` for an encoder.",
    )
