"""Inputs that mix texts and images: turn any accepted form into a list of texts and images in reading order."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from zoo.core import paths
from zoo.core.errors import ZooError
from zoo.data.formats import image_files
from zoo.vision.preprocessing import decode_image

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_MARK = re.compile(r"<\|image_(\d+)\|>\s?")
"""Marks the place of the n-th image in a text, in the notation of MMEB."""


def split_into_parts(value: Any) -> list[str | Image]:
    """Split an input into texts and upright RGB images in reading order; no text is empty.

    An input is one of these:

    - a text,
    - an image: PIL image, array (h, w[, 3]) of uint8, `Path`, or bytes of an image file,
    - a mapping with `text` and `image`, one image or a list. The images come first, unless the text marks their places with
      `<|image_1|>` and so on,
    - a list of all these, in reading order.

    Raise ZooError for anything else. Its message continues the words "input 3", which the caller adds.
    """
    if isinstance(value, str):
        return [value] if value.strip() else _refuse_empty_input()
    if isinstance(value, Mapping) and value.keys() & {"text", "image"}:
        return _split_mapping(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [part for item in value for part in split_into_parts(item)] or _refuse_empty_input()
    return [image_files.normalise_image(decode_image(value))]


def find_image_path(value: Any) -> str | None:
    """Return the text of an input that is the path of an existing image file, or None."""
    if isinstance(value, str):
        is_name = value.lower().endswith(image_files.ENDINGS) and "\n" not in value
        return value if is_name and paths.is_file(value) else None
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return next(filter(None, map(find_image_path, value)), None)
    return None


def _split_mapping(value: Mapping[str, Any]) -> list[str | Image]:
    if unknown_keys := sorted(map(str, value.keys() - {"text", "image"})):
        raise ZooError(f"has {', '.join(unknown_keys)[:60]}; a mapping may hold `text`, `image` or both")
    text, image = value.get("text") or "", value.get("image")
    if not isinstance(text, str):
        raise ZooError(f"has a `text` of type {type(text).__name__}, expected str")
    images: list[Any] = []
    if isinstance(image, Sequence) and not isinstance(image, str | bytes):
        images = list(image)
    elif image is not None:
        images = [image]
    return place_images(text, [_open_image(image) for image in images])


def _open_image(image: Any) -> Image:
    return image_files.normalise_image(decode_image(Path(image) if isinstance(image, str) else image))


def place_images(text: str, images: Sequence[Image]) -> list[str | Image]:
    """Put images where the text marks their places (`<|image_1|>` and so on), and all other images before the text.

    Raise ZooError for a mark without an image, and if there is neither text nor image.
    """
    pieces = IMAGE_MARK.split(text)  # text, number, text, number, …, text
    marked_numbers = [int(number) for number in pieces[1::2]]
    if bad_numbers := [number for number in marked_numbers if not 1 <= number <= len(images)]:
        raise ZooError(f"has a place for image {bad_numbers[0]}, but {len(images)} images")
    parts: list[str | Image] = [image for number, image in enumerate(images, 1) if number not in marked_numbers]
    for index, piece in enumerate(pieces):
        if index % 2:
            parts.append(images[int(piece) - 1])
        elif piece.strip():
            parts.append(piece.strip() if marked_numbers else piece)
    return parts or _refuse_empty_input()


def _refuse_empty_input() -> NoReturn:
    raise ZooError("is empty: neither text nor image")


def reject_single_input(inputs: Any) -> None:
    """Raise ZooError if `inputs` is one input and not a list of inputs."""
    if isinstance(inputs, str | bytes | Path | Mapping) or hasattr(inputs, "getexif"):
        raise ZooError("encode takes a list of inputs, not one: write encode([input])")
