"""The `encoder:` section of SESA: the towers that read the texts, and the concept space. Imports pydantic only."""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from zoo.core.errors import ZooError
from zoo.data.spec import Data
from zoo.hub import model_references
from zoo.schema import Positive, Renamed, Roles, Section, invert
from zoo.spec import Command, EncoderSpec, EpochRule, ExtraDataset, Mistake, RowNeeds, TextLimit
from zoo.text.truncatable_spec import TruncatableSpec

SIDES = {"query": "anchor", "document": "positive"}
"""The column of the training data that each side reads."""
TAG_COLUMNS = ("anchor_concepts", "positive_concepts")
"""Columns with the concept ids of each side, in the order of SIDES."""
RECURRENT_FIELDS = ("reader", "vocab_size", "dim", "hidden", "rarity", "lexical_dim", "lexical_weight")
"""Fields of recurrent towers, which a section with a backbone must not have."""
FROZEN_EPOCHS = EpochRule(rows_read=30_000, least=3, most=10)
RECURRENT_EPOCHS = EpochRule(rows_read=15_000, least=5, most=10)
FEW_PAIRS = 5000
"""With fewer pairs than this, a backbone is what helps most."""


class View(Section):
    """`active` keeps fewer concepts, and no unnamed part. `edit` multiplies the contributions of concepts, by id or name."""

    active: Positive | None = Field(
        None,
        description="Number of concepts to keep. The score is then that of concepts alone, without an unnamed part.",
    )
    edit: dict[str, Annotated[float, Field(ge=0, le=1e6)]] | None = Field(
        None,
        description="Factors of the contributions of concepts: {concept: factor}. 0 removes the concept from every score.",
    )


class TowerSpec(EncoderSpec):
    """The part of `encoder:` that describes the towers, the networks that read the texts."""

    towers: Literal["shared", "separate"] = Field(
        default="shared", description="shared: one tower reads both sides of a pair; separate: each side has its own."
    )
    reader: Literal["gru", "lstm"] = Field(
        default="gru", description="Without a backbone: the recurrent network that reads the subwords."
    )
    vocab_size: Annotated[int, Field(ge=64, le=1_000_000)] = Field(
        default=8000, description="Without a backbone: largest number of subwords, learned from the texts."
    )
    dim: Positive = Field(default=256, description="Without a backbone: components of a subword's embedding.")
    hidden: Positive = Field(default=128, description="Without a backbone: components of a state, in each direction.")
    rarity: Literal["frequency", "texts"] | None = Field(
        default=None,
        description="Without a backbone: which subwords start with a low weight, those that are frequent, or as in TF-IDF those "
        "that many texts have. Default: texts, or frequency if the recipe gives `training.epochs` or `max_steps`.",
    )
    lexical_dim: Annotated[int, Field(ge=0, le=65_536)] | None = Field(
        default=None,
        description="Without a backbone: components of fixed vectors of subwords, which compare texts as LSA and TF-IDF do. 0: "
        "none. Default: 1024, or 0 if the recipe gives `training.epochs` or `max_steps`.",
    )
    lexical_weight: Annotated[float, Field(ge=0, le=10)] | None = Field(
        default=None,
        description="With `lexical_dim`: how much equal words count beside similar words; 0 is LSA alone, 1 nearly TF-IDF. "
        "Default: 0.5, or where held-out pairs choose, 0.5 or 1.",
    )
    backbone: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="A sentence encoder to start from: Hub id, folder, or package:NAME."
    )
    revision: str | None = Field(default=None, description="Commit, tag or branch of the backbone on the Hub.")
    backbone_lr_scale: Annotated[float, Field(ge=0)] = Field(
        default=0.0,
        description="Learning rate of the backbone, as a multiple of the recipe's, for example 0.05. With 0 the backbone is "
        "frozen and reads each text once.",
    )
    word_dim: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="With a backbone: components, beside the backbone's vector, for the mean embedding of its subwords.",
    )
    max_length: Positive | None = Field(default=None, description="Tokens. Default: 256, or the backbone's own limit.")
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None, description="Default: 0.2 without a backbone, the backbone's own with one."
    )

    @model_validator(mode="after")
    def _check_backbone_fields(self) -> Self:
        fields = type(self).model_fields
        changed = [name for name in RECURRENT_FIELDS if getattr(self, name) != fields[name].default]
        if self.backbone and changed:
            raise ValueError(
                f"`{changed[0]}` belongs to towers that are learned from the texts alone: remove `{changed[0]}` or `backbone`"
            )
        if self.word_dim and not self.backbone:
            raise ValueError(
                "`word_dim` needs a `backbone`: remove `word_dim`, a recurrent network has word embeddings of its own"
            )
        if self.revision and not self.backbone:
            raise ValueError(
                "`revision` needs a `backbone`: remove `revision`, or add the backbone whose revision it is"
            )
        return self

    def find_mistakes(self, folder: Path) -> list[Mistake]:
        """Report a backbone that does not exist, and a `max_length` beyond its positions."""
        if not self.backbone:
            return []
        try:
            model_references.locate(self.backbone, folder)
        except ZooError as error:
            return [(("backbone",), str(error))]
        return self.as_sentence_encoder().find_mistakes(folder)

    @property
    def text_limit(self) -> TextLimit | None:
        """The limit of the backbone, or a lower one; None without a backbone, because its subwords are learned later."""
        return TextLimit(self.backbone, self.revision, self.max_length) if self.backbone else None

    def as_sentence_encoder(self) -> TruncatableSpec:
        """Return the section of the backbone as a sentence encoder of its own."""
        return TruncatableSpec(
            family=self.family, backbone=self.backbone or "", revision=self.revision, max_length=self.max_length
        )


