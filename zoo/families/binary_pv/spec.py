"""The `encoder:` section of binary paragraph vectors. Pydantic only."""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from zoo.artefact import preflight
from zoo.schema import Positive, Roles, Section
from zoo.spec import FREE_BASELINES, EncoderSpec, RowNeeds


class View(Section):
    """`real: true` gives the real vectors of variant real-binary, compared by cosine."""

    real: bool = Field(False, description="Real vectors instead of codes.")


class Spec(EncoderSpec):
    """`encoder:` of a binary paragraph vector model.

    Training reads `epochs` (a whole number), `learning_rate`, `seed` and `checkpoint_every` (in blocks of about a million
    words) from `training:`.
    """

    View = View
    training_defaults = {"learning_rate": 0.025}
    tests_learning_rate = False
    uses_validation = False
    trains_in_processes = False
    mixes_sources = False
    trains_whole_epochs = True
    text_files = {"vocabulary.json": 256 << 20}
    free_baselines = (*FREE_BASELINES, "baselines:LsaCodes")

    family: Literal["binary-pv"]
    variant: Literal["dbow", "dm", "real-binary"] = Field(
        default="dbow",
        description="How documents are learned: dbow or dm. real-binary is dbow that also keeps the real vector of a code.",
    )
    bits: Positive = Field(default=128, description="Length of the code.")
    dim: Positive | None = Field(
        default=None,
        description="Components of the vectors that codes start from, at least `bits`. Default: 300, or `bits` if larger.",
    )
    window: Positive = Field(default=20, description="Largest number of context words on each side.")
    negatives: Positive = Field(default=5, description="Noise words for each predicted word.")
    sample: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=1e-4, description="Threshold for subsampling frequent words; 0 turns subsampling off."
    )
    min_count: Positive | None = Field(
        default=None, description="Words that occur less often are left out. Default: 2, or 1 in a small corpus."
    )
    max_words: Positive | None = Field(default=None, description="Keep only this many of the most frequent words.")
    inference_epochs: Annotated[int, Field(gt=0, le=preflight.EPOCHS)] | None = Field(
        default=None, description="Passes over a text when its code is inferred. Default: as many as in training."
    )

    @model_validator(mode="after")
    def _check_width(self) -> Spec:
        if self.width < self.bits:
            raise ValueError(f"{self.bits} bits need vectors of as many components, but `dim` is {self.width}")
        return self

    @property
    def width(self) -> int:
        """Components of a real vector: `dim`, or its default."""
        return self.dim or max(self.bits, 300)

    def roles(self) -> tuple[Roles, Roles]:
        """Raw text, nothing else."""
        return {"text": "text"}, {}

    @property
    def codes_problem(self) -> str:
        """Its vectors are codes already."""
        return "its vectors are codes of one bit a component already; remove `after`"

    def reads_training_field(self, name: str) -> bool:
        """The compiled loops read a few fields."""
        return name in ("epochs", "learning_rate", "seed", "checkpoint_every")

    def describe_row_needs(self, columns: Container[str]) -> RowNeeds:
        """Texts that differ."""
        return RowNeeds(distinct=(("text",),))

    def suggest_when_worse(self, facts: Mapping[str, float]) -> str:
        """More texts or passes."""
        return "try more texts, or more `training.epochs`"

    def find_view_mistake(self, view: Mapping[str, Any], folder: Path) -> str | None:
        """Only variant real-binary has real vectors."""
        if view.get("real") and self.variant != "real-binary":
            return "only variant: real-binary has a real part"
        return None
