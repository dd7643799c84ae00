"""`TruncatableSpec`: the fields of `encoder:` that choose a text backbone and its cuts. Pydantic only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from zoo.core.errors import ZooError
from zoo.hub import model_references
from zoo.schema import Positive, Section
from zoo.spec import EncoderSpec, Mistake, TextLimit
from zoo.text import architectures, weights_check


class View(Section):
    """A view with the first `layers` blocks and the first `dim` components."""

    layers: Positive | None = Field(None, description="Number of blocks to run.")
    dim: Positive | None = Field(None, description="Number of components to keep.")


class TruncatableSpec(EncoderSpec):
    """Base of the `encoder:` sections with a text backbone whose layers and dimensions can be cut."""

    View = View

    backbone: Annotated[str, Field(min_length=1, description="Hub id, folder, or package:NAME.")]
    revision: str | None = Field(None, description="Commit, tag or branch of the backbone on the Hub.")
    max_length: Positive | None = Field(
        default=None, description="Largest number of tokens of a text. Default: the backbone's own limit."
    )
    prompts: dict[Literal["query", "document"], str] | None = Field(
        default=None,
        description="Text put before each query and each document, in training and evaluation. Default: the backbone's own.",
    )

    @property
    def text_limit(self) -> TextLimit | None:
        """The limit of the backbone, or a lower one."""
        return TextLimit(self.backbone, self.revision, self.max_length, prompts=self.prompts)

    def find_mistakes(self, folder: Path) -> list[Mistake]:
        """Report a backbone that does not exist, cannot be cut or lacks weights, and a `max_length` beyond its positions."""
        try:
            config = self._read_backbone_config(folder)
            if config is None:
                return []
            architectures.read_depth_and_width(config)
            longest = architectures.compute_max_length(config)
        except (ZooError, OSError, ValueError, KeyError) as error:
            return [(("backbone",), str(error))]
        if self.max_length and longest and self.max_length > longest:
            message = f"{self.max_length} is more than the {longest} tokens that {self.backbone} can read"
            return [(("max_length",), message)]
        problem = weights_check.find_problem(self.backbone, folder)
        return [(("backbone",), problem)] if problem else []

    def find_view_mistake(self, view: Mapping[str, Any], folder: Path) -> str | None:
        """Report a view that is deeper or wider than the backbone."""
        try:
            size = self.read_size(folder)
        except (ZooError, OSError, ValueError, KeyError):  # `find_mistakes` reports it
            return None
        return describe_misfit(view.get("layers"), view.get("dim"), *size) if size else None

    def read_size(self, folder: Path) -> tuple[int, int] | None:
        """(depth, width) of a local backbone from its config.json; None for a backbone on the Hub."""
        config = self._read_backbone_config(folder)
        return None if config is None else architectures.read_depth_and_width(config)

    def _read_backbone_config(self, folder: Path) -> dict[str, Any] | None:
        local = model_references.locate(self.backbone, folder)
        return json.loads((local / "config.json").read_text(encoding="utf-8")) if local else None


def describe_misfit(layers: int | None, dim: int | None, depth: int, width: int) -> str | None:
    """Describe why an encoder with `depth` blocks and `width` components lacks this view; None if it has it."""
    for name, value, limit in (("layers", layers, depth), ("dim", dim, width)):
        if value is not None and not 1 <= value <= limit:
            return f"{name}: {value} is outside 1…{limit}, the range of this encoder"
    return None
