"""The `encoder:` section of a classifier with class vectors, for images or for texts. Pydantic only."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from zoo.schema import Positive, Renamed, Roles
from zoo.spec import FREE_BASELINES, EncoderSpec, EpochRule, Mistake, RowNeeds, TextLimit
from zoo.text import weights_check
from zoo.vision.spec import Vision

# The cosine with its class vector that training leads an input to: of a backbone from scratch, and of a pretrained one.
TARGET_COSINE, PRETRAINED_TARGET_COSINE = 0.9, 0.65
# A backbone from scratch needs many passes over few rows, a pretrained one a few, at a rate that keeps what it knows.
SCRATCH_EPOCHS = EpochRule(rows_read=60_000, least=4, most=60)
PRETRAINED_EPOCHS = EpochRule(rows_read=10_000, least=3, most=10)
PRETRAINED_TRAINING = {"learning_rate": 5e-5, "schedule": "cosine", "batch_size": 32, "weight_decay": 0.01}
TEXT_TRAINING = {**PRETRAINED_TRAINING, "learning_rate": 2e-4}
TEXT_WIDTH = 384
"""The rate of texts is for networks of so many components. For wider ones it falls as the width grows, because Adam's steps in a
matrix add up over its inputs (Yang et al., "Tensor Programs V", arXiv 2203.03466, table 3)."""
START_ROWS, MOST_START_SHARE = 500, 0.5
"""The weights before training count as so many rows in the final weights of a text backbone, and for at most this share."""
SIDE_PER_CROP = 8  # training images of a backbone from scratch are shifted by up to an eighth of their side
Share = Annotated[float, Field(ge=0, lt=1)]
Size = Annotated[int, Field(ge=1, le=1_000_000)]


class Spec(EncoderSpec):
    """The `encoder:` section of a classifier with fixed class vectors: backbone, head, loss, and augmentation of images."""

    training_defaults = {"learning_rate": 2e-3, "schedule": "cosine"}
    recognises = True
    free_baselines = (*FREE_BASELINES, "baselines:FrozenVectors", "baselines:SameNetwork")
    pictures = {"gram": "plots:draw_gram", "confusion": "plots:draw_confusion", "calibration": "plots:draw_calibration"}
    renamed_fields = {
        "head_rate": Renamed("head_lr_scale"),
        "known": Renamed("answer_rate"),
        "twin": Renamed("train_baseline"),
    }

    family: Literal["equiangular"]
    backbone: Annotated[str, Field(min_length=1)] | Vision = Field(
        description="Texts: a sentence encoder (Hub id, folder or package:NAME). Images: {build: resnet}, {model: …}, {timm: …}."
    )
    revision: str | None = Field(None, description="Texts: revision of the backbone on the Hub.")
    max_length: Positive | None = Field(
        None, description="Texts: longest input in tokens; by default the backbone's own limit."
    )
    head: Literal["equiangular", "softmax"] = Field(
        "equiangular",
        description="equiangular: fixed class vectors. softmax: a learned linear classifier on the backbone's features.",
    )
    dim: Size = Field(128, description="Components of an embedding.")
    capacity: Size | None = Field(
        None,
        description="Vectors in the basis. Those that no class uses are free for new classes. "
        "By default the larger of dim and the number of classes.",
    )
    alpha: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="Stop the search for the basis once no |cos| between two vectors is larger."
    )
    basis: Literal["stored", "seed"] = Field(
        "stored",
        description="stored: the model folder holds the basis. seed: it holds the seed, and loading makes the same bits again.",
    )
    temperature: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Training divides cosines by this τ; the paper uses 0.07 for 1000 classes. "
        "By default it follows from the number of classes.",
    )
    smoothing: Share = Field(0.1, description="Label smoothing.")
    crop: Annotated[int, Field(ge=0, le=64)] | None = Field(
        None,
        description="Images: training images are shifted by up to this many pixels. "
        "By default an eighth of the side for a backbone from scratch, else 0.",
    )
    flip: bool = Field(False, description="Images: half of the training images are mirrored, left to right.")
    mixup: Annotated[float, Field(ge=0)] = Field(
        0.0, description="Images: α of Beta(α, α), from which mixup draws its weights; 0 turns mixup off."
    )
    cutmix: Annotated[float, Field(ge=0)] = Field(
        0.0, description="Images: the same α for CutMix. With both, each batch uses one of them."
    )
    ema: Share | None = Field(
        None,
        description="Keep an exponential moving average of the weights with this decay, and use it after training.",
    )
    start_share: Share | None = Field(
        None,
        description="Share of the weights before training in the final weights, which are their average (WiSE-FT). "
        "By default 500 / rows for a text backbone with class vectors, at most 0.5; else 0.",
    )
    head_lr_scale: Annotated[float, Field(gt=0)] = Field(
        1.0, description="Learning rate of the new layers on top of the backbone, as a multiple of the recipe's."
    )
    answer_rate: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.95,
        description="Share of the validation rows that `predict` answers. It sets the threshold below which the answer is None.",
    )
    train_baseline: bool = Field(
        False, description="Also train a softmax head, and show the scores of both on the validation rows in the card."
    )

    @model_validator(mode="after")
    def _check_fields_together(self) -> Spec:
        if self.modality == "text":
            for name in ("crop", "flip", "mixup", "cutmix"):
                if getattr(self, name):
                    raise ValueError(f"`{name}` is for images, and this backbone reads texts: leave it out")
        elif self.revision or self.max_length:
            raise ValueError(
                "`revision` and `max_length` are for text backbones; give the options of a vision model inside `backbone`"
            )
        if self.start_share and (self.head == "softmax" or self.has_random_backbone):
            raise ValueError(
                "`start_share` averages with the weights before training, and here these are random: leave it out, or use a "
                "pretrained backbone with `head: equiangular`"
            )
        if self.train_baseline and self.head == "softmax":
            raise ValueError(
                "`train_baseline` trains a softmax head beside the equiangular one: leave `train_baseline` or `head` out"
            )
        return self

    def suggest_when_worse(self, facts: Mapping[str, float]) -> str:
        """A pretrained backbone instead of one from scratch, or a longer training."""
        if self.modality == "image" and getattr(self.backbone, "build", None):
            return "try more `training.epochs`, or a pretrained `backbone: {model: …}`"
        return "try more `training.epochs`, or a lower `training.learning_rate`"

    @classmethod
    def choose_training_defaults(cls, section: Mapping[str, Any]) -> Mapping[str, Any]:
        """A far lower rate for a pretrained backbone than for one from scratch."""
        backbone = section.get("backbone")
        if isinstance(backbone, str):
            return TEXT_TRAINING
        is_random = isinstance(backbone, Mapping) and (backbone.get("build") or backbone.get("pretrained") is False)
        return cls.training_defaults if is_random else PRETRAINED_TRAINING

    @property
    def epoch_rule(self) -> EpochRule:
        """More epochs over few images from random weights than of a pretrained backbone."""
        return SCRATCH_EPOCHS if self.has_random_backbone else PRETRAINED_EPOCHS

    @property
    def has_random_backbone(self) -> bool:
        """Whether the backbone starts from random weights, of this package or of another."""
        return self.is_from_scratch or (isinstance(self.backbone, Vision) and not self.backbone.pretrained)

    @property
    def is_from_scratch(self) -> bool:
        """Whether the backbone starts from random weights that this package draws."""
        return isinstance(self.backbone, Vision) and self.backbone.build is not None

    def compute_crop(self, side: int) -> int:
        """Return the field `crop`, or its default for images of `side` pixels."""
        if self.crop is not None:
            return self.crop
        return side // SIDE_PER_CROP if self.is_from_scratch else 0

    def compute_start_share(self, row_count: int) -> float:
        """Return the field `start_share`, or its default for so many training rows.

        The average of the weights before and after fine-tuning keeps more of the backbone, and learns nearly as much
        (Wortsman et al., "Robust fine-tuning of zero-shot models", arXiv 2109.01903, section 3).
        """
        if self.start_share is not None:
            return self.start_share
        if self.head == "softmax" or self.modality == "image":
            return 0.0
        return round(min(MOST_START_SHARE, START_ROWS / max(1, row_count)), 4)

    def compute_temperature(self, class_count: int) -> float:
        """Return the temperature τ: the field `temperature`, or a default that follows from the number of classes K.

        With label smoothing s, the loss is least when cos/τ of the right class is ln((1 − s)(K − 1)/s) above the others'. The
        default τ makes this happen at a cosine of TARGET_COSINE, for any K. With the paper's τ = 0.07, training on few
        classes would stop far from the class vectors. A pretrained backbone is led to PRETRAINED_TARGET_COSINE only,
        because going further makes it forget which classes are alike.
        """
        if self.temperature is not None:
            return self.temperature
        target_cosine = TARGET_COSINE if self.is_from_scratch else PRETRAINED_TARGET_COSINE
        smoothing = max(self.smoothing, 0.01)
        return target_cosine / math.log((1 - smoothing) * max(2, class_count - 1) / smoothing)

    @property
    def modality(self) -> Literal["image", "text"]:
        """The kind of input that the backbone reads."""
        return "image" if isinstance(self.backbone, Vision) else "text"

    @property
    def modalities(self) -> tuple[str, ...]:
        """The kinds of input that `encode` takes: the one of the backbone."""
        return (self.modality,)

    @property
    def text_limit(self) -> TextLimit | None:
        """The limit of a text backbone, or a lower one; None for images."""
        return None if isinstance(self.backbone, Vision) else TextLimit(self.backbone, self.revision, self.max_length)

    def roles(self) -> tuple[Roles, Roles]:
        """The required columns: an image or a text, and its label. There are no optional ones."""
        return {self.modality: self.modality, "label": "label"}, {}

    def list_unused_fields(self, has_validation: bool) -> set[str]:
        """Fields of the other modality, of the other head, of another kind of backbone, and of absent validation rows."""
        unused = set() if has_validation else {"answer_rate"}
        unused |= {"crop", "flip", "mixup", "cutmix"} if self.modality == "text" else set()
        if self.head == "softmax":
            unused |= {"dim", "capacity", "alpha", "basis", "temperature", "start_share"}
        if isinstance(self.backbone, Vision):
            of_resnet = {"backbone.width", "backbone.blocks", "backbone.channels"}
            unused |= set() if self.backbone.build else of_resnet
            unused |= set() if self.backbone.timm else {"backbone.pretrained"}
        return unused

    def describe_row_needs(self, columns: Container[str]) -> RowNeeds:
        """Different inputs of different classes; the batch normalisation of a network from scratch needs a second row."""
        reason = "the batch normalisation of a network from scratch needs other rows"
        return RowNeeds(rows=2 if self.is_from_scratch else 1, distinct=((self.modality,), ("label",)), reason=reason)

    def find_mistakes(self, folder: Path) -> list[Mistake]:
        """Report a backbone that does not exist, and an `alpha` below the Welch bound."""
        mistakes: list[Mistake] = []
        if isinstance(self.backbone, Vision):
            problem = self.backbone.find_problem(folder)
        else:
            problem = weights_check.find_problem(self.backbone, folder)
        if problem:
            mistakes.append((("backbone",), problem))
        if self.alpha is not None and self.capacity:
            bound = compute_welch_bound(self.capacity, self.dim)
            if bound > self.alpha:
                vectors = f"{self.capacity} vectors in {self.dim} dimensions"
                hint = "raise alpha or dim, or lower capacity"
                mistakes.append((("alpha",), f"{vectors} cannot be below the Welch bound, {bound:.4f}: {hint}"))
        return mistakes


def compute_welch_bound(count: int, dim: int) -> float:
    """Return a lower bound of the largest |cos| between `count` unit vectors in `dim` dimensions.

    The bound is 0 up to `dim` vectors, and Welch's bound above. Welch's bound cannot be reached by more than dim·(dim + 1)/2
    vectors; there the result is at least 1/√dim (Rankin).
    """
    if count <= dim:
        return 0.0
    bound = math.sqrt((count - dim) / (dim * (count - 1)))
    return max(bound, dim**-0.5) if count > dim * (dim + 1) / 2 else bound
