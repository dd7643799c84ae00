"""The `encoder:` section of static embeddings. Pydantic only."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from zoo.core.errors import ZooError
from zoo.hub import model_references
from zoo.schema import Positive, Roles, Section
from zoo.spec import EncoderSpec, EpochRule, Mistake, RowNeeds, TextLimit
from zoo.text import architectures, spelled_words, weights_check

NEGATIVES = ("negative", *(f"negative_{i}" for i in range(1, 33)))
EPOCHS = EpochRule(rows_read=100_000, least=3, most=50)
COLUMNS = ("anchor", "positive", *NEGATIVES)


class View(Section):
    """A view with the first `dim` principal components."""

    dim: Positive | None = Field(None, description="Number of components to keep.")


class Spec(EncoderSpec):
    """`encoder:` of a static model."""

    View = View
    training_defaults = {"learning_rate": 1e-2, "batch_size": 256}

    family: Literal["static"]
    backbone: Annotated[str, Field(min_length=1, description="Hub id, folder, or package:NAME.")]
    revision: str | None = Field(None, description="Commit, tag or branch of the backbone on the Hub.")
    dim: Positive = Field(256, description="Components of a vector.")
    max_length: Positive | None = Field(512, description="Tokens that are read of a text; null reads whole texts.")
    vocabulary: Literal["auto", "backbone", "texts"] = Field(
        "auto",
        description="Tokens of the backbone, or subwords that are learned from the training texts and start at the vectors of "
        "latent semantic analysis; auto learns them if the backbone spells more than half of the words letter by letter.",
    )
    frequencies: Literal["zipf", "counted"] = Field(
        "zipf",
        description="Token frequencies by Zipf's law from the order of the vocabulary, or counted in the training texts.",
    )
    sif_coefficient: Annotated[float, Field(gt=0)] | None = Field(
        1e-4, description="a of the token weights a / (a + frequency); null gives every token the same weight."
    )
    removed_components: Annotated[int, Field(ge=0)] = Field(
        0, description="Largest principal components that are left out."
    )
    regression_texts: Annotated[int, Field(ge=0)] = Field(
        40_000,
        description="Training texts, drawn by seed, whose vectors the token vectors are fitted to before training; 0 for none.",
    )
    ridge: Annotated[float, Field(gt=0)] = Field(
        0.1, description="Weight of a token's own vector in that fit, as a number of texts."
    )
    dims: tuple[Positive, ...] = Field((), description="Widths to train besides the full width.")
    temperature: Annotated[float, Field(gt=0)] = Field(0.05, description="Cosines are divided by it in the loss.")

    @field_validator("dims")
    @classmethod
    def _check_dims(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError(f"must ascend without repeats, not {list(value)}")
        return value

    @property
    def epoch_rule(self) -> EpochRule:
        """Many epochs: a step costs little, and few rows make few steps."""
        return EPOCHS

    @property
    def text_limit(self) -> TextLimit | None:
        """`max_length`, without special tokens; None if whole texts are read."""
        if self.max_length is None:
            return None
        return TextLimit(self.backbone, self.revision, self.max_length, special_tokens=False)

    def learns_vocabulary(self, spelled: float) -> bool:
        """As `vocabulary` says; auto does so if more than `spelled_words.MANY` of the words are spelled."""
        return self.vocabulary == "texts" or (self.vocabulary == "auto" and spelled > spelled_words.MANY)

    def roles(self) -> tuple[Roles, Roles]:
        """Anchors, positives and optional hard negatives."""
        return {"anchor": "text", "positive": "text"}, dict.fromkeys(NEGATIVES, "text")

    def list_unused_fields(self, has_validation: bool) -> set[str]:
        """The frequencies if no weight follows from them, the ridge of a fit that is not made, and distillation without any."""
        if self.vocabulary == "texts":
            return {"frequencies", "sif_coefficient", "removed_components", "regression_texts", "ridge"}
        unused = {"frequencies"} if self.sif_coefficient is None else set()
        return unused if self.regression_texts else unused | {"ridge"}

    def describe_row_needs(self, columns: Container[str]) -> RowNeeds:
        """Rows or hard negatives to compare with."""
        return RowNeeds.in_batch(("anchor",), ("positive",), tuple(n for n in NEGATIVES if n in columns))

    def find_mistakes(self, folder: Path) -> list[Mistake]:
        """Report a backbone that does not exist, and widths that are larger than their source."""
        mistakes: list[Mistake] = []
        if self.dims and self.dims[-1] > self.dim:
            mistakes.append((("dims",), f"{self.dims[-1]} is more than the {self.dim} components of a vector"))
        try:
            width = self._read_backbone_width(folder)
        except (ZooError, OSError, ValueError, KeyError) as error:
            return [*mistakes, (("backbone",), str(error))]
        if width is not None and self.dim + self.removed_components > width:
            message = (
                f"{self.dim} and {self.removed_components} removed components are more than the {width} of the backbone"
            )
            mistakes.append((("dim",), message))
        problem = weights_check.find_problem(self.backbone, folder)
        return [*mistakes, (("backbone",), problem)] if problem else mistakes

    def find_view_mistake(self, view: Mapping[str, Any], folder: Path) -> str | None:
        """Report a view that is wider than the encoder."""
        return describe_misfit(view.get("dim"), self.dim)

    def _read_backbone_width(self, folder: Path) -> int | None:
        """Components of a local backbone's vectors; None for a backbone on the Hub."""
        local = model_references.locate(self.backbone, folder)
        if local is None:
            return None
        config = json.loads((local / "config.json").read_text(encoding="utf-8"))
        return architectures.read_depth_and_width(config)[1]


def describe_misfit(dim: int | None, width: int) -> str | None:
    """Say what is wrong with a view of `dim` components of an encoder with `width` components, or return None."""
    if dim is None or 1 <= dim <= width:
        return None
    return f"dim: {dim} is outside 1…{width}, which is what this encoder has"
