"""Sections of a recipe whose encoder is a vision-language model. Pydantic only."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from zoo.schema import Positive, Section


class VLMSpec(Section):
    """`backbone:`, a vision-language model: exactly one of `build` and `model`."""

    build: Literal["idefics3"] | None = Field(None, description="A small Idefics3, trained from scratch.")
    model: Annotated[str, Field(min_length=1)] | None = Field(None, description="Hub id or folder.")
    revision: str | None = None
    hidden: Annotated[int, Field(ge=16, le=4096, multiple_of=8)] = Field(64, description="build: width of both towers.")
    layers: Annotated[int, Field(ge=1, le=64)] = Field(2, description="build: blocks of the language model.")
    vision_layers: Annotated[int, Field(ge=1, le=64)] = Field(2, description="build: blocks of the vision tower.")
    heads: Annotated[int, Field(ge=1, le=64)] = Field(4, description="build: attention heads of both.")
    patch: Annotated[int, Field(ge=2, le=64)] = Field(7, description="build: side of a patch in pixels.")
    merge: Annotated[int, Field(ge=1, le=8)] = Field(2, description="build: side of the square of patches in a token.")
    vocabulary: Annotated[int, Field(ge=300, le=65536)] = Field(
        512, description="build: tokens of the byte-level BPE that is trained on the training texts."
    )
    size: Annotated[int, Field(ge=8, le=4096)] | None = Field(
        None, description="Resolution: the longest side of an image in pixels; by default the model's own, or 56."
    )
    dtype: Literal["fp32", "bf16", "fp16"] = Field("fp32", description="Of the weights.")
    attention: Literal["eager", "sdpa", "flash_attention_2"] | None = Field(
        None, description="Implementation of attention; by default what transformers chooses."
    )
    max_length: Positive | None = Field(None, description="Tokens that are read of a text; images do not count.")

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        return {"model": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fits(self) -> VLMSpec:
        if (self.build is None) == (self.model is None):
            raise ValueError("give one of build and model")
        if self.revision and not self.model:
            raise ValueError("`revision` is that of a `model`")
        if self.build:
            if self.hidden % (2 * self.heads):
                raise ValueError(f"hidden: {self.hidden} cannot be split into {self.heads} heads of even width")
            if self.side % (self.patch * self.merge):
                raise ValueError(f"size: {self.side} is no multiple of patch × merge, {self.patch * self.merge}")
        return self

    @property
    def side(self) -> int:
        """build: the side of the square image in pixels."""
        return self.size or 56


class Lora(Section):
    """`lora:`, low-rank adapters in place of full fine-tuning. Source: Hu et al., arXiv 2106.09685; DoRA: arXiv 2402.09353."""

    rank: Annotated[int, Field(ge=1, le=1024)] = 8
    alpha: Annotated[float, Field(gt=0)] = 64.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    dora: bool = Field(False, description="Weight-decomposed: magnitude and direction apart.")
    modules: tuple[Annotated[str, Field(pattern=r"^\w+$")], ...] = Field(
        ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        min_length=1,
        description="Last names of the linear maps that are adapted.",
    )
    vision: bool = Field(False, description="Also in the vision tower, and not in the language model alone.")
    keep: Literal["merged", "adapter"] = Field(
        "merged", description="What the model folder holds: whole weights, or the adapter and the name of its base."
    )

    @model_validator(mode="before")
    @classmethod
    def _tuple(cls, value: Any) -> Any:
        modules = value.get("modules") if isinstance(value, dict) else None
        return {**value, "modules": tuple(modules)} if isinstance(modules, list) else value


class Instructions(Section):
    """What stands before a query and before a document, after its images; nothing by default."""

    query: str | None = None
    document: str | None = None


class Share(Instructions):
    """How a set of rows takes part: its weight against the other sets, and instructions in place of the encoder's."""

    weight: Annotated[float, Field(gt=0)] = Field(1.0, description="How often a sub-batch comes from this set.")
