"""The card and the pictures of a model folder, as `zoo card` makes them."""

from __future__ import annotations

from pathlib import Path

from zoo import pretrained
from zoo.card import plots
from zoo.card.render import render_card, write_card


def render(folder: Path) -> str:
    return render_card(folder, pretrained.read_spec_class(folder))


def write(folder: Path) -> Path:
    return write_card(folder, pretrained.read_spec_class(folder))


def draw(folder: Path) -> list[Path]:
    return plots.draw(folder, pretrained.read_spec_class(folder))
