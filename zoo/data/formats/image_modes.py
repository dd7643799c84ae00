"""Pixel modes of Pillow: refuse those that have no exact 8-bit form, and make the transparent colour of a file comparable.

Pillow converts every mode to RGB somehow. For example, it clips 32-bit integers at 255, and it ignores the transparent colour of
an image of 16 bits. The values would change in silence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

WITHOUT_8_BIT_FORM = {
    "F": "floating-point numbers, whose range is not known",
    "LAB": "colours of the space LAB",
}
GREY_LEVELS = {"1": 1, "1;I": 1, "L;2": 3, "L;2I": 3, "L;4": 15, "L;4I": 15}
"""The largest raw value of grey pixels that Pillow spreads over 0 to 255 when it decodes them."""
BITS_PER_SAMPLE = 258  # a tag of TIFF


def prepare(image: Image.Image) -> None:
    """Check the mode of an image, and convert its transparent colour to the values that decoded pixels have.

    The second step is taken only before the pixels are decoded, because the file's own values are not known afterwards.

    Raises:
        ValueError: if the pixels have no exact 8-bit form. The text continues "the image".
    """
    _check_mode(image)
    colour = image.info.get("transparency")
    raw_mode = _find_raw_mode(image)
    if isinstance(colour, int) and raw_mode in GREY_LEVELS:
        image.info["transparency"] = colour * 255 // GREY_LEVELS[raw_mode]
    if isinstance(colour, tuple) and raw_mode.startswith("RGB;16"):
        raise ValueError(
            "has 16 bits per colour and a transparent colour; save it with 8 bits, or with an alpha channel"
        )


def _check_mode(image: Image.Image) -> None:
    content = WITHOUT_8_BIT_FORM.get(image.mode)
    if image.mode == "I" and image.format not in (
        "PNG",
        "PPM",
    ):  # Pillow opens 16-bit files of these formats as 32 bits
        content = "32-bit integers, whose range is not known"
    sample_bits = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, (8,))
    if image.mode.startswith("I;16") and sample_bits != (16,) and image.format == "TIFF":
        content = f"pixels of {sample_bits[0]} bits"
    if content:
        raise ValueError(f"holds {content}; save it with 8 or 16 bits, as grey or RGB")


def reduce_to_8_bits(image: Image.Image) -> Image.Image:
    """Return the upper 8 of the 16 bits of each grey pixel. Pixels of the transparent colour become white."""
    import numpy as np
    import PIL.Image

    pixels = np.asarray(image)
    grey = (pixels.clip(0, 65535) // 256).astype(np.uint8)
    if "transparency" in image.info:
        grey[pixels == image.info["transparency"]] = 255
    return PIL.Image.fromarray(grey)


def _find_raw_mode(image: Image.Image) -> str:
    """Return how the pixels of a file are stored. Return "" if they are already decoded."""
    tiles: Any = getattr(image, "tile", None)
    options = tiles[0][3] if tiles else ""
    return str(options[0] if isinstance(options, tuple) and options else options)
