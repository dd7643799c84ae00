"""One input of a vision-language encoder: texts and images in the order in which they are read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.core.errors import ZooError
from zoo.data.formats import image_files
from zoo.vision.preprocessing import decode_image

if TYPE_CHECKING:
    from PIL.Image import Image

Part = "str | Image"
PLACE = re.compile(r"<\|image_(\d+)\|>\s?")
"""Where a text says that its n-th image stands, in the notation of MMEB."""


def parts(given: Any) -> list[str | Image]:
    """Texts and upright RGB images of an input, in order; no text is empty.

    An input is a text; an image (PIL image, array (h, w[, 3]) of uint8, `Path`, bytes of an image file); a mapping with `text`
    and `image`, one or a list of them, which stand first unless the text has places for them (`<|image_1|>`); or a list of
    all these, read in order. Raises ZooError, whose text goes on from "input 3".
    """
    if isinstance(given, str):
        return [given] if given.strip() else _nothing()
    if isinstance(given, Mapping) and given.keys() & {"text", "image"}:
        return _mapping(given)
    if isinstance(given, Sequence) and not isinstance(given, bytes | bytearray):
        return [part for each in given for part in parts(each)] or _nothing()
    return [image_files.normalise_image(decode_image(given))]


def _mapping(given: Mapping[str, Any]) -> list[str | Image]:
    if odd := sorted(map(str, given.keys() - {"text", "image"})):
        raise ZooError(f"has {', '.join(odd)[:60]}; a mapping holds `text`, `image` or both")
    text, held = given.get("text") or "", given.get("image")
    if not isinstance(text, str):
        raise ZooError(f"has a `text` of {type(text).__name__}")
    several = isinstance(held, Sequence) and not isinstance(held, str | bytes)
    images: list[Any] = list(held) if several else [] if held is None else [held]  # type: ignore[arg-type]
    opened = [
        image_files.normalise_image(decode_image(Path(each) if isinstance(each, str) else each)) for each in images
    ]
    return placed(text, opened)


def placed(text: str, images: Sequence[Image]) -> list[str | Image]:
    """A text with its images: where `<|image_1|>` and so on stand, and those without a place before everything. Raises
    ZooError for a place without an image."""
    pieces = PLACE.split(text)
    asked = [int(number) for number in pieces[1::2]]
    if wrong := [number for number in asked if not 1 <= number <= len(images)]:
        raise ZooError(f"has a place for image {wrong[0]}, and {len(images)} of them")
    out: list[str | Image] = [image for number, image in enumerate(images, 1) if number not in asked]
    for index, piece in enumerate(pieces):
        if index % 2:
            out.append(images[int(piece) - 1])
        elif piece.strip():
            out.append(piece.strip() if asked else piece)
    return out or _nothing()


def _nothing() -> list[str | Image]:
    raise ZooError("is empty: neither text nor image")


def bare(inputs: Any) -> None:
    """Raises ZooError for one input where a list of them is expected."""
    if isinstance(inputs, str | bytes | Path | Mapping) or hasattr(inputs, "getexif"):
        raise ZooError("encode takes a list of inputs, not one: write encode([input])")
