"""Settings of a classifier with class vectors, for images or for texts. Pydantic only."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from zoo.schema import EncoderSpec, Positive
from zoo.vision.spec import Vision

AIM, PRETRAINED = 0.9, 0.65  # cosines to their vectors that training leads inputs to
Share = Annotated[float, Field(ge=0, lt=1)]
Size = Annotated[int, Field(ge=1, le=1_000_000)]


class ClassifierSpec(EncoderSpec):
    """The part of `encoder:` that names backbone, head, loss, and what becomes of images in training."""

    backbone: Annotated[str, Field(min_length=1)] | Vision = Field(
        description="A sentence encoder (Hub id, folder, package:NAME), or for images {build: resnet}, {model: …} or {timm: …}."
    )
    revision: str | None = None
    max_length: Positive | None = Field(None, description="Texts: tokens; by default the backbone's own limit.")
    head: Literal["equiangular", "softmax"] = Field(
        "equiangular",
        description="softmax: a learned linear head on the backbone's own features, everything else the same.",
    )
    dim: Size = Field(128, description="Components of an embedding.")
    capacity: Size | None = Field(
        None,
        description="Vectors in the basis, of which those beyond the classes are free for new ones; by default at least dim.",
    )
    alpha: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="Stop making the basis at this largest |cos|."
    )
    basis: Literal["stored", "seed"] = Field(
        "stored",
        description="What the folder keeps: the generators of the basis, or how they are made again, bit-equal.",
    )
    temperature: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="τ, which divides cosines in training; the paper: 0.07 for 1000 classes. By default it follows their number.",
    )
    smoothing: Share = Field(0.1, description="Label smoothing.")
    crop: Annotated[int, Field(ge=0, le=64)] = Field(0, description="Images: moved by up to so many pixels.")
    flip: bool = Field(False, description="Images: half of them with left and right exchanged.")
    mixup: Annotated[float, Field(ge=0)] = Field(0.0, description="Images: α of Beta(α, α) for blending; 0: none.")
    cutmix: Annotated[float, Field(ge=0)] = Field(
        0.0, description="The same for pasting; with both, each batch has one of them."
    )
    ema: Share | None = Field(
        None, description="Keep a moving average of the weights, of which this share stays at each step."
    )
    head_rate: Annotated[float, Field(gt=0)] = Field(
        1.0, description="The rate of what is new on top, times the recipe's."
    )
    known: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.95,
        description="Share of the validation rows that `predict` gives an answer; below the cosine of the rest: none of these.",
    )
    twin: bool = Field(
        False, description="Also train a softmax head, for the card, and measure both on the validation rows."
    )

    @model_validator(mode="after")
    def _fits(self) -> ClassifierSpec:
        if self.modality == "text":
            for name in ("crop", "flip", "mixup", "cutmix"):
                if getattr(self, name):
                    raise ValueError(f"`{name}` is for images, and the backbone reads texts")
        elif self.revision or self.max_length:
            raise ValueError(
                "`revision` and `max_length` are those of a text backbone; a vision model's stand in `backbone`"
            )
        if self.twin and self.head == "softmax":
            raise ValueError("`twin` is the softmax head beside the equiangular one: leave it or `head` out")
        return self

    def tau(self, classes: int) -> float:
        """τ. The smoothed target is met where cos/τ of a class is ln((1 - s)(K - 1)/s) above the others'. The default lets that
        be a cosine of AIM for any number of classes K: with the paper's, few classes would stop far from their vectors. On a
        pretrained backbone it is PRETRAINED: who must go all the way forgets which classes are alike."""
        if self.temperature is not None:
            return self.temperature
        fresh = isinstance(self.backbone, Vision) and self.backbone.build
        smoothing = max(self.smoothing, 0.01)
        return (AIM if fresh else PRETRAINED) / math.log((1 - smoothing) * max(2, classes - 1) / smoothing)

    @property
    def modality(self) -> Literal["image", "text"]:
        """What the backbone reads."""
        return "image" if isinstance(self.backbone, Vision) else "text"
