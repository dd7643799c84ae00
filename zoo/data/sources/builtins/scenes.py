"""Coloured scenes with known sources, drawn by code: an object in a room, with the factor grid of Shapes3D.

The sources are floor hue, wall hue and object hue (10 values each), scale (8), shape (4: cube, cylinder, sphere, capsule) and
orientation (15, of the camera, from -30° to 30°). The grid has 480,000 RGB images of 64 × 64; the last source changes fastest. An
image takes 12 KB, so give `limit`. Rows that a `limit` or `holdout` leaves out are not drawn.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from zoo.data.formats.image_files import encode_pnm
from zoo.data.raw_rows import Origin
from zoo.data.sources.builtins import _factor_grid

if TYPE_CHECKING:
    import numpy as np

EXTRA: str | None = None
SOURCES = {"floor_hue": 10, "wall_hue": 10, "object_hue": 10, "scale": 8, "shape": 4, "orientation": 15}
TABLES = {"scenes": ("image", *SOURCES)}
COUNTS = {"scenes": 480_000}
BLOCK = 512


def describe_origin() -> Origin:
    """Return the origin: the code here, after 3D Shapes by Burgess and Kim."""
    return Origin(name="scenes", revision="1", licence="CC0 1.0", url="https://github.com/google-deepmind/3d-shapes")


def read_rows(table: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of the whole grid."""
    import numpy as np

    return read_rows_at(table, np.arange(COUNTS[table]))


def read_rows_at(table: str, positions: np.ndarray) -> Iterator[dict[str, Any]]:
    """Yield the rows at `positions` (n,). An image is the bytes of a PPM file."""
    return _factor_grid.read_rows_at(positions, SOURCES, _encode_images, BLOCK)


def decode_positions(positions: np.ndarray) -> np.ndarray:
    """Return the sources (n, 6) at positions (n,) of the grid."""
    return _factor_grid.decode_positions(positions, SOURCES)


def render_images(sources: np.ndarray) -> np.ndarray:
    """Return images (n, 64, 64, 3) uint8 for sources (n, 6), which are in the order of SOURCES."""
    import numpy as np

    from zoo.data.sources.builtins._ray_tracer import LIGHT_LEVELS, SIDE, trace_scenes

    floor, wall, thing, scale, shape, orientation = sources.T
    hues = np.stack([floor, wall, thing], axis=1)  # in the order of the materials
    colours = _compute_palette(LIGHT_LEVELS)[hues].reshape(len(sources), 3 * LIGHT_LEVELS)
    scenes = trace_scenes()[scale, shape, orientation].reshape(len(sources), -1)
    pixels = np.take_along_axis(colours, scenes, axis=1).view(np.uint8)
    return np.ascontiguousarray(pixels.reshape(len(sources), SIDE, SIDE, 4)[..., :3])


def _encode_images(sources: np.ndarray) -> Iterator[bytes]:
    for pixels in render_images(sources):
        height, width, channels = pixels.shape
        yield encode_pnm(pixels.tobytes(), width, height, channels)


@functools.cache
def _compute_palette(light_levels: int) -> np.ndarray:
    """Return the colours (10, light_levels) uint32 of each hue in each light. The four bytes are R, G, B and 0."""
    import colorsys

    import numpy as np

    hues = np.array([colorsys.hsv_to_rgb(k / 10, 0.85, 1.0) for k in range(10)])
    light = np.linspace(0, 1, light_levels)[:, None]
    colours = np.zeros((10, light_levels, 4), dtype=np.uint8)
    colours[..., :3] = (255 * hues[:, None] * light).round()
    return colours.view(np.uint32)[..., 0]
