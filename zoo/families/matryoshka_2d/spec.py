"""The `encoder:` section of 2D Matryoshka sentence embeddings. Pydantic only."""

from __future__ import annotations

import warnings
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from zoo.core.errors import RenamedFieldWarning
from zoo.data.spec import Data
from zoo.ops.loss_names import LOSS_COLUMNS, NEGATIVES
from zoo.schema import Positive, Renamed, Roles, Section, invert
from zoo.spec import EpochRule, ExtraDataset, Mistake, RowNeeds
from zoo.text.truncatable_spec import TruncatableSpec

PAIR_LEARNING_RATE = 1e-4
PAIR_EPOCHS = EpochRule(rows_read=3000, least=1, most=3)
SMALLEST_TEXT_COUNT = 3  # a text needs two others, or the distribution of its similarities is a constant
TRIPLET_COLUMNS, PAIR_COLUMNS = ("anchor", "positive", *NEGATIVES), ("sentence1", "sentence2")
SHALLOW_GRADIENT_SHARE = 0.3
SMALLEST_KL_TEMPERATURE = 0.5  # a `temperature` from here on is that of the KL term, as recipes of 0.1 write it


class TeacherSpec(Section):
    """`teacher:`, a frozen encoder whose similarities every view follows."""

    model: str | None = Field(
        default=None, description="Hub id, folder or package:NAME. Default: the untrained backbone."
    )
    weight: float = Field(default=1.0, ge=0, description="Weight of the teacher's terms in the loss.")
    unlabelled: Data | None = Field(
        default=None, description="Further texts (column `text`), used by the teacher's terms only."
    )
    texts_per_step: Positive = Field(default=64, description="Texts of `unlabelled` in each optimiser step.")


