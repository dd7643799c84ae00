"""Sprites with known sources, drawn by code: the factor grid of dSprites, 3 × 6 × 40 × 32 × 32 = 737,280 images of 64 × 64.

A white square, ellipse or heart on black, by shape, scale, orientation, x and y, in the order of dSprites (the last source
changes fastest). Pixels are 0 or 255, drawn where a pixel's centre is inside. Orientations are 40 equal steps of a full turn,
of which a square shows 10 different ones and an ellipse 20. Rows that a `limit` or `holdout` leaves out are never drawn.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from zoo.core.lazy import lazy
from zoo.data.table import Origin

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy("numpy")

SOURCES = {"shape": 3, "scale": 6, "orientation": 40, "x": 32, "y": 32}
TABLES = {"sprites": ("image", *SOURCES)}
COUNTS = {"sprites": 737_280}
SIDE, WINDOW = 64, 33  # a sprite fits a window, which 32 positions move by one pixel each
BLOCK = 2048


def origin() -> Origin:
    """Drawn here, after Matthey et al.'s dSprites."""
    return Origin("sprites", "1", "CC0 1.0", "https://github.com/google-deepmind/dsprites-dataset")


def rows(table: str) -> Iterator[dict[str, Any]]:
    """The whole grid."""
    return some(table, np.arange(COUNTS[table]))


def some(table: str, positions: np.ndarray) -> Iterator[dict[str, Any]]:
    """The rows at `positions`. An image is the bytes of a PBM file, of which a set bit is black."""
    head = b"P4 %d %d\n" % (SIDE, SIDE)
    for start in range(0, len(positions), BLOCK):
        found = sources(positions[start : start + BLOCK])
        packed = np.packbits(images(found) == 0, axis=-1)
        for bits, values in zip(packed, found.tolist(), strict=True):
            yield {"image": head + bits.tobytes(), **dict(zip(SOURCES, values, strict=True))}


def sources(positions: np.ndarray) -> np.ndarray:
    """(n, 5) sources of places in the grid."""
    return np.stack(np.unravel_index(positions, tuple(SOURCES.values())), axis=1)


def images(sources: np.ndarray) -> np.ndarray:
    """(n, 64, 64) uint8 of (n, 5) sources, in the order of SOURCES."""
    out = np.zeros((len(sources), SIDE, SIDE), dtype=np.uint8)
    shape, scale, turn, x, y = sources.T
    windows = np.lib.stride_tricks.sliding_window_view(out, (WINDOW, WINDOW), axis=(1, 2), writeable=True)
    windows[np.arange(len(sources)), y, x] = _masks()[shape, scale, turn]
    return out


@functools.cache
def _masks() -> np.ndarray:
    """(3, 6, 40, 33, 33) uint8: every sprite in its window."""
    at = np.arange(WINDOW) - WINDOW // 2
    v, u = np.meshgrid(at, at, indexing="ij")
    size = np.linspace(0.5, 1, 6)[:, None, None, None]
    turn = (2 * np.pi * np.arange(40) / 40)[None, :, None, None]
    x = (np.cos(turn) * u + np.sin(turn) * v) / (16 * size)
    y = (np.cos(turn) * v - np.sin(turn) * u) / (16 * size)
    square = np.maximum(abs(x), abs(y)) <= 0.7
    ellipse = x**2 + (y / 0.5) ** 2 <= 1
    a, b = 1.3 * x, 0.15 - 1.3 * y  # the heart's tip is down before it is turned
    heart = (a**2 + b**2 - 1) ** 3 <= a**2 * b**3
    return np.stack([square, ellipse, heart]).astype(np.uint8) * 255
