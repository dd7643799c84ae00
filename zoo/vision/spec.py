"""The section of a recipe that names an image backbone. Imports no torch, because `zoo check` reads it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from zoo.artefact import weights_look
from zoo.core.atomic_files import read_json_object
from zoo.core.errors import ZooError
from zoo.hub.model_references import locate
from zoo.schema import Section

TIMM_CONFIG = "pretrained_cfg"
"""The field of config.json by which a model of timm is known."""
IMAGE_FIELDS = frozenset({"num_channels", "image_size"})
TEXT_FIELDS = frozenset({"vocab_size", "text_config"})
SideInPixels = Annotated[int, Field(ge=4, le=2048)]


def reads_images_alone(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is that of a model of timm, or of a model of transformers without texts."""
    return TIMM_CONFIG in config or (not TEXT_FIELDS & {*config} and bool(IMAGE_FIELDS & {*config}))


class Vision(Section):
    """`backbone:` for images: exactly one of `build`, `model` and `timm`."""

    build: Literal["resnet"] | None = Field(None, description="A small residual network, trained from scratch.")
    width: Annotated[int, Field(ge=4, le=1024)] = Field(16, description="resnet: channels of the first stage.")
    blocks: tuple[Annotated[int, Field(ge=1, le=50)], ...] = Field(
        (1, 1, 1),
        min_length=1,
        max_length=6,
        description="resnet: number of blocks of each stage. Each stage doubles the channels and halves the side.",
    )
    channels: Literal[1, 3] = Field(3, description="resnet: 1 for grey, 3 for RGB.")
    model: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="A vision model of transformers: Hub id or folder."
    )
    timm: Annotated[str, Field(pattern=r"^[\w.-]+$")] | None = Field(None, description="Name of a timm model.")
    pretrained: bool = Field(True, description="timm: whether to load the pretrained weights.")
    revision: str | None = Field(None, description="model: commit, branch or tag on the Hub.")
    size: SideInPixels | None = Field(
        None, description="Side of the square image in pixels; by default the model's own, or 32."
    )

    @model_validator(mode="before")
    @classmethod
    def _convert_blocks(cls, value: Any) -> Any:
        blocks = value.get("blocks") if isinstance(value, dict) else None
        return {**value, "blocks": tuple(blocks)} if isinstance(blocks, list) else value

    @model_validator(mode="after")
    def _check_one_backbone(self) -> Vision:
        names = [name for name in ("build", "model", "timm") if getattr(self, name) is not None]
        if len(names) != 1:
            raise ValueError(f"give one of build, model and timm, not {' and '.join(names) or 'none'}")
        if self.revision and not self.model:
            raise ValueError("`revision` belongs to `model`: remove it, or name the backbone by `model`")
        return self

    def find_problem(self, folder: Path) -> str | None:
        """Return what is wrong with the backbone, or None. This needs neither torch nor a download.

        A relative path in `model` starts at `folder`.
        """
        if self.timm:
            if importlib.util.find_spec("timm"):
                return None
            return f"timm is not installed, which holds {self.timm}: pip install timm"
        try:
            model_folder = locate(self.model, folder) if self.model else None
            if model_folder is None:
                return None
            if not (model_folder / "config.json").is_file():
                return f"{self.model}: has no config.json, so it is not a model of transformers"
            config = read_json_object(model_folder / "config.json")
            if TIMM_CONFIG in config:
                name = config.get("architecture")
                return f"{self.model}: is a model of timm, which a recipe gives by its name: write `timm: {name}`"
            weights_look.check(str(self.model), model_folder, config)
        except (ZooError, OSError, ValueError) as error:
            return str(error)
        return None
