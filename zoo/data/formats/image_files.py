"""Images: which files hold them, folders of them by class, and the idx files that MNIST and its kin come in.

An image travels encoded, as the bytes of its file; it is decoded once when it is checked, and again where it is used.
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from zoo.core.errors import DataError
from zoo.data.table import Fault, Place, Row

if TYPE_CHECKING:
    from PIL import Image

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
COLUMNS = ("image", "label", "path")
IDX = ("-ubyte", "-ubyte.gz", ".idx", ".idx.gz")
LARGEST = 1 << 27  # bytes of one idx image; a header of 16 bytes can claim any size


def pillow() -> Any:
    """The module PIL.Image. Raises DataError, which names the extra, where Pillow is not installed."""
    try:
        from PIL import Image
    except ImportError:
        raise DataError('images need Pillow, which is not installed: pip install "embedding-zoo[image]"') from None
    return Image


def opened(content: bytes, largest: int | None = None) -> Image.Image:
    """A decoded image from the bytes of its file. Raises ValueError, whose text goes on from "the image", for bytes that are
    none, or that end too early, and for more than `largest` pixels, before they are decoded."""
    image = pillow()
    try:
        picture = image.open(io.BytesIO(content))
        if largest is not None and picture.width * picture.height > largest:
            raise ValueError(f"it has {picture.width} × {picture.height} pixels")
        picture.load()  # `verify` would not notice a JPEG that was cut short
    except image.UnidentifiedImageError:
        raise ValueError("is not an image that Pillow can open") from None
    except (OSError, SyntaxError, ValueError, EOFError, zlib.error, image.DecompressionBombError) as error:
        raise ValueError(
            f"is not an image that Pillow can open: it is damaged ({' '.join(str(error).split())[:80]})"
        ) from None
    return picture


def upright(picture: Image.Image, mode: str = "RGB") -> Image.Image:
    """In `mode` ("RGB" or "L"): turned as its EXIF data says, on white where it is transparent, 16 bits brought to 8."""
    from PIL import ImageOps

    image = pillow()
    picture = ImageOps.exif_transpose(picture)
    if picture.mode in ("P", "PA", "LA", "RGBA", "RGBa") and ("transparency" in picture.info or picture.mode != "P"):
        layer = picture.convert("RGBA")
        picture = image.new("RGBA", layer.size, "white")
        picture.alpha_composite(layer)
    elif picture.mode.startswith("I"):  # 16 bits
        import numpy as np

        picture = image.fromarray((np.asarray(picture).clip(0, 65535) // 256).astype(np.uint8))
    return picture.convert(mode)


# -- a folder of images by class ---------------------------------------------------------------------------------------


def folder_rows(files: Sequence[Path], base: Path) -> Iterator[tuple[Place, Row | Fault]]:
    """A row a file: the image, the name of the folder it lies in, and its path below `base`."""
    for path in files:
        yield Place(str(path)), {"image": path.name, "label": path.parent.name, "path": str(path.relative_to(base))}


# -- idx ---------------------------------------------------------------------------------------------------------------


def is_idx(path: Path) -> bool:
    """Whether a file is called as idx files are."""
    return path.name.lower().endswith(IDX)


def idx_columns(path: Path) -> tuple[str, ...]:
    """`image`, and `label` where the file of the labels lies beside it. Raises DataError for a file that holds no images."""
    with _open(path) as file:
        _shape(path, file, (3, 4))
    return ("image", "label") if _labels(path) else ("image",)


def idx_rows(path: Path) -> Iterator[tuple[Place, Row | Fault]]:
    """A row an image, as the bytes of a PGM (or, of three channels, PPM) file; labels from the file beside it."""
    name, other = str(path), _labels(path)
    with _open(path) as file:
        count, *size = _shape(path, file, (3, 4))
        if (len(size) == 3 and size[2] != 3) or not 0 < math.prod(size) <= LARGEST:
            raise DataError(
                f"{path}: holds images of {' × '.join(map(str, size))}; they must be grey, or RGB at the end"
            )
        labels = _all_labels(other, count, path) if other else None
        head = b"P%d %d %d 255\n" % (6 if len(size) == 3 else 5, size[1], size[0])
        for number in range(count):
            pixels = file.read(math.prod(size))
            if len(pixels) < math.prod(size):
                yield Place(name), Fault(f"ends after {number} of the {count} images; get the file again")
                return
            yield Place(name, number + 1), {"image": head + pixels} | ({"label": labels[number]} if labels else {})


def encoded(pixels: bytes, width: int, height: int) -> bytes:
    """Grey pixels, row by row, as the bytes of a PGM file."""
    return b"P5 %d %d 255\n" % (width, height) + pixels


def _labels(path: Path) -> Path | None:
    """The file of the labels by its usual name, `train-labels-idx1-ubyte.gz` beside `train-images-idx3-ubyte.gz`."""
    name = path.name.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")
    for each in (name, f"{name}.gz", name.removesuffix(".gz")):
        if each != path.name and path.with_name(each).is_file():
            return path.with_name(each)
    return None


def _all_labels(path: Path, count: int, images: Path) -> bytes:
    with _open(path) as file:
        (held,) = _shape(path, file, (1,))
        labels = file.read(held)
    if held != count or len(labels) != count:
        raise DataError(f"{path}: holds {min(held, len(labels))} labels, and {images.name} {count} images")
    return labels


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb")  # type: ignore[return-value]


def _shape(path: Path, file: IO[bytes], axes: tuple[int, ...]) -> list[int]:
    """Sizes from the header of an idx file of bytes."""
    head = file.read(4)
    if len(head) < 4 or head[:3] != b"\0\0\x08" or head[3] not in axes:
        what = "labels, one byte each" if axes == (1,) else "images of bytes"
        raise DataError(f"{path}: is not an idx file of {what}")
    sizes = file.read(4 * head[3])
    if len(sizes) < 4 * head[3]:
        raise DataError(f"{path}: ends inside its header")
    return [int.from_bytes(sizes[i : i + 4], "big") for i in range(0, len(sizes), 4)]
