"""The `encoder:` section of late interaction. Pydantic only."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from zoo.ops.loss_names import (
    LOSS_COLUMNS,
    NEGATIVES,
    find_column_mistake,
    find_score_mistake,
    find_wide_scores_mistake,
)
from zoo.schema import Positive, Roles, Section
from zoo.spec import EpochRule, RowNeeds
from zoo.text.lora_spec import TextLora
from zoo.text.teacher_spec import TeacherSpec
from zoo.text.text_spec import TextSpec

LEARNING_RATE = 5e-5
ADAPTER_LEARNING_RATE = 2e-4
CONTRASTIVE_EPOCHS = EpochRule(rows_read=3000, least=1, most=3)


class View(Section):
    """A view with another way to score a search, or with fewer token vectors."""

    scoring: Literal["maxsim", "mean", "fixed-dimensional"] | None = Field(
        default=None,
        description="How a search scores: by MaxSim of token vectors, by the cosine of their mean, or by the inner product of "
        "fixed-dimensional encodings. `encode` gives the mean, or these encodings.",
    )
    pool_factor: Positive | None = Field(
        default=None, description="So many tokens of a document are merged into one by clustering. 1 merges nothing."
    )
    repetitions: Positive | None = Field(
        default=None, description="fixed-dimensional: how often the space is divided. Default: 20."
    )
    bits: Annotated[int, Field(ge=1, le=12)] | None = Field(
        default=None, description="fixed-dimensional: planes that divide the space into 2^bits cells. Default: 4."
    )
    project: Positive | None = Field(
        default=None, description="fixed-dimensional: components that are kept of a cell. Default: 16."
    )
    fill: bool | None = Field(
        default=None,
        description="fixed-dimensional: whether an empty cell of a document takes the nearest token. Default: true.",
    )


class ExpansionSpec(Section):
    """`query_expansion:`, mask tokens after a short query, whose vectors count as those of its words do.

    Source: Khattab and Zaharia, "ColBERT", arXiv 2004.12832, section 3.2.
    """

    length: Annotated[int, Field(ge=1)] = Field(32, description="Queries with fewer tokens are filled up to so many.")
    attend: bool = Field(False, description="Whether the words of a query see the mask tokens.")


class Spec(TextSpec):
    """`encoder:` of a late-interaction encoder."""

    View = View
    source_losses = ("contrastive", "kl")
    trains_in_processes = False

    family: Literal["late-interaction"]
    dim: Positive | None = Field(
        default=128, description="Components of a token vector. null: those of the backbone, without a head."
    )
    skip_punctuation: bool = Field(default=True, description="Leave punctuation of documents out of the scores.")
    query_expansion: ExpansionSpec | None = Field(
        default=None, description="Fill short queries up with mask tokens. Default: score their own tokens only."
    )
    loss: Literal["contrastive", "kl"] = Field(
        default="contrastive",
        description="contrastive: anchors, positives and hard negatives. kl: the same with scores of a teacher.",
    )
    temperature: Annotated[float, Field(gt=0)] = Field(
        default=0.05, description="MaxSim scores, as means over the tokens of a query, are divided by it in the loss."
    )
    teacher: TeacherSpec | None = Field(
        default=None, description="kl: a frozen model that scores the candidates. Default: columns of scores."
    )
    chunk: Positive | None = Field(
        default=None,
        description="Texts in memory at a time. The gradient stays exact, because every chunk is run twice (GradCache).",
    )
    lora: TextLora | None = Field(default=None, description="Low-rank adapter. Default: train every weight.")
    freeze: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Do not train the token embeddings and the first so many blocks."
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None, description="Dropout rate. Default: the backbone's own."
    )

    @model_validator(mode="after")
    def _fits(self) -> Spec:
        if self.lora and self.freeze:
            raise ValueError("freeze: an adapter freezes every weight of the backbone: leave `freeze` out")
        if self.lora and self.lora.keep == "adapter":
            raise ValueError("lora.keep: a model folder of this family holds all weights: set keep: merged")
        return self

    @classmethod
    def choose_training_defaults(cls, section: Mapping[str, Any]) -> Mapping[str, Any]:
        """A higher rate for an adapter than for all weights."""
        return {"learning_rate": ADAPTER_LEARNING_RATE if section.get("lora") is not None else LEARNING_RATE}

    @property
    def epoch_rule(self) -> EpochRule | None:
        """Three epochs over few pairs, and one over many."""
        return CONTRASTIVE_EPOCHS

    @property
    def extras(self) -> tuple[str, ...]:
        """Return `lora` if the recipe trains an adapter."""
        return ("lora",) if self.lora else ()

    def roles(self) -> tuple[Roles, Roles]:
        """The columns of the loss."""
        return LOSS_COLUMNS[self.loss].required, LOSS_COLUMNS[self.loss].optional

    def list_unused_fields(self, has_validation: bool) -> set[str]:
        """The teacher of another loss."""
        return set() if self.loss == "kl" else {"teacher"}

    def describe_row_needs(self, columns: Container[str]) -> RowNeeds:
        """Rows or hard negatives to compare with."""
        negatives = tuple(name for name in NEGATIVES if name in columns)
        if self.loss == "contrastive":
            return RowNeeds.in_batch(("anchor",), ("positive",), negatives)
        return RowNeeds(negatives=negatives, positive=("positive",))

    def find_score_mistake(self, row: Mapping[str, Any]) -> str | None:
        """Say what is wrong with the scores of a training row, or None."""
        names = [name for name in LOSS_COLUMNS[self.loss].scores if row.get(name) is not None]
        for name in names:
            if problem := find_score_mistake(self.loss, name, row[name]):
                return problem
        given = self.teacher.temperature if self.teacher else None
        values = [float(row[name]) for name in names]
        return find_wide_scores_mistake(values, given or 1.0) if values else None

    def find_table_mistake(self, columns: Container[str]) -> str | None:
        """Say which column of negatives or of a teacher's scores the training data lacks, or None."""
        return find_column_mistake(self.loss, columns, has_teacher=self.teacher is not None)