class Spec(TruncatableSpec):
    """`encoder:` of a 2D Matryoshka model.

    `objective: elastic` (the default) gives every layer a linear head. With `loss: contrastive` the backbone is trained at full
    size alone, and the heads are computed afterwards. With other losses, a teacher or a `shallow_grad_scale`, heads are fitted
    before and trained with the backbone. `objective: 2dmse` is the paper's; with `detach: false` it follows the paper to the
    letter.
    """

    can_divide_weights = True
    renamed_fields = {
        "scale": Renamed("temperature", invert),
        "head_rate": Renamed("head_lr_scale"),
        "backflow": Renamed("shallow_grad_scale"),
    }

    family: Literal["matryoshka-2d"]
    dims: tuple[Positive, ...] = Field(
        default=(32, 64, 128, 256), description="Widths to train; the full width is always trained."
    )
    objective: Literal["elastic", "2dmse"] = Field(
        default="elastic", description="elastic: every layer has a linear head. 2dmse: the objective of the paper."
    )
    loss: Literal["cosent", "contrastive", "angle"] = Field(
        default="cosent",
        description="contrastive: anchors, positives and hard negatives. cosent and angle: pairs with a score.",
    )
    temperature: Annotated[float, Field(gt=0)] = Field(
        default=0.05, description="Cosines are divided by it in the loss."
    )
    angle_weights: tuple[float, float, float] = Field(
        default=(1.0, 0.0, 1.0), description="angle: weights of the CoSENT, in-batch and angle terms."
    )
    head_lr_scale: Annotated[float, Field(gt=0)] = Field(
        default=2.0, description="elastic: learning rate of the heads, as a multiple of the recipe's."
    )
    shallow_grad_scale: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None,
        description="elastic: share of the shallow layers' gradient that reaches the backbone. Default: 0.3; but for `loss: "
        "contrastive` without a teacher the backbone is trained at full size alone.",
    )
    layers: Literal["sampled", "all"] = Field(
        default="sampled", description="2dmse: train one shallow layer a step, or every one."
    )
    weights: tuple[float, float] = Field(
        default=(1.0, 1.0), description="2dmse: λt of the last layer and λs of the shallow layer."
    )
    align: Annotated[float, Field(ge=0)] = Field(
        default=1.0, description="2dmse: weight of the KL term; 0 leaves it out."
    )
    detach: bool = Field(
        default=True, description="2dmse: no gradient flows from the KL term to its teacher. The paper: false."
    )
    kl_temperature: Annotated[float, Field(gt=0)] = Field(default=1.0, description="2dmse: temperature of the KL term.")
    teacher: TeacherSpec | None = Field(
        default=None, description="A frozen encoder whose similarities every view follows."
    )
    chunk: Positive | None = Field(
        default=None,
        description="Texts in memory at a time. Activations are recomputed in the backward pass, so that a large batch fits.",
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None,
        description="Default: the backbone's own for 2dmse and if the full size is trained alone, else none. Several processes "
        "draw other units than one.",
    )

    @model_validator(mode="before")
    @classmethod
    def _read_old_temperature(cls, value: Any) -> Any:
        """In 0.1 `temperature` was the KL term's and `scale` the loss's.

        A section with `scale` is of that version. So is one with `objective: 2dmse` and a temperature that no loss has.
        """
        if not isinstance(value, dict) or "temperature" not in value or "kl_temperature" in value:
            return value
        temperature = value["temperature"]
        of_kl_term = value.get("objective") == "2dmse" and isinstance(temperature, int | float)
        if "scale" in value or (of_kl_term and temperature >= SMALLEST_KL_TEMPERATURE):
            fields = {name: field for name, field in value.items() if name != "temperature"}
            message = "the recipe field `temperature` of the KL term is now called `kl_temperature`"
            warnings.warn(message, RenamedFieldWarning, stacklevel=2)
            return fields | {"kl_temperature": temperature}
        return value

    @field_validator("dims")
    @classmethod
    def _check_dims(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError(f"must ascend without repeats, not {list(value)}")
        return value

    @classmethod
    def choose_training_defaults(cls, section: Mapping[str, Any]) -> Mapping[str, Any]:
        """A higher rate for pairs without scores, from which the in-batch loss learns little in a step."""
        return {"learning_rate": PAIR_LEARNING_RATE} if section.get("loss") == "contrastive" else {}

    @property
    def epoch_rule(self) -> EpochRule | None:
        """Three epochs over few pairs without scores, and one over many."""
        return PAIR_EPOCHS if self.loss == "contrastive" else None

    @property
    def trains_full_size_alone(self) -> bool:
        """Whether the backbone is trained without views, whose heads are then computed after the training."""
        is_open = self.shallow_grad_scale is None and self.teacher is None
        return self.objective == "elastic" and self.loss == "contrastive" and is_open

    @property
    def shallow_gradient_share(self) -> float:
        """The share of the shallow layers' gradient that reaches the backbone, where they are trained."""
        if self.objective != "elastic":
            return 1.0
        return SHALLOW_GRADIENT_SHARE if self.shallow_grad_scale is None else self.shallow_grad_scale

    def roles(self) -> tuple[Roles, Roles]:
        """Scored pairs for cosent and angle; anchor, positive and optional hard negatives for contrastive."""
        return LOSS_COLUMNS[self.loss].required, LOSS_COLUMNS[self.loss].optional

    def list_unused_fields(self, has_validation: bool) -> set[str]:
        """Fields of the other objective and of another loss."""
        unused = set() if self.loss == "angle" else {"angle_weights"}
        if self.trains_full_size_alone:
            unused |= {"dims", "head_lr_scale", "shallow_grad_scale"}
        if self.objective == "elastic":
            return unused | {"layers", "weights", "align", "detach", "kl_temperature"}
        unused |= {"head_lr_scale", "shallow_grad_scale"}
        return unused if self.align else unused | {"detach", "kl_temperature"}

    def describe_row_needs(self, columns: Container[str]) -> RowNeeds:
        """Pairs with different scores for cosent and angle; rows or hard negatives to compare with for contrastive."""
        if self.loss == "contrastive":
            needs = RowNeeds.in_batch(("anchor",), ("positive",), tuple(n for n in NEGATIVES if n in columns))
        else:
            needs = RowNeeds(rows=2, distinct=(("score",),), reason="the loss ranks pairs against one another")
        # The teacher's similarities of the texts of one process say nothing with fewer than three texts.
        has_three_columns = self.loss == "contrastive" and bool(needs.negatives)
        return needs._replace(rows_per_process=2 if self.teacher and not has_three_columns else 1)

    def suggest_for_columns(self, columns: Container[str]) -> list[Mistake]:
        """The loss for pairs without scores, and the losses for pairs with scores."""
        if self.loss != "contrastive" and "score" not in columns:
            message = f"{self.loss} needs a score for each pair; for pairs without scores set loss: contrastive"
            return [(("loss",), f"{message}, which reads the columns anchor and positive")]
        if self.loss == "contrastive" and "score" in columns and "anchor" not in columns:
            return [(("loss",), "for pairs with scores leave `loss` out, or set it to cosent or angle")]
        return []

    def extra_datasets(self) -> Mapping[tuple[str, ...], ExtraDataset]:
        """The teacher's unlabelled texts."""
        unlabelled = self.teacher.unlabelled if self.teacher else None
        if unlabelled is None:
            return {}
        return {("teacher", "unlabelled"): ExtraDataset(unlabelled, {"text": "text"}, use="training")}

    def find_mistakes(self, folder: Path) -> list[Mistake]:
        """Also report widths beyond the backbone's own, and a teacher that does not exist."""
        mistakes = super().find_mistakes(folder)
        if self.dims and "dims" in self.model_fields_set:
            misfit = self.find_view_mistake({"dim": max(self.dims)}, folder)
            if misfit:
                mistakes.append((("dims",), misfit.removeprefix("dim: ")))
        if self.teacher and self.teacher.model:
            teacher = self.model_copy(update={"backbone": self.teacher.model})
            mistakes += [
                (("teacher", "model"), message) for _, message in TruncatableSpec.find_mistakes(teacher, folder)
            ]
        return mistakes + self._find_constant_terms()

    def _find_constant_terms(self) -> list[Mistake]:
        """Report weights that leave nothing of the loss, and unlabelled texts too few to have different similarities."""
        mistakes: list[Mistake] = []
        if self.loss == "angle" and not any(self.angle_weights):
            mistakes.append((("angle_weights",), "all are 0, so nothing is learned: give one of them a weight"))
        if self.objective == "2dmse" and not any(self.weights):
            mistakes.append(
                (("weights",), "both are 0, so nothing is learned from the rows: give one of them a weight")
            )
        if self.teacher and self.teacher.unlabelled and self.teacher.texts_per_step < SMALLEST_TEXT_COUNT:
            message = f"{self.teacher.texts_per_step} texts have no similarities to compare: give {SMALLEST_TEXT_COUNT} or more"
            mistakes.append((("teacher", "texts_per_step"), message))
        return mistakes
