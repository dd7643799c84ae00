"""Coloured scenes with known sources, drawn by code: an object in a room, with the factor grid of Shapes3D.

Floor hue, wall hue, object hue (10 each), scale (8), shape (4: cube, cylinder, sphere, capsule) and orientation (15, of the
camera, from -30° to 30°): 480,000 RGB images of 64 × 64, the last source changing fastest. Rays meet the floor, the four walls
and the object in closed form; light comes from one side. An image takes 12 KB: give `limit`. Rows that a `limit` or `holdout`
leaves out are never drawn.
"""

from __future__ import annotations

import colorsys
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from zoo.core.lazy import lazy
from zoo.data.table import Origin

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy("numpy")

SOURCES = {"floor_hue": 10, "wall_hue": 10, "object_hue": 10, "scale": 8, "shape": 4, "orientation": 15}
TABLES = {"scenes": ("image", *SOURCES)}
COUNTS = {"scenes": 480_000}
SIDE = 64
BLOCK = 512
SHADES = 64  # levels of light; a pixel is one of 3 materials at one of them
FLOOR, WALL, OBJECT = range(3)
ROOM = 3.2  # half the side of the room
AWAY, HEIGHT, DOWN, WIDE = (
    3.1,
    1.6,
    0.22,
    0.75,
)  # of the camera: distance, height, tilt in radians, tangent of half its angle
LIGHT = (0.48, 0.6, 0.64)


def origin() -> Origin:
    """Drawn here, after Burgess and Kim's 3D Shapes."""
    return Origin("scenes", "1", "CC0 1.0", "https://github.com/google-deepmind/3d-shapes")


def rows(table: str) -> Iterator[dict[str, Any]]:
    """The whole grid."""
    return some(table, np.arange(COUNTS[table]))


def some(table: str, positions: np.ndarray) -> Iterator[dict[str, Any]]:
    """The rows at `positions`. An image is the bytes of a PPM file."""
    head = b"P6 %d %d 255\n" % (SIDE, SIDE)
    for start in range(0, len(positions), BLOCK):
        found = sources(positions[start : start + BLOCK])
        for pixels, values in zip(images(found), found.tolist(), strict=True):
            yield {"image": head + pixels.tobytes(), **dict(zip(SOURCES, values, strict=True))}


def sources(positions: np.ndarray) -> np.ndarray:
    """(n, 6) sources of places in the grid."""
    return np.stack(np.unravel_index(positions, tuple(SOURCES.values())), axis=1)


def images(sources: np.ndarray) -> np.ndarray:
    """(n, 64, 64, 3) uint8 of (n, 6) sources, in the order of SOURCES."""
    floor, wall, thing, scale, shape, turn = sources.T
    colours = _palette()[np.stack([floor, wall, thing], axis=1)].reshape(len(sources), 3 * SHADES)
    maps = _maps()[scale, shape, turn].reshape(len(sources), -1)
    pixels = np.take_along_axis(colours, maps, axis=1).view(np.uint8)
    return np.ascontiguousarray(pixels.reshape(len(sources), SIDE, SIDE, 4)[..., :3])


@functools.cache
def _palette() -> np.ndarray:
    """(10, SHADES) uint32 that holds the bytes R, G, B, 0 of every hue in every light."""
    hues = np.array([colorsys.hsv_to_rgb(k / 10, 0.85, 1.0) for k in range(10)])
    light = np.linspace(0, 1, SHADES)[:, None]
    colours = np.zeros((10, SHADES, 4), dtype=np.uint8)
    colours[..., :3] = (255 * hues[:, None] * light).round()
    return colours.view(np.uint32)[..., 0]


@functools.cache
def _maps() -> np.ndarray:
    """(8, 4, 15, 64, 64) of what each pixel shows: material × SHADES + light."""
    out = np.empty((8, 4, 15, SIDE, SIDE), dtype=np.int64)
    for k, turn in enumerate(np.radians(np.linspace(-30, 30, 15))):
        eye, rays = _camera(turn)
        far, room, light = _room(eye, rays)
        back = room * SHADES + _level(light)
        for j, size in enumerate(np.linspace(0.6, 1.05, 8)):
            for i, shape in enumerate((_cube, _cylinder, _sphere, _capsule)):
                near, normals = shape(eye, rays, size)
                lit = 0.3 + 0.7 * np.clip(normals @ np.array(LIGHT), 0, 1)
                out[j, i, k] = np.where(near < far, OBJECT * SHADES + _level(lit), back)
    return out


def _level(light: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(light, 0, 1) * (SHADES - 1)).astype(np.int64)


