"""Trace the scenes of `scenes.py`: rays from a camera meet the floor, the four walls and one object in closed form.

Light comes from one side. The module imports numpy, so it must be imported only where images are drawn.
"""

from __future__ import annotations

import functools

import numpy as np

SIDE = 64  # pixels
LIGHT_LEVELS = 64
FLOOR, WALL, OBJECT = range(3)  # materials; a pixel shows one material at one level of light
ROOM = 3.2  # half the side of the room
CAMERA_DISTANCE, CAMERA_HEIGHT = 3.1, 1.6
CAMERA_TILT, CAMERA_TANGENT = 0.22, 0.75  # tilt in radians; tangent of half the angle of view
LIGHT = (0.48, 0.6, 0.64)  # direction to the light, of length 1

Hit = tuple[np.ndarray, np.ndarray]
"""Distances (64, 64), infinite where a ray misses the object, and normals (64, 64, 3)."""


@functools.cache
def trace_scenes() -> np.ndarray:
    """Return what each pixel shows, (8 scales, 4 shapes, 15 orientations, 64, 64) int64: material × LIGHT_LEVELS + light."""
    scenes = np.empty((8, 4, 15, SIDE, SIDE), dtype=np.int64)
    for k, angle in enumerate(np.radians(np.linspace(-30, 30, 15))):
        eye, rays = _aim_camera(angle)
        room_distance, material, room_light = _trace_room(eye, rays)
        background = material * LIGHT_LEVELS + _quantise(room_light)
        for j, size in enumerate(np.linspace(0.6, 1.05, 8)):
            for i, trace_shape in enumerate((_trace_cube, _trace_cylinder, _trace_sphere, _trace_capsule)):
                distance, normals = trace_shape(eye, rays, size)
                light = 0.3 + 0.7 * np.clip(normals @ np.array(LIGHT), 0, 1)
                foreground = OBJECT * LIGHT_LEVELS + _quantise(light)
                scenes[j, i, k] = np.where(distance < room_distance, foreground, background)
    return scenes


def _quantise(light: np.ndarray) -> np.ndarray:
    levels: np.ndarray = np.rint(np.clip(light, 0, 1) * (LIGHT_LEVELS - 1)).astype(np.int64)
    return levels


def _aim_camera(angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the position (3,) of the eye and the directions (64, 64, 3) of its rays. The y axis points up."""
    pixel = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
    v, u = np.meshgrid(-pixel * CAMERA_TANGENT, pixel * CAMERA_TANGENT, indexing="ij")
    up = v * np.cos(CAMERA_TILT) - np.sin(CAMERA_TILT)
    ahead = v * np.sin(CAMERA_TILT) + np.cos(CAMERA_TILT)
    rays = np.stack(
        [u * np.cos(angle) - ahead * np.sin(angle), up, -u * np.sin(angle) - ahead * np.cos(angle)], axis=-1
    )
    eye = np.array([CAMERA_DISTANCE * np.sin(angle), CAMERA_HEIGHT, CAMERA_DISTANCE * np.cos(angle)])
    return eye, rays


def _trace_room(eye: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return distance, material and light (64, 64) of the floor or wall that each ray meets."""
    rays = _avoid_zero(rays)
    wall_distances = (np.sign(rays) * ROOM - eye) / rays
    floor = np.where(rays[..., 1] < 0, -eye[1] / rays[..., 1], np.inf)
    is_side_wall = wall_distances[..., 0] < wall_distances[..., 2]
    wall = np.where(is_side_wall, wall_distances[..., 0], wall_distances[..., 2])
    light = np.where(is_side_wall, np.where(rays[..., 0] > 0, 0.6, 0.75), 0.9)
    is_floor = floor < wall
    return np.where(is_floor, floor, wall), np.where(is_floor, FLOOR, WALL), np.where(is_floor, 1.0, light)


# -- objects, each of a given size on the floor in the middle of the room ----------------------------------------------


def _trace_cube(eye: np.ndarray, rays: np.ndarray, size: float) -> Hit:
    half = 0.8 * size
    low, high = np.array([-half, 0, -half]), np.array([half, 2 * half, half])
    rays = _avoid_zero(rays)
    to_low, to_high = (low - eye) / rays, (high - eye) / rays
    entry = np.minimum(to_low, to_high)
    exit_distance = np.maximum(to_low, to_high).min(-1)
    axis = entry.argmax(-1)
    distance = np.where(entry.max(-1) <= exit_distance, entry.max(-1), np.inf)
    return distance, -np.sign(rays) * (axis[..., None] == np.arange(3))


def _trace_cylinder(eye: np.ndarray, rays: np.ndarray, size: float) -> Hit:
    radius, height = 0.85 * size, 2 * size
    to_top = (height - eye[1]) / np.where(rays[..., 1] == 0, 1e-9, rays[..., 1])
    point = eye + to_top[..., None] * rays
    is_on_lid = (point[..., 0] ** 2 + point[..., 2] ** 2 <= radius**2) & (to_top > 0)
    lid = np.where(is_on_lid, to_top, np.inf), np.broadcast_to([0.0, 1.0, 0.0], rays.shape)
    return _choose_nearer(_trace_mantle(eye, rays, radius, 0, height), lid)


def _trace_sphere(eye: np.ndarray, rays: np.ndarray, size: float, radius: float = 1.0, height: float = 1.0) -> Hit:
    """Trace a sphere. `radius` and the `height` of its centre are multiples of `size`."""
    start = eye - np.array([0, height * size, 0])
    distance = _solve_quadratic((rays**2).sum(-1), rays @ start, start @ start - (radius * size) ** 2)
    return distance, _normalise(start + _finite(distance)[..., None] * rays)


def _trace_capsule(eye: np.ndarray, rays: np.ndarray, size: float) -> Hit:
    radius, low, high = 0.55, 0.55, 1.75
    mantle = _trace_mantle(eye, rays, radius * size, low * size, high * size)
    ends = (_trace_sphere(eye, rays, size, radius, height) for height in (low, high))
    return functools.reduce(_choose_nearer, ends, mantle)


def _trace_mantle(eye: np.ndarray, rays: np.ndarray, radius: float, low: float, high: float) -> Hit:
    """Trace the side of an upright cylinder between two heights."""
    flat_rays, start = rays * np.array([1, 0, 1]), eye * np.array([1, 0, 1])
    distance = _solve_quadratic((flat_rays**2).sum(-1), flat_rays @ start, start @ start - radius**2)
    y = eye[1] + _finite(distance) * rays[..., 1]
    distance = np.where((y >= low) & (y <= high), distance, np.inf)
    return distance, _normalise(start + _finite(distance)[..., None] * flat_rays)


# -- arithmetic --------------------------------------------------------------------------------------------------------


def _avoid_zero(rays: np.ndarray) -> np.ndarray:
    return np.where(abs(rays) < 1e-9, 1e-9, rays)


def _finite(distance: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(distance), distance, 0)


def _solve_quadratic(a: np.ndarray, b: np.ndarray, c: float) -> np.ndarray:
    """Return the smaller solution t of a t² + 2 b t + c = 0, or infinity if there is none."""
    discriminant = b**2 - a * c
    solution = (-b - np.sqrt(np.maximum(discriminant, 0))) / np.maximum(a, 1e-12)
    return np.where(discriminant >= 0, solution, np.inf)


def _choose_nearer(first: Hit, second: Hit) -> Hit:
    is_first = first[0] <= second[0]
    return np.where(is_first, first[0], second[0]), np.where(is_first[..., None], first[1], second[1])


def _normalise(vectors: np.ndarray) -> np.ndarray:
    unit: np.ndarray = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    return unit
