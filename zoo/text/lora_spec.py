"""`LoraSpec`: the fields of a low-rank adapter, for every family that trains one. Pydantic only."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from zoo.schema import Section


class LoraSpec(Section):
    """`lora:`, a low-rank adapter instead of full fine-tuning. Source: Hu et al., arXiv 2106.09685; DoRA: arXiv 2402.09353."""

    rank: Annotated[int, Field(ge=1, le=1024)] = Field(8, description="Rank of the two matrices of a layer.")
    alpha: Annotated[float, Field(gt=0)] = Field(64.0, description="The adapter is multiplied by `alpha / rank`.")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.1, description="Dropout before the adapter, in training.")
    dora: bool = Field(False, description="Use DoRA: train magnitude and direction of the weights separately.")
    keep: Literal["merged", "adapter"] = Field(
        "merged",
        description="merged: the model folder holds all weights; adapter: the adapter and the name of its backbone.",
    )


class TextLora(LoraSpec):
    """`lora:` of a text backbone."""

    rank: Annotated[int, Field(ge=1, le=1024)] = Field(16, description="Rank of the two matrices of a layer.")
    alpha: Annotated[float, Field(gt=0)] = Field(32.0, description="The adapter is multiplied by `alpha / rank`.")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="Dropout before the adapter, in training.")
    targets: tuple[Annotated[str, Field(pattern=r"^\w+$")], ...] | Literal["auto"] = Field(
        "auto",
        description="Last names of the linear layers that get an adapter. `auto`: every linear layer inside the blocks; the "
        "saved recipe lists their names.",
    )

    @model_validator(mode="before")
    @classmethod
    def _read_list(cls, value: Any) -> Any:
        targets = value.get("targets") if isinstance(value, dict) else None
        return {**value, "targets": tuple(targets)} if isinstance(targets, list) else value
