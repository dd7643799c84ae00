"""Images: which files hold them, how they are decoded, and folders of them by class.

An image is passed on as the bytes of its file. It is decoded once when it is checked, and again when it is used.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.core.errors import DataError, first_line
from zoo.data.raw_rows import Item, RowLocation

if TYPE_CHECKING:
    from PIL import Image

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
COLUMNS = ("image", "label", "path")
MAX_RAW_BYTES = 1 << 27  # of one image without compression; a header of 16 bytes can claim any size


def import_pillow() -> Any:
    """Return the module PIL.Image. Raise DataError, which names the extra to install, if Pillow is missing."""
    try:
        from PIL import Image
    except ImportError:
        raise DataError('images need Pillow, which is not installed: pip install "embedding-zoo[image]"') from None
    return Image


def decode_image(content: bytes, max_pixels: int | None = None) -> Image.Image:
    """Decode an image from the bytes of its file.

    Raises:
        ValueError: if the bytes are not an image, end too early, or hold more than `max_pixels` pixels. The size is checked
            before the pixels are decoded. The text continues "the image", for example "is not an image that …".
    """
    pillow = import_pillow()
    try:
        image: Image.Image = pillow.open(io.BytesIO(content))
        if max_pixels is not None and image.width * image.height > max_pixels:
            raise ValueError(f"it has {image.width} × {image.height} pixels")
        image.load()  # `verify` does not notice a JPEG that was cut short
    except pillow.UnidentifiedImageError:
        raise ValueError("is not an image that Pillow can open") from None
    except (OSError, SyntaxError, ValueError, EOFError, zlib.error, pillow.DecompressionBombError) as error:
        raise ValueError(
            f"is not an image that Pillow can open: it is damaged ({first_line(error, limit=80)})"
        ) from None
    return image


def normalise_image(image: Image.Image, mode: str = "RGB") -> Image.Image:
    """Rotate an image as its EXIF data says, and convert it to `mode` ("RGB" or "L").

    Transparent pixels become white, and 16 bits become 8.
    """
    from PIL import ImageOps

    pillow = import_pillow()
    image = ImageOps.exif_transpose(image)
    has_alpha = image.mode in ("PA", "LA", "RGBA", "RGBa") or (image.mode == "P" and "transparency" in image.info)
    if has_alpha:
        layer = image.convert("RGBA")
        image = pillow.new("RGBA", layer.size, "white")
        image.alpha_composite(layer)
    elif image.mode.startswith("I"):  # 16 bits
        import numpy as np

        image = pillow.fromarray((np.asarray(image).clip(0, 65535) // 256).astype(np.uint8))
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
