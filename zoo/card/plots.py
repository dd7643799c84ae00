"""Draw the pictures of a model folder, and say in words what each of them shows.

The same record gives the same bytes: a PNG contains no date, no version and no setting of the user's own matplotlib.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from zoo.card import run_record
from zoo.card.run_record import Record
from zoo.card.style import DPI, STYLE
from zoo.core import atomic_files
from zoo.spec import EncoderSpec

SHARED = {
    "grid": "zoo.card.grid_plot:draw_grid",
    "quality-speed": "zoo.card.speed_plot:draw_quality_speed",
    "loss": "zoo.card.loss_plot:draw_loss",
    "health": "zoo.card.health_plot:draw_health",
}
"""The pictures of all families: name → `module:function`."""


class Picture(NamedTuple):
    """The functions of a picture. Both take the Record.

    `draw` returns a Figure, or None if the record does not support the picture, for example if it has a single view.
    `describe` returns one or two sentences with the finding, for readers who cannot see the picture.
    """

    draw: Callable[[Record], Any]
    describe: Callable[[Record], str]


def list_pictures(spec_class: type[EncoderSpec]) -> dict[str, Picture]:
    """Return the pictures of a family by name: those of all families, then its own.

    A function `draw_X` has a function `describe_X` beside it in its module.
    """
    pictures = {}
    for name, reference in SHARED.items():
        module, _, function = reference.partition(":")
        loaded = importlib.import_module(module)
        pictures[name] = Picture(getattr(loaded, function), getattr(loaded, _name_description(function)))
    for name, reference in spec_class.pictures.items():
        load = spec_class.load_family_attribute
        pictures[name] = Picture(load(reference), load(_name_description(reference)))
    return pictures


def _name_description(reference: str) -> str:
    return reference.replace("draw_", "describe_")


def draw(folder: Path, spec_class: type[EncoderSpec]) -> list[Path]:
    """Draw the pictures into `folder`/plots and return their paths.

    A picture that the record does not support is not drawn; an older file of that name is removed. Raise ArtefactError if
    the record cannot be read.
    """
    record = run_record.read(folder)
    paths = []
    for name, picture in list_pictures(spec_class).items():
        path = folder / "plots" / f"{name}.png"
        if save_picture(functools.partial(picture.draw, record), path):
            paths.append(path)
        else:
            path.unlink(missing_ok=True)
    return paths


def save_picture(draw: Callable[[], Any], path: Path) -> bool:
    """Write the Figure that `draw` returns as a PNG file in the look of a card. Return whether there was something to draw."""
    import matplotlib.style

    with matplotlib.style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name in a script that the font lacks
        figure = draw()
        if figure is None:
            return False
        with atomic_files.replace_file(path) as partial:
            figure.savefig(partial, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    return True
