"""Turn any image that a caller may pass into pixels of one size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from zoo.core.errors import ZooError
from zoo.core.inputs import describe_type
from zoo.data.formats import image_files, image_modes

if TYPE_CHECKING:
    from PIL.Image import Image  # Pillow is an extra: without it the other modalities must work


def load_pixels(source: Any, size: int, channels: int) -> np.ndarray[Any, Any]:
    """Return an image as (channels, size, size) uint8.

    The image is rotated as its EXIF data says, put on white where it is transparent, and cropped to the square in its middle.
    `source` is anything that `decode_image` takes. Raises ZooError if it is not an image.
    """
    from PIL import ImageOps

    picture = image_files.normalise_image(decode_image(source), "L" if channels == 1 else "RGB")
    if picture.size != (size, size):
        picture = ImageOps.fit(picture, (size, size), method=image_files.import_pillow().Resampling.BICUBIC)
    array = np.array(picture)
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def decode_image(source: Any) -> Image:
    """Return a PIL image.

    `source` is a PIL image, a uint8 array (h, w), (h, w, 1), (h, w, 3) or (h, w, 4), a path, the bytes of an image file, or
    {"bytes": …}. Raises ZooError, whose message continues "input 3 …".
    """
    pillow: Any = image_files.import_pillow()
    if isinstance(source, pillow.Image):
        return _check_image(source)
    if isinstance(source, Mapping):
        source = source.get("bytes")
    if isinstance(source, str | Path):
        source = _read_bytes(source)
    if isinstance(source, bytes):
        try:
            return image_files.decode_image(source)
        except ValueError as error:
            raise ZooError(str(error)) from None
    if isinstance(source, np.ndarray):
        return cast("Image", pillow.fromarray(_check_array(source)))
    raise ZooError(f"is {describe_type(source)}, expected an image")


def _check_image(image: Any) -> Image:
    try:
        image_modes.prepare(image)
    except ValueError as error:
        raise ZooError(str(error)) from None
    return cast("Image", image)


def _read_bytes(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise ZooError(f"is {str(path)!r}, {getattr(error, 'strerror', None) or error}") from None


def _check_array(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the array in C order, without a last axis of length 1."""
    squeezed = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
    has_image_shape = squeezed.ndim in (2, 3) and squeezed.shape[2:] in ((), (3,), (4,))
    if array.dtype != np.uint8 or not has_image_shape or not squeezed.size:
        raise ZooError(f"is an array {array.shape} of {array.dtype}, expected (height, width[, 3]) of uint8")
    return np.ascontiguousarray(squeezed)
