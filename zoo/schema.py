"""What every section of a recipe shares, and the sections that no family changes.

Imports pydantic only, so that a recipe can be checked in a fraction of a second.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Kind = Literal["text", "texts", "number", "label", "image", "vector", "id", "ids", "caption", "captions", "pictures"]
"""What a column must hold: `text` a non-empty string, `texts` a non-empty list of them, `number` a finite float, `label` a
string or integer, `image` whatever Pillow can open, `vector` a list of finite numbers, as many in every row, `id` a string or
integer used as a key, `ids` a list of them, which may be empty or missing; a single one is a list of one. `caption` is a text
that may be missing or empty, `captions` a list of such, `pictures` a list of images, some perhaps missing, that are opened only
where they are used; a single one is a list of one."""


class Section(BaseModel):
    """Base of all recipe sections: frozen, and a key it does not know is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


Positive = Annotated[int, Field(ge=1)]


class Training(Section):
    """`training:`, the settings that all gradient-trained families share. Steps are optimiser steps."""

    epochs: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Passes over the data; by default 1, or what the family makes of the data's size."
    )
    max_steps: Positive | None = Field(
        None, description="Stop after this many optimiser steps, whatever `epochs` says."
    )
    batch_size: Positive = Field(64, description="Rows per optimiser step over all processes and accumulation steps.")
    gradient_accumulation: Positive = Field(1, description="Parts that `batch_size` is run in; it must divide it.")
    learning_rate: Annotated[float, Field(gt=0, lt=10)] = 2e-5
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: Annotated[float, Field(ge=0, lt=1)] = Field(0.1, description="Share of the steps.")
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field("auto", description="`auto` uses bf16 where it is fast.")
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    checkpoint_every: Positive | None = Field(None, description="Steps between checkpoints; by default ten a run.")
    early_stop: Positive | None = Field(None, description="Stop after this many validations without a better loss.")
    keep_best: bool = Field(True, description="With a validation split: keep the weights of the lowest loss.")

    @field_validator("gradient_accumulation")
    @classmethod
    def _divides(cls, value: int, info: ValidationInfo) -> int:
        if (size := info.data.get("batch_size")) and size % value:
            raise ValueError(f"must divide batch_size: {size} rows cannot be run in {value} equal parts")
        return value


class Card(Section):
    """`card:`, what only the author can know about the model."""

    license: str = "other"
    language: str | tuple[str, ...] = "en"
    tags: tuple[str, ...] = ()
    summary: str = ""
    title: str | None = None


class Publish(Section):
    """`publish:`, where the finished model goes."""

    repo: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$", description="owner/name, as the Hub has it")]
    private: bool = True


class EncoderSpec(Section):
    """Base of every family's `encoder:` section."""

    family: str