def _camera(turn: float) -> tuple[np.ndarray, np.ndarray]:
    """Where the eye is (3,), and the directions (64, 64, 3) of its rays; y is up."""
    at = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
    v, u = np.meshgrid(-at * WIDE, at * WIDE, indexing="ij")
    up, ahead = v * np.cos(DOWN) - np.sin(DOWN), v * np.sin(DOWN) + np.cos(DOWN)
    rays = np.stack([u * np.cos(turn) - ahead * np.sin(turn), up, -u * np.sin(turn) - ahead * np.cos(turn)], axis=-1)
    return np.array([AWAY * np.sin(turn), HEIGHT, AWAY * np.cos(turn)]), rays


def _room(eye: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances, materials and light of floor and walls."""
    rays = np.where(abs(rays) < 1e-9, 1e-9, rays)
    walls = (np.sign(rays) * ROOM - eye) / rays
    floor = np.where(rays[..., 1] < 0, -eye[1] / rays[..., 1], np.inf)
    side = walls[..., 0] < walls[..., 2]
    wall = np.where(side, walls[..., 0], walls[..., 2])
    shade = np.where(side, np.where(rays[..., 0] > 0, 0.6, 0.75), 0.9)
    is_floor = floor < wall
    return np.where(is_floor, floor, wall), np.where(is_floor, FLOOR, WALL), np.where(is_floor, 1.0, shade)


# -- objects, each of a given size on the floor at the middle of the room: distances (inf where missed) and normals ------

Hit = tuple["np.ndarray", "np.ndarray"]


def _sphere(eye: np.ndarray, rays: np.ndarray, size: float, radius: float = 1.0, height: float = 1.0) -> Hit:
    start = eye - np.array([0, height * size, 0])
    t = _root((rays**2).sum(-1), rays @ start, start @ start - (radius * size) ** 2)
    return t, _unit(start + np.where(np.isfinite(t), t, 0)[..., None] * rays)


def _side(eye: np.ndarray, rays: np.ndarray, radius: float, low: float, high: float) -> Hit:
    """The wall of an upright cylinder."""
    flat, start = rays * np.array([1, 0, 1]), eye * np.array([1, 0, 1])
    t = _root((flat**2).sum(-1), flat @ start, start @ start - radius**2)
    y = eye[1] + np.where(np.isfinite(t), t, 0) * rays[..., 1]
    t = np.where((y >= low) & (y <= high), t, np.inf)
    return t, _unit(start + np.where(np.isfinite(t), t, 0)[..., None] * flat)


def _cylinder(eye: np.ndarray, rays: np.ndarray, size: float) -> Hit:
    top = (2 * size - eye[1]) / np.where(rays[..., 1] == 0, 1e-9, rays[..., 1])
    at = eye + top[..., None] * rays
    lid = np.where((at[..., 0] ** 2 + at[..., 2] ** 2 <= (0.85 * size) ** 2) & (top > 0), top, np.inf)
    return _nearer(_side(eye, rays, 0.85 * size, 0, 2 * size), (lid, np.broadcast_to([0.0, 1.0, 0.0], rays.shape)))


def _capsule(eye: np.ndarray, rays: np.ndarray, size: float) -> Hit:
    trunk = _side(eye, rays, 0.55 * size, 0.55 * size, 1.75 * size)
    ends = (_sphere(eye, rays, size, 0.55, height) for height in (0.55, 1.75))
    return functools.reduce(_nearer, ends, trunk)


def _cube(eye: np.ndarray, rays: np.ndarray, size: float) -> Hit:
    half = 0.8 * size
    low, high = np.array([-half, 0, -half]), np.array([half, 2 * half, half])
    safe = np.where(abs(rays) < 1e-9, 1e-9, rays)
    near = np.minimum((low - eye) / safe, (high - eye) / safe)
    far = np.maximum((low - eye) / safe, (high - eye) / safe).min(-1)
    axis = near.argmax(-1)
    t = np.where(near.max(-1) <= far, near.max(-1), np.inf)
    return t, -np.sign(rays) * (axis[..., None] == np.arange(3))


def _root(a: np.ndarray, b: np.ndarray, c: float) -> np.ndarray:
    """The smaller t of a t² + 2 b t + c = 0, inf where there is none."""
    inside = b**2 - a * c
    return np.where(inside >= 0, (-b - np.sqrt(np.maximum(inside, 0))) / np.maximum(a, 1e-12), np.inf)


def _nearer(one: Hit, other: Hit) -> Hit:
    first = one[0] <= other[0]
    return np.where(first, one[0], other[0]), np.where(first[..., None], one[1], other[1])


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
