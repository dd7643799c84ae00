"""The `encoder:` section of dense sentence embeddings. Pydantic only."""

from __future__ import annotations

import importlib.util
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from zoo.artefact.transformer_folder import read_width
from zoo.ops.loss_names import (
    LOSS_COLUMNS,
    NEGATIVES,
    LossName,
    find_column_mistake,
    find_margin_mistake,
    find_score_mistake,
    find_wide_scores_mistake,
)
from zoo.schema import Positive, Roles, Section
from zoo.spec import EpochRule, Mistake, RowNeeds, TextLimit
from zoo.text.lora_spec import TextLora
from zoo.text.teacher_spec import TeacherSpec
from zoo.text.text_spec import TextSpec

ADAPTER_FOLDER = "adapter"
IN_BATCH_LOSSES = ("contrastive",)
SCORED_LOSSES = ("cosent", "angle")
DISTILLATION_LOSSES = ("margin-mse", "kl")
CLASS_LOSSES = ("proto-triplet", "icnn")
CONTRASTIVE_EPOCHS = EpochRule(rows_read=3000, least=1, most=3)
LEARNING_RATE = 5e-5
ADAPTER_LEARNING_RATE = 2e-4  # an adapter starts at zero, and its matrices are small


class View(Section):
    """A view with the first `dim` components."""

    dim: Positive | None = Field(None, description="Number of components to keep.")


class GuideSpec(Section):
    """`guide:`, a frozen encoder that says which texts of a batch are probably right answers as well.

    Source: Solatorio, "GISTEmbed", arXiv 2402.16829.
    """

    model: Annotated[str, Field(min_length=1, description="Hub id, folder, or package:NAME.")]
    margin: Annotated[float, Field(ge=0)] = Field(
        0.95,
        description="The guide leaves out a text that is more similar than this share of the right answer's similarity.",
    )
    margin_kind: Literal["relative", "absolute"] = Field(
        "relative", description="absolute: more similar than the right answer minus `margin`."
    )


