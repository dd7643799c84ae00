"""`backbone:` of a family that reads images. Pydantic only."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from zoo.core.errors import ZooError
from zoo.hub.model_references import locate
from zoo.schema import Section

Side = Annotated[int, Field(ge=4, le=2048)]


class Vision(Section):
    """`backbone:` for images: exactly one of `build`, `model` and `timm`."""

    build: Literal["resnet"] | None = Field(None, description="A small residual network, trained from scratch.")
    width: Annotated[int, Field(ge=4, le=1024)] = Field(16, description="resnet: channels of the first stage.")
    blocks: tuple[Annotated[int, Field(ge=1, le=50)], ...] = Field(
        (1, 1, 1),
        min_length=1,
        max_length=6,
        description="resnet: blocks by stage; each has twice the channels, half the side.",
    )
    channels: Literal[1, 3] = Field(3, description="resnet: grey or RGB.")
    model: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="A vision model of transformers: Hub id or folder."
    )
    timm: Annotated[str, Field(pattern=r"^[\w.-]+$")] | None = Field(None, description="A model of timm, by name.")
    pretrained: bool = Field(True, description="timm: with its weights.")
    revision: str | None = None
    size: Side | None = Field(
        None, description="Side of the square image in pixels; by default the model's own, or 32."
    )

    @model_validator(mode="before")
    @classmethod
    def _tuple(cls, value: Any) -> Any:
        blocks = value.get("blocks") if isinstance(value, dict) else None
        return {**value, "blocks": tuple(blocks)} if isinstance(blocks, list) else value

    @model_validator(mode="after")
    def _one(self) -> Vision:
        given = [name for name in ("build", "model", "timm") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of build, model and timm, not {' and '.join(given) or 'none'}")
        if self.revision and not self.model:
            raise ValueError("`revision` is that of a `model`")
        return self

    def find_problem(self, folder: Path) -> str | None:
        """What is wrong with the backbone, without a download; None if nothing is. A relative path starts at `folder`."""
        if self.timm:
            is_installed = importlib.util.find_spec("timm") is not None
            return None if is_installed else f"timm is not installed, which holds {self.timm}: pip install timm"
        try:
            place = locate(self.model, folder) if self.model else None
        except ZooError as error:
            return str(error)
        if place is not None and not (place / "config.json").is_file():
            return f"{self.model}: has no config.json, so it is not a model of transformers"
        return None
