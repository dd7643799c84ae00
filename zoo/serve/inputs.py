"""Inputs of requests as inputs of an encoder: texts, token ids, vectors, and images as data URLs. Nothing is fetched."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import numpy as np

from zoo.core.errors import ZooError
from zoo.core.inputs import describe_type
from zoo.encoder import Encoder
from zoo.serve.errors import RequestError
from zoo.serve.model import TokenIds
from zoo.serve.settings import Limits

IMAGE_PREFIX = "data:image/"
MAX_TOKEN_ID = 1 << 31


def read_inputs(value: Any, encoder: Encoder, limits: Limits, param: str = "input") -> list[Any]:
    """Return the inputs of a request as a list.

    A list of numbers is one input: the token ids of a text, or a vector if the encoder reads vectors. Raise RequestError for an
    input that the encoder does not read, and for too many of them.
    """
    if isinstance(value, str | dict) or (isinstance(value, list) and value and _is_number(value[0])):
        value = [value]
    if not isinstance(value, list):
        raise RequestError(400, f"{param}: must be a text or a list, not {describe_type(value)}", param=param)
    if not value:
        raise RequestError(400, f"{param}: is an empty list; send at least one input", param=param)
    if len(value) > limits.items:
        message = f"{param}: has {len(value):,} inputs, more than {limits.items:,}: send fewer at once"
        raise RequestError(413, message, param=param, code="too_many_inputs")
    return [read_input(item, encoder, limits, f"{param}[{number}]") for number, item in enumerate(value)]


def read_input(item: Any, encoder: Encoder, limits: Limits, place: str) -> Any:
    """Return one input as the encoder reads it. Raise RequestError, which names its place."""
    param = place.partition("[")[0]
    try:
        if isinstance(item, str):
            is_image = "image" in encoder.modalities and item.startswith(IMAGE_PREFIX)
            return _decode_image(item, limits) if is_image else _require_text(item, encoder)
        if isinstance(item, list):
            return _read_numbers(item, encoder)
        if isinstance(item, dict):
            return _read_object(item, encoder, limits)
        raise ValueError(f"must be a text, not {describe_type(item)}")
    except _TooLargeError as error:
        raise RequestError(413, f"{place}: {error}", param=param, code="image_too_large") from None
    except (ZooError, ValueError, OverflowError) as error:
        raise RequestError(400, f"{place}: {error}", param=param) from None


class _TooLargeError(ValueError):
    """An image above a limit."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _require_text(text: str, encoder: Encoder) -> str:
    if "text" not in encoder.modalities:
        raise ValueError(f"is a text, but this model reads {' and '.join(encoder.modalities)}s")
    if not text:
        raise ValueError("is an empty text; leave it out")
    return text


def _read_numbers(numbers: Sequence[Any], encoder: Encoder) -> Any:
    if not numbers or not all(map(_is_number, numbers)):
        raise ValueError("must be a text or a list of numbers that is not empty")
    if "vector" in encoder.modalities:
        return np.array(numbers, dtype=np.float32)
    if not all(isinstance(number, int) and 0 <= number < MAX_TOKEN_ID for number in numbers):
        raise ValueError("must hold token ids, which are whole numbers from 0 on")
    _require_text("ids", encoder)
    return TokenIds(tuple(numbers))


def _read_object(value: dict[str, Any], encoder: Encoder, limits: Limits) -> Any:
    """Return an object with `text`, `image` or both as an input."""
    unknown = sorted(value.keys() - {"text", "image"})
    if unknown or not value or not all(isinstance(part, str) for part in value.values()):
        raise ValueError('must be a text, or an object such as {"text": …} or {"image": "data:image/png;base64,…"}')
    if "image" not in value:
        return _require_text(value["text"], encoder)
    if "image" not in encoder.modalities:
        raise ValueError("is an image, but this model reads no images")
    image = _decode_image(value["image"], limits)
    if "text" not in value:
        return image
    if not encoder.accepts_mixed_inputs:
        raise ValueError("has a text and an image; this model reads one of them in an input")
    return {"image": image, "text": value["text"]}


def _decode_image(url: str, limits: Limits) -> Any:
    """Return the PIL image of a data URL. Its size is checked before it is decoded."""
    from zoo.data.formats import image_files

    header, comma, content = url.partition(",")
    if not header.startswith(IMAGE_PREFIX) or not header.endswith(";base64") or not comma:
        raise ValueError("must be a data URL, data:image/png;base64,…; the server fetches no addresses")
    if len(content) * 3 // 4 > limits.image_bytes + 2:
        raise _TooLargeError(f"the image has more than {limits.image_bytes:,} bytes: make it smaller")
    try:
        data = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the data URL is not valid base64") from None
    try:
        return image_files.decode_image(data, limits.image_pixels)
    except ValueError as error:
        kind = _TooLargeError if "pixels, more than" in str(error) else ValueError
        raise kind(f"the image {error}") from None