class ConceptEncoderSpec(TowerSpec):
    """The part of `encoder:` that describes the concept space."""

    View = View

    space: Literal["concepts", "opaque"] = Field(
        default="concepts",
        description="opaque: as many components, which do not stand for concepts. It shows what explanations cost.",
    )
    max_active: Positive = Field(default=256, description="Largest number of concepts of a text that are not 0.")
    unnamed_share: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None,
        description="Share of a score that no concept explains: the cosine of the backbone's own vectors, or of the mean "
        "embeddings of the subwords. By default it is chosen on held-out pairs; with `training.epochs` or `max_steps`, or "
        "with a backbone that is trained, it is 0.",
    )
    train_concepts: bool | None = Field(
        default=None,
        description="false: leave the encoder as the names and the tagged texts of the concepts initialise it. By default "
        "held-out pairs decide where they choose `unnamed_share`; else it is trained.",
    )

    def find_view_mistake(self, view: Mapping[str, Any], folder: Path) -> str | None:
        """Report an edit of an opaque space."""
        return (
            "an opaque space has no concepts: remove `edit`"
            if self.space == "opaque" and (view.get("edit") or {})
            else None
        )


class Spec(ConceptEncoderSpec):
    """`encoder:` of a SESA model.

    Rows are pairs of texts that belong together, `anchor` and `positive`. The optional columns `anchor_concepts` and
    `positive_concepts` are lists of concept ids; a text with an empty list or none counts for the ranking alone.
    """

    training_defaults = {"learning_rate": 2e-3}
    pictures = {"deletion": "plots:draw_deletion_curves"}
    commands = {
        "explain": Command(
            'show why two texts score as they do: zoo explain MODEL "text a" "text b"', "explain_command"
        )
    }
    text_files = {"pieces.json": 64 << 20, "concepts.json": 256 << 20}
    renamed_fields = {
        "pieces": Renamed("vocab_size"),
        "backbone_rate": Renamed("backbone_lr_scale"),
        "words": Renamed("word_dim"),
        "active": Renamed("max_active"),
        "above": Renamed("parent_concepts"),
        "scale": Renamed("temperature", invert),
        "twin": Renamed("train_baseline"),
    }

    family: Literal["sesa"]
    concepts: Data = Field(description="The concepts: a column id, and optionally name and parent (one id or several).")
    parent_concepts: dict[str, Data] = Field(
        default={},
        description="Further lists of concepts, the parents of the first, each under a name. Equal rows count once.",
    )
    held_out: Data | None = Field(
        default=None,
        description="Pairs with the columns of the training data. The card measures explanations and concepts on them.",
    )
    train_baseline: bool = Field(
        default=True,
        description="With held_out: also train the same towers with an opaque space, the baseline of the card. Training then "
        "takes twice as long.",
    )
    names: bool = Field(
        default=True, description="Use the name of each concept as an example of it, even if no row is tagged with it."
    )
    supervision: Annotated[float, Field(ge=0)] = Field(
        default=0.3, description="Weight of the tagging loss; the ranking loss has weight 1."
    )
    temperature: Annotated[float, Field(gt=0)] = Field(
        default=0.05, description="Cosines are divided by it in the ranking."
    )

    @field_validator("parent_concepts")
    @classmethod
    def _check_names(cls, value: dict[str, Data]) -> dict[str, Data]:
        reserved = {"train", "validation", "concepts", "held_out"} & value.keys()
        if reserved:
            raise ValueError(f"a list cannot be called {min(reserved)!r}: choose another name")
        return value

    def roles(self) -> tuple[Roles, Roles]:
        """Return the two text columns, and the two optional columns of concept ids."""
        return dict.fromkeys(SIDES.values(), "text"), dict.fromkeys(TAG_COLUMNS, "ids")

    def list_unused_fields(self, has_validation: bool) -> set[str]:
        """Fields of the other kind of tower, of concepts that are not trained, and of a baseline that is not trained."""
        unused = set(RECURRENT_FIELDS) if self.backbone else {"backbone_lr_scale", "word_dim"}
        if self.space == "opaque":
            unused |= {"names", "supervision"}
        elif not self.supervision:
            unused.add("names")
        return unused if self.held_out and self.space == "concepts" else unused | {"train_baseline"}

    @property
    def epoch_rule(self) -> EpochRule:
        """How many epochs are trained if the recipe does not say."""
        return FROZEN_EPOCHS if self.backbone else RECURRENT_EPOCHS

    @property
    def can_choose(self) -> bool:
        """Whether held-out pairs can decide about the training. A backbone that is trained would take too long."""
        if self.unnamed_share is not None and self.train_concepts is not None:
            return False
        return self.space == "concepts" and not (self.backbone and self.backbone_lr_scale)

    def suggest_when_worse(self, facts: Mapping[str, float]) -> str:
        """A backbone for few pairs, and else more concepts or a longer training."""
        if not self.backbone:
            few = "few pairs need one" if facts.get("rows", 0) < FEW_PAIRS else "it knows words that the pairs lack"
            return f"try `backbone:`, because {few}"
        return "try `word_dim: 384`, a finer list of concepts or more pairs"

    def describe_row_needs(self, columns: Container[str]) -> RowNeeds:
        """Rows to compare with, because the ranking has no other negatives."""
        return RowNeeds.in_batch(("anchor",), ("positive",))

    def extra_datasets(self) -> Mapping[tuple[str, ...], ExtraDataset]:
        """Return the lists of concepts and the held-out pairs, by their path in the section."""
        required: Roles = {"id": "id"}
        optional: Roles = {"name": "text", "parent": "ids"}
        datasets: dict[tuple[str, ...], ExtraDataset] = {("concepts",): ExtraDataset(self.concepts, required, optional)}
        for name, data in self.parent_concepts.items():
            datasets["parent_concepts", name] = ExtraDataset(data, required, optional)
        if self.held_out:
            datasets["held_out",] = ExtraDataset(self.held_out, *self.roles(), use="evaluation")
        return datasets
