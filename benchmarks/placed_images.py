"""Images that are placed on a canvas of 64 × 64 pixels, with known sources: the development sets for autoencoders.

They share nothing with the sets that zoo draws by code, except that some sources have the same kind.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

SIDE = 64
SCALES = (20, 24, 28, 32)
PLACES, HUES = 8, 8
SOURCES = {
    "placed icons": ("icon", "scale", "x", "y", "brightness"),
    "coloured digits": ("digit", "x", "y", "hue", "background"),
}


def draw_rows(name: str, shapes: Sequence[np.ndarray], count: int, seed: int) -> list[dict[str, Any]]:
    """Return rows with an image and its sources, drawn at random.

    Args:
        name: a key of SOURCES.
        shapes: grey images (h, w) uint8, whose bright pixels are the shape.
        count: the number of rows.
        seed: of the random sources.
    """
    generator = np.random.default_rng(seed)
    sizes = (
        len(shapes),
        *((len(SCALES), PLACES, PLACES, 4) if name == "placed icons" else (PLACES, PLACES, HUES, HUES)),
    )
    draw = _draw_icon if name == "placed icons" else _draw_digit
    rows = []
    for _ in range(count):
        values = [int(generator.integers(size)) for size in sizes]
        rows.append({"image": draw(shapes[values[0]], *values[1:]), **dict(zip(SOURCES[name], values, strict=True))})
    return rows


def _draw_icon(shape: np.ndarray, scale: int, x: int, y: int, brightness: int) -> Image.Image:
    mask = _place(shape, SCALES[scale], x, y)
    return Image.fromarray((mask * (0.4 + 0.2 * brightness)).astype(np.uint8))


def _draw_digit(shape: np.ndarray, x: int, y: int, hue: int, background: int) -> Image.Image:
    mask = _place(shape, SCALES[2], x, y)[..., None] / 255
    ink, paper = (
        255 * np.array(colorsys.hsv_to_rgb(number / HUES, 0.7, value))
        for number, value in ((hue, 1.0), (background, 0.5))
    )
    return Image.fromarray((mask * ink + (1 - mask) * paper).astype(np.uint8))


def _place(shape: np.ndarray, side: int, x: int, y: int) -> np.ndarray:
    """Return a canvas (64, 64) with a shape of `side` pixels, at one of the places of a grid."""
    canvas = np.zeros((SIDE, SIDE), dtype=np.float64)
    left, top = (round(place * (SIDE - side) / (PLACES - 1)) for place in (x, y))
    canvas[top : top + side, left : left + side] = np.asarray(Image.fromarray(shape).resize((side, side)))
    return canvas