class Spec(TextSpec):
    """`encoder:` of a dense sentence encoder."""

    View = View
    source_losses = get_args(LossName)
    can_divide_weights = True

    family: Literal["dense"]
    pooling: Literal["auto", "mean", "cls", "last", "weighted"] = Field(
        default="auto",
        description="How the token states become one vector. `auto`: as the backbone's own folder says; else `last` for a "
        "decoder whose tokens see only what stands before them, and `mean` for all others. `weighted`: later tokens weigh more.",
    )
    normalize: bool | None = Field(
        default=None, description="Give vectors unit norm. Default: as the backbone's own folder says, else true."
    )
    long: Literal["cut", "error", "windows"] = Field(
        default="cut",
        description="`encode` cuts a text beyond `max_length`, refuses it, or reads all of it in windows, whose mean is the "
        "vector of the text. Training reads the beginning.",
    )
    windows: Literal["mean", "late"] = Field(
        default="mean",
        description="long: windows: encode each window by itself, or the whole text at once and pool the tokens of each window.",
    )
    projection: Positive | None = Field(
        default=None,
        description="Width of a further linear map after the pooling, which begins at random. Default: none.",
    )
    dims: tuple[Positive, ...] = Field(
        default=(),
        description="Further widths to train (Matryoshka), whose first components are vectors by themselves.",
    )
    loss: LossName = Field(
        default="contrastive",
        description="contrastive: anchors, positives and hard negatives. cosent, angle: pairs with a score. triplet: anchors, "
        "positives and negatives. margin-mse, kl: the same with scores of a teacher. proto-triplet, icnn: texts with labels.",
    )
    temperature: Annotated[float, Field(gt=0)] = Field(
        default=0.05, description="Cosines are divided by it in the loss."
    )
    symmetric: bool = Field(
        default=False, description="contrastive: positives also have to find their anchors among those of the batch."
    )
    guide: GuideSpec | None = Field(
        default=None, description="contrastive: a frozen encoder that finds likely false negatives of the batch."
    )
    teacher: TeacherSpec | None = Field(
        default=None,
        description="margin-mse, kl: a frozen model that scores the candidates. Default: columns of scores.",
    )
    margin: Annotated[float, Field(ge=0)] | Literal["soft"] = Field(
        default=0.2,
        description="triplet, proto-triplet: by how much the right one must be nearer. soft: there is no end.",
    )
    triplet_negatives: Literal["own", "hard", "semi-hard", "all"] = Field(
        default="own",
        description="triplet: negatives of the row itself, or the hardest, the semi-hard ones or all of the batch.",
    )
    chunk: Positive | None = Field(
        default=None,
        description="Texts in memory at a time. The gradient stays exact, because every chunk is run twice (GradCache).",
    )
    lora: TextLora | None = Field(default=None, description="Low-rank adapter. Default: train every weight.")
    quantize: Literal["4bit"] | None = Field(
        default=None, description="Hold the frozen weights in 4 bits under `lora`. Needs bitsandbytes and a GPU."
    )
    freeze: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Do not train the token embeddings and the first so many blocks."
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Recompute activations in the backward pass: slower, in far less memory."
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None,
        description="Dropout rate. Default: the backbone's own. Several processes draw other units than one.",
    )

    @field_validator("dims")
    @classmethod
    def _check_dims(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError(f"must ascend without repeats, not {list(value)}")
        return value

    @model_validator(mode="after")
    def _fits(self) -> Spec:
        if self.quantize and not self.lora:
            raise ValueError("quantize: weights of 4 bits cannot be trained: add `lora: {}`")
        if self.quantize and self.lora and self.lora.keep == "merged":
            raise ValueError("lora.keep: an adapter cannot be merged into weights of 4 bits: set keep: adapter")
        if self.loss == "proto-triplet" and self.margin == "soft":
            raise ValueError("margin: proto-triplet has no soft margin: give a number")
        if self.lora and self.freeze:
            raise ValueError("freeze: an adapter freezes every weight of the backbone: leave `freeze` out")
        if self.projection and self.lora and self.lora.keep == "adapter":
            raise ValueError("projection: an adapter's folder holds no further map: set lora.keep: merged")
        return self

    @classmethod
    def choose_training_defaults(cls, section: Mapping[str, Any]) -> Mapping[str, Any]:
        """A higher rate for an adapter than for all weights."""
        if section.get("lora") is not None:
            return {"learning_rate": ADAPTER_LEARNING_RATE}
        return {} if section.get("loss", "contrastive") in SCORED_LOSSES else {"learning_rate": LEARNING_RATE}

    @property
    def epoch_rule(self) -> EpochRule | None:
        """Three epochs over few pairs without scores, and one over many."""
        return CONTRASTIVE_EPOCHS if self.loss == "contrastive" else None

    @property
    def text_limit(self) -> TextLimit | None:
        """The limit of the backbone, or a lower one. None if long texts are read whole."""
        limit = super().text_limit
        return None if limit is None or self.long == "windows" else limit._replace(has_windows=True)

    @property
    def extras(self) -> tuple[str, ...]:
        """Return `lora` if the recipe trains an adapter."""
        return ("lora",) if self.lora else ()

    @property
    def adapter_folder(self) -> str | None:
        """The folder of the adapter, if the model folder holds one instead of all weights."""
        return ADAPTER_FOLDER if self.lora and self.lora.keep == "adapter" else None

    def roles(self) -> tuple[Roles, Roles]:
        """The columns of the loss."""
        return LOSS_COLUMNS[self.loss].required, LOSS_COLUMNS[self.loss].optional

    def list_unused_fields(self, has_validation: bool) -> set[str]:
        """Fields of other losses."""
        unused = set() if self.loss == "contrastive" else {"symmetric", "guide"}
        unused |= set() if self.long == "windows" else {"windows"}
        unused |= set() if self.loss in DISTILLATION_LOSSES else {"teacher"}
        unused |= set() if self.loss == "triplet" else {"triplet_negatives"}
        unused |= set() if self.loss in ("triplet", "proto-triplet") else {"margin"}
        return unused | ({"temperature"} if self.loss in ("triplet", *CLASS_LOSSES) else set())

    def describe_row_needs(self, columns: Container[str]) -> RowNeeds:
        """Rows or hard negatives to compare with, pairs with different scores, or rows of different classes."""
        negatives = tuple(name for name in NEGATIVES if name in columns)
        if self.loss == "contrastive" or (self.loss == "triplet" and self.triplet_negatives != "own"):
            return RowNeeds.in_batch(("anchor",), ("positive",), negatives)
        if self.loss in SCORED_LOSSES:
            return RowNeeds(rows=2, distinct=(("score",),), reason="the loss ranks pairs against one another")
        if self.loss in CLASS_LOSSES:
            return RowNeeds(rows=4, distinct=(("label",),), reason="the loss compares rows of several classes")
        return RowNeeds(negatives=negatives, positive=("positive",))

    def suggest_for_columns(self, columns: Container[str]) -> list[Mistake]:
        """The loss for pairs without scores, and the losses for pairs with scores."""
        if self.loss in SCORED_LOSSES and "score" not in columns:
            message = f"{self.loss} needs a score for each pair; for pairs without scores set loss: contrastive"
            return [(("loss",), f"{message}, which reads the columns anchor and positive")]
        if self.loss == "contrastive" and "score" in columns and "anchor" not in columns:
            return [(("loss",), "for pairs with scores set loss: cosent or loss: angle")]
        if self.loss == "contrastive" and "label" in columns and "anchor" not in columns:
            return [(("loss",), "for texts with labels set loss: proto-triplet or loss: icnn")]
        return []

    def find_score_mistake(self, row: Mapping[str, Any]) -> str | None:
        """Say what is wrong with the scores of a training row, or None."""
        names = [name for name in LOSS_COLUMNS[self.loss].scores if row.get(name) is not None]
        for name in names:
            if problem := find_score_mistake(self.loss, name, row[name]):
                return problem
        values = [float(row[name]) for name in names]
        if self.loss == "margin-mse" and values:
            problems = (find_margin_mistake(values[0], value, 1 / self.temperature) for value in values[1:])
            return next(filter(None, problems), None)
        given = self.teacher.temperature if self.teacher else None
        return find_wide_scores_mistake(values, given or 1.0) if self.loss == "kl" and values else None

    def find_table_mistake(self, columns: Container[str]) -> str | None:
        """Say which column of negatives or of a teacher's scores the training data lacks, or None."""
        if self.loss == "triplet" and self.triplet_negatives == "own" and not any(n in columns for n in NEGATIVES):
            return "triplet compares the positive with negatives of its row: add a column `negative`, or set triplet_negatives"
        return find_column_mistake(self.loss, columns, has_teacher=self.teacher is not None)

    def find_mistakes(self, folder: Path) -> list[Mistake]:
        """Also report widths beyond the encoder's own, and 4 bits without the package that computes them."""
        mistakes = super().find_mistakes(folder)
        if self.dims and not mistakes and (misfit := self.find_view_mistake({"dim": max(self.dims)}, folder)):
            mistakes.append((("dims",), misfit.removeprefix("dim: ")))
        if self.quantize and importlib.util.find_spec("bitsandbytes") is None:
            message = "needs bitsandbytes, which is not installed, and a GPU: pip install bitsandbytes, or leave it out"
            mistakes.append((("quantize",), message))
        return mistakes

    def find_view_mistake(self, view: Mapping[str, Any], folder: Path) -> str | None:
        """Report a view that is wider than the encoder, as far as its config says."""
        try:
            config = self.read_backbone_config(folder)
        except (OSError, ValueError, KeyError):  # `find_mistakes` reports it
            return None
        width = self.projection or (read_width(config) if config else None)
        return describe_misfit(view.get("dim"), width) if width else None


def describe_misfit(dim: int | None, width: int) -> str | None:
    """Describe why an encoder with `width` components lacks a view of `dim` components; None if it has it."""
    if dim is not None and not 1 <= dim <= width:
        return f"dim: {dim} is outside 1…{width}, the range of this encoder"
    return None
