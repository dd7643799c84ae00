"""Images: which files hold them, how they are decoded, and folders of them by class.

An image is passed on as the bytes of its file. It is decoded once when it is checked, and again when it is used.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.core import faults
from zoo.core.errors import DataError, first_line
from zoo.data.formats import image_modes
from zoo.data.raw_rows import Item, RowLocation

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
"""The formats that Pillow may open. Others run external programs, as EPS does, or are hardly tested against hostile files."""
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
COLUMNS = ("image", "label", "path")
MAX_PIXELS = 1 << 26


def import_pillow() -> Any:
    """Return the module PIL.Image. Raise DataError, which names the extra to install, if Pillow is missing."""
    try:
        from PIL import Image
    except ImportError:
        raise DataError('images need Pillow, which is not installed: pip install "embedding-zoo[image]"') from None
    return Image


def decode_image(content: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode an image from the bytes of its file. Only the first of several frames is decoded.

    Raises:
        ValueError: if the bytes are not an image of one of FORMATS, end too early, hold more than `max_pixels` pixels, or hold
            pixels that cannot be converted exactly. The size is checked before the pixels are decoded. The text continues
            "the image", for example "is not an image that …".
    """
    pillow = import_pillow()
    try:
        image: Image.Image = pillow.open(io.BytesIO(content), formats=FORMATS)
    except pillow.UnidentifiedImageError:
        raise ValueError(f"is not an image that Pillow can open as {', '.join(FORMATS)}") from None
    except Exception as error:  # Pillow's readers raise whatever a damaged header leads to
        raise _describe_damage(error) from None
    if image.width * image.height > max_pixels:
        raise ValueError(f"has {image.width} × {image.height} pixels, more than {max_pixels:,}; make it smaller")
    image_modes.prepare(image)
    try:
        image.load()  # `verify` does not notice a JPEG that was cut short
        image.getexif()
    except Exception as error:
        raise _describe_damage(error) from None
    return image


def _describe_damage(error: Exception) -> ValueError:
    if problem := faults.describe_full_memory(error):
        return ValueError(f"cannot be decoded: {problem}")
    return ValueError(f"is not an image that Pillow can open: it is damaged ({first_line(error, limit=80)})")


def normalise_image(image: Image.Image, mode: str = "RGB") -> Image.Image:
    """Rotate an image as its EXIF data says, and convert it to `mode` ("RGB" or "L").

    Transparent pixels become white, and 16 bits become 8. Raise ValueError, as `decode_image` does, for pixels that cannot be
    converted exactly.
    """
    from PIL import ImageOps

    pillow = import_pillow()
    image_modes.prepare(image)
    try:
        image = ImageOps.exif_transpose(image)
    except Exception as error:  # the EXIF data is parsed only here
        raise _describe_damage(error) from None
    if image.mode.startswith("I"):
        image = image_modes.reduce_to_8_bits(image)
    elif image.has_transparency_data or image.mode in ("La", "RGBa"):
        layer = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
        image = pillow.new("RGBA", layer.size, "white")
        image.alpha_composite(layer)
    return image.convert(mode)


def encode_pnm(pixels: bytes, width: int, height: int, channels: int = 1) -> bytes:
    """Return 8-bit pixels, row by row, as the bytes of a PGM file, or of a PPM file for 3 channels."""
    return b"P%d %d %d 255\n" % (6 if channels == 3 else 5, width, height) + pixels


def is_image(path: Path) -> bool:
    """Return whether the name of a file is that of an image."""
    return path.name.lower().endswith(ENDINGS)


def read_folder(files: Sequence[Path], base: Path) -> Iterator[Item]:
    """Yield a row for each file: the image, the name of its folder as the label, and its path relative to `base`."""
    for path in files:
        row = {"image": path.name, "label": path.parent.name, "path": str(path.relative_to(base))}
        yield RowLocation(str(path)), row
