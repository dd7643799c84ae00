"""Sprites with known sources, drawn by code: the factor grid of dSprites, 3 × 6 × 40 × 32 × 32 = 737,280 images of 64 × 64.

An image shows a white square, ellipse or heart on black. The sources are shape, scale, orientation, x and y, in the order of
dSprites: the last source changes fastest. A pixel is 255 if its centre is inside the shape, and 0 otherwise. The orientations are
40 equal steps of a full turn; a square shows 10 different ones and an ellipse 20. Rows that a `limit` or `holdout` leaves out are
not drawn.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from zoo.data.raw_rows import Origin
from zoo.data.sources.builtins import _factor_grid

if TYPE_CHECKING:
    import numpy as np

EXTRA: str | None = None
SOURCES = {"shape": 3, "scale": 6, "orientation": 40, "x": 32, "y": 32}
TABLES = {"sprites": ("image", *SOURCES)}
COUNTS = {"sprites": 737_280}
SIDE, WINDOW = 64, 33  # pixels; a sprite fits a window, and the 32 positions move the window by one pixel each
BLOCK = 2048


def describe_origin() -> Origin:
    """Return the origin: the code here, after dSprites by Matthey et al."""
    return Origin(
        name="sprites", revision="1", licence="CC0 1.0", url="https://github.com/google-deepmind/dsprites-dataset"
    )


def read_rows(table: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of the whole grid."""
    import numpy as np

    return read_rows_at(table, np.arange(COUNTS[table]))


def read_rows_at(table: str, positions: np.ndarray) -> Iterator[dict[str, Any]]:
    """Yield the rows at `positions` (n,). An image is the bytes of a PBM file."""
    return _factor_grid.read_rows_at(positions, SOURCES, _encode_images, BLOCK)


def decode_positions(positions: np.ndarray) -> np.ndarray:
    """Return the sources (n, 5) at positions (n,) of the grid."""
    return _factor_grid.decode_positions(positions, SOURCES)


def render_images(sources: np.ndarray) -> np.ndarray:
    """Return images (n, 64, 64) uint8 for sources (n, 5), which are in the order of SOURCES."""
    import numpy as np

    images = np.zeros((len(sources), SIDE, SIDE), dtype=np.uint8)
    shape, scale, orientation, x, y = sources.T
    windows = np.lib.stride_tricks.sliding_window_view(images, (WINDOW, WINDOW), axis=(1, 2), writeable=True)
    windows[np.arange(len(sources)), y, x] = _render_windows()[shape, scale, orientation]
    return images


def _encode_images(sources: np.ndarray) -> Iterator[bytes]:
    import numpy as np

    header = b"P4 %d %d\n" % (SIDE, SIDE)
    for bits in np.packbits(render_images(sources) == 0, axis=-1):  # in a PBM file a set bit is black
        yield header + bits.tobytes()


@functools.cache
def _render_windows() -> np.ndarray:
    """Return every sprite in its window, (3, 6, 40, 33, 33) uint8."""
    import numpy as np

    pixel = np.arange(WINDOW) - WINDOW // 2
    v, u = np.meshgrid(pixel, pixel, indexing="ij")
    size = np.linspace(0.5, 1, 6)[:, None, None, None]
    angle = (2 * np.pi * np.arange(40) / 40)[None, :, None, None]
    x = (np.cos(angle) * u + np.sin(angle) * v) / (16 * size)
    y = (np.cos(angle) * v - np.sin(angle) * u) / (16 * size)
    square = np.maximum(abs(x), abs(y)) <= 0.7
    ellipse = x**2 + (y / 0.5) ** 2 <= 1
    a, b = 1.3 * x, 0.15 - 1.3 * y  # the tip of the heart points down at orientation 0
    heart = (a**2 + b**2 - 1) ** 3 <= a**2 * b**3
    return np.stack([square, ellipse, heart]).astype(np.uint8) * 255
