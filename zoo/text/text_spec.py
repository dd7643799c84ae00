"""`TextSpec`: the fields of `encoder:` that choose a text backbone and what it reads. Pydantic only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from zoo.core.errors import ZooError
from zoo.hub import model_references
from zoo.schema import Positive
from zoo.spec import EncoderSpec, Mistake, TextLimit
from zoo.text import architectures, weights_check


class TextSpec(EncoderSpec):
    """Base of the `encoder:` sections with a Transformer backbone that reads texts."""

    has_source_prompts = True

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

    def check_architecture(self, config: Mapping[str, Any]) -> None:
        """Raise ZooError for a config.json that the family cannot use. Default: any will do."""

    def find_mistakes(self, folder: Path) -> list[Mistake]:
        """Report a backbone that does not exist, does not fit or lacks weights, and a `max_length` beyond its positions."""
        try:
            config = self.read_backbone_config(folder)
            if config is None:
                return []
            self.check_architecture(config)
            longest = architectures.compute_max_length(config)
        except (ZooError, OSError, ValueError, KeyError) as error:
            return [(("backbone",), str(error))]
        if self.max_length and longest and self.max_length > longest:
            message = f"{self.max_length} is more than the {longest} tokens that {self.backbone} can read"
            return [(("max_length",), message)]
        problem = weights_check.find_problem(self.backbone, folder)
        return [(("backbone",), problem)] if problem else []

    def read_backbone_config(self, folder: Path) -> dict[str, Any] | None:
        """Return the config.json of a local backbone; None for a backbone on the Hub."""
        local = model_references.locate(self.backbone, folder)
        return json.loads((local / "config.json").read_text(encoding="utf-8")) if local else None
