"""`TruncatableSpec`: the fields of `encoder:` that choose a text backbone and its cuts. Pydantic only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from zoo.core.errors import ZooError
from zoo.schema import Positive, Section
from zoo.text import architectures
from zoo.text.text_spec import TextSpec


class View(Section):
    """A view with the first `layers` blocks and the first `dim` components."""

    layers: Positive | None = Field(None, description="Number of blocks to run.")
    dim: Positive | None = Field(None, description="Number of components to keep.")


class TruncatableSpec(TextSpec):
    """Base of the `encoder:` sections with a text backbone whose layers and dimensions can be cut."""

    View = View

    def check_architecture(self, config: Mapping[str, Any]) -> None:
        """Raise ZooError for an architecture that cannot be cut."""
        architectures.read_depth_and_width(config)

    def find_view_mistake(self, view: Mapping[str, Any], folder: Path) -> str | None:
        """Report a view that is deeper or wider than the backbone."""
        try:
            size = self.read_size(folder)
        except (ZooError, OSError, ValueError, KeyError):  # `find_mistakes` reports it
            return None
        return describe_misfit(view.get("layers"), view.get("dim"), *size) if size else None

    def read_size(self, folder: Path) -> tuple[int, int] | None:
        """(depth, width) of a local backbone from its config.json; None for a backbone on the Hub."""
        config = self.read_backbone_config(folder)
        return None if config is None else architectures.read_depth_and_width(config)


def describe_misfit(layers: int | None, dim: int | None, depth: int, width: int) -> str | None:
    """Describe why an encoder with `depth` blocks and `width` components lacks this view; None if it has it."""
    for name, value, limit in (("layers", layers, depth), ("dim", dim, width)):
        if value is not None and not 1 <= value <= limit:
            return f"{name}: {value} is outside 1…{limit}, the range of this encoder"
    return None
