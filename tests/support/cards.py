"""The card and the pictures of a model folder, as `zoo card` makes them."""

from __future__ import annotations

from pathlib import Path

from zoo import pretrained
from zoo.card import model_card, plots


def render(folder: Path) -> str:
    return model_card.render(folder, pretrained.read_spec_class(folder))


def write(folder: Path) -> Path:
    return model_card.write(folder, pretrained.read_spec_class(folder))


def draw(folder: Path) -> list[Path]:
    return plots.draw(folder, pretrained.read_spec_class(folder))
