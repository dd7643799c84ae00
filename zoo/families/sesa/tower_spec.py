"""What reads the texts of both sides: the part of `encoder:` that says so."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from zoo.core.errors import ZooError
from zoo.schema import EncoderSpec, Positive
from zoo.text import model_references
from zoo.text.truncatable import TruncatableEncoder, TruncatableSpec

LEARNED = ("reader", "pieces", "dim", "hidden")


class TowerSpec(EncoderSpec):
    """The part of `encoder:` that says what reads the texts."""

    towers: Literal["shared", "separate"] = Field(
        default="shared", description="separate: one for each side of a pair."
    )
    reader: Literal["gru", "lstm"] = Field(default="gru", description="Without a backbone: what reads the subwords.")
    pieces: Annotated[int, Field(ge=64, le=1_000_000)] = Field(
        default=8000, description="Without a backbone: subwords, learned from the texts, at most."
    )
    dim: Positive = Field(default=256, description="Without a backbone: components of a subword's embedding.")
    hidden: Positive = Field(default=128, description="Without a backbone: components of a state, in each direction.")
    backbone: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="A sentence encoder to start from: Hub id, folder, or package:NAME."
    )
    revision: str | None = None
    backbone_rate: Annotated[float, Field(ge=0)] = Field(
        default=0.05,
        description="The backbone's learning rate, times the recipe's; 0: it stays as it is, and reads each text once.",
    )
    words: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="With a backbone: components beside its vector, for the mean of embeddings of its subwords.",
    )
    max_length: Positive | None = Field(
        default=None, description="Tokens; by default 256, or the backbone's own limit."
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None, description="By default 0.2 without a backbone, and the backbone's own with one."
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        fields = type(self).model_fields
        given = [name for name in LEARNED if getattr(self, name) != fields[name].default]
        if self.backbone and given:
            raise ValueError(f"`{given[0]}` belongs to towers learned from the texts alone: leave it or `backbone` out")
        if self.words and not self.backbone:
            raise ValueError("`words` stand beside a backbone, and there is none: a recurrent network has its own")
        if self.revision and not self.backbone:
            raise ValueError("`revision` is that of a backbone, and there is none")
        return self

    def mistakes(self, folder: Path) -> list[tuple[tuple[str | int, ...], str]]:
        """A backbone that is not there, and more tokens than it has positions for."""
        if not self.backbone:
            return []
        try:
            model_references.locate(self.backbone, folder)
        except ZooError as error:
            return [(("backbone",), str(error))]
        return TruncatableEncoder.check(self.plain(), folder)

    def plain(self) -> TruncatableSpec:
        """The backbone as a sentence encoder of its own."""
        return TruncatableSpec(
            family=self.family, backbone=self.backbone or "", revision=self.revision, max_length=self.max_length
        )
