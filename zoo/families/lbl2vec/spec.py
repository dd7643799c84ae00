"""The `encoder:` section of Lbl2Vec. Pydantic only."""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from zoo.schema import Positive, Renamed, Roles
from zoo.spec import FREE_BASELINES, EncoderSpec, Mistake, RowNeeds, TextLimit
from zoo.text import weights_check
from zoo.text.truncatable_spec import TruncatableSpec

MANY_ROWS, MANY_WORDS = 10_000, 15
"""With fewer texts, or fewer words in the median text, words learned from the texts alone say little."""


class Spec(EncoderSpec):
    """`encoder:` of an Lbl2Vec model."""

    training_defaults = {"learning_rate": 0.025}
    tests_learning_rate = False
    uses_validation = False
    trains_in_processes = False
    mixes_sources = False
    trains_whole_epochs = True
    pictures = {"topics": "topic_map:draw_map"}
    text_files = {"vocabulary.json": 256 << 20}
    free_baselines = (*FREE_BASELINES, "baselines:CountKeywords")
    renamed_fields = {"none_below": Renamed("reject_below")}

    family: Literal["lbl2vec"]
    labels: dict[str, tuple[str, ...]] = Field(description="Keywords of each label.")
    backbone: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="A sentence encoder for documents and keywords: Hub id, folder, or package:NAME. Default: documents and "
        "words are learned from the texts alone.",
    )
    revision: str | None = Field(None, description="Commit, tag or branch of the backbone on the Hub.")
    dim: Positive | None = Field(None, description="Without a backbone: components of a vector. Default: 200.")
    window: Positive | None = Field(
        None, description="Without a backbone: largest number of context words on each side. Default: 10."
    )
    min_count: Positive | None = Field(
        None,
        description="Without a backbone: words that occur less often are left out, except keywords. Default: 1 in a small "
        "corpus, 2 to 5 in others, and more only in a very large one.",
    )
    similarity_threshold: Annotated[float, Field(ge=-1, le=1)] | None = Field(
        None, description="Cosine to the keywords that a document needs to stand for a label. Default: no threshold."
    )
    min_num_docs: Positive = Field(
        10, description="Smallest number of documents that stand for a label, whatever the threshold."
    )
    num_docs: Positive | None = Field(
        None, description="Largest number of documents that stand for a label. Default: half of a label's even share."
    )
    keyword_weight: Annotated[float, Field(ge=0)] = Field(
        1.0,
        description="Weight of the mean of the keywords beside the mean of the documents; 0 uses the documents alone.",
    )
    keyword_evidence: Annotated[float, Field(ge=0)] | None = Field(
        None,
        description="How much keywords that occur in a text move it towards their labels; 0 not at all. Default: 0 with a "
        "backbone, else 4 and more for few texts.",
    )
    clean_outliers: bool = Field(True, description="Leave out documents that the local outlier factor rejects.")
    reject_below: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="`classify` answers None if the confidence is below this."
    )
    examples: Annotated[int, Field(ge=0, le=10)] = Field(
        3, description="Training documents of each label whose beginning the card shows; 0 publishes none."
    )

    @field_validator("labels", mode="before")
    @classmethod
    def _make_keywords_tuples(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {str(k): tuple(words) if isinstance(words, list) else words for k, words in value.items()}

    @field_validator("labels")
    @classmethod
    def _check_labels(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        if len(value) < 2:
            raise ValueError(f"needs at least two labels, not {len(value)}")
        for label, words in value.items():
            if not label.strip() or not words or not all(word.strip() for word in words):
                raise ValueError(f"label {label!r} needs a name and at least one keyword, and they must not be empty")
        return value

    @model_validator(mode="after")
    def _check_backbone_fields(self) -> Spec:
        learned = [name for name in ("dim", "window", "min_count") if getattr(self, name) is not None]
        if self.backbone and learned:
            raise ValueError(f"`{learned[0]}` belongs to vectors learned from the texts: leave it or `backbone` out")
        if self.revision and not self.backbone:
            raise ValueError("`revision` is that of a backbone, but `backbone` is not set: leave `revision` out")
        return self

    @property
    def text_limit(self) -> TextLimit | None:
        """The backbone's own limit; None without a backbone."""
        return TextLimit(self.backbone, self.revision, field=None) if self.backbone else None

    def roles(self) -> tuple[Roles, Roles]:
        """Raw text, nothing else."""
        return {"text": "text"}, {}

    def reads_training_field(self, name: str) -> bool:
        """The compiled loops read a few fields. A sentence encoder is not trained; the seed lays out the map of topics."""
        return name == "seed" or (not self.backbone and name in ("epochs", "learning_rate", "checkpoint_every"))

    def describe_row_needs(self, columns: Container[str]) -> RowNeeds:
        """Texts that differ."""
        return RowNeeds(distinct=(("text",),))

    def suggest_when_worse(self, facts: Mapping[str, float]) -> str:
        """A sentence encoder where the texts are too few or too short to learn words from, else other keywords."""
        if self.backbone is None and (
            facts.get("rows", MANY_ROWS) < MANY_ROWS or facts.get("words", MANY_WORDS) < MANY_WORDS
        ):
            return "they are too few or too short to learn words from: set `encoder.backbone` to a sentence encoder"
        return "give each label more keywords, and none that other labels share"

    def find_mistakes(self, folder: Path) -> list[Mistake]:
        """Report a backbone that does not exist or lacks weights, and two labels that nothing can tell apart."""
        mistakes: list[Mistake] = []
        names: dict[frozenset[str], str] = {}
        for label, words in self.labels.items():
            first = names.setdefault(frozenset(words), label)
            if first != label:
                message = f"has the keywords of {first!r}, so nothing can tell the two apart: give it others"
                mistakes.append((("labels", label), message))
        problem = weights_check.find_problem(self.backbone, folder) if self.backbone else None
        return [*mistakes, (("backbone",), problem)] if problem else mistakes

    def as_sentence_encoder(self) -> TruncatableSpec:
        """The section of the backbone as a sentence encoder of its own."""
        return TruncatableSpec(family="lbl2vec", backbone=self.backbone or "", revision=self.revision)
