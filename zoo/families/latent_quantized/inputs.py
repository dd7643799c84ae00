"""Inputs of an autoencoder: images as uint8 pixels, or dense vectors; single, in blocks, and as training rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from zoo.core.errors import ZooError
from zoo.vision.preprocessing import load_pixels

if TYPE_CHECKING:
    from datasets import Dataset

BLOCK_SIZE = 256  # inputs that are encoded together
MEMORY_LIMIT = 2 << 30  # bytes of decoded training inputs that are kept in memory


class ImageInputs:
    """Images (channels, size, size), in any of the forms that `zoo.vision.backbone.pixels` takes."""

    modality = "image"

    def __init__(self, channels: int, size: int) -> None:
        self.channels, self.size = channels, size
        self.shape, self.dtype = (channels, size, size), np.uint8

    def to_array(self, image: Any) -> np.ndarray:
        """(channels, size, size) uint8. Raises ZooError if `image` is not an image."""
        return load_pixels(image, self.size, self.channels)

    def to_images(self, logits: torch.Tensor) -> np.ndarray:
        """(n, size, size[, 3]) uint8 images from (n, channels, size, size) logits."""
        pixels = (torch.sigmoid(logits.float()) * 255).round().to(torch.uint8).cpu().numpy()
        return pixels[:, 0] if self.channels == 1 else np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))


class VectorInputs:
    """Vectors of `dim` numbers."""

    modality = "vector"

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.shape, self.dtype = (dim,), np.float32

    def to_array(self, vector: Any) -> np.ndarray:
        """(dim,) float32. Raises ZooError if `vector` has another shape or holds a number that is not finite."""
        try:
            array = np.asarray(vector, dtype=np.float32)
        except (TypeError, ValueError):
            raise ZooError(f"is {type(vector).__name__}, expected a vector of {self.dim} numbers") from None
        if array.shape != self.shape:
            raise ZooError(f"has the shape {array.shape}, expected a vector of {self.dim} numbers")
        if not np.isfinite(array).all():
            raise ZooError("holds a number that is not finite")
        return array


InputFormat = ImageInputs | VectorInputs


def read_blocks(input_format: InputFormat, inputs: Iterable[Any]) -> Iterator[torch.Tensor]:
    """Yield tensors (n, *shape) of at most BLOCK_SIZE inputs; without any input, yield one empty tensor.

    Raises ZooError for an input of another format, with its position, and if `inputs` is a single input.
    """
    modality = input_format.modality
    if isinstance(inputs, str | bytes) or getattr(inputs, "ndim", 3) == 1:
        raise ZooError(f"encode takes a list of {modality}s, not one: write encode([{modality}])")
    try:
        source = iter(inputs)
    except TypeError:
        raise ZooError(f"encode takes a list of {modality}s or another iterable, not {type(inputs).__name__}") from None
    position = 0
    while True:
        block = list(islice(source, BLOCK_SIZE))
        if not block and position:
            return
        arrays = np.empty((len(block), *input_format.shape), dtype=input_format.dtype)
        for i, value in enumerate(block):
            try:
                arrays[i] = input_format.to_array(value)
            except ZooError as error:
                raise ZooError(f"input {position + i} {error}") from None
        position += len(block)
        yield torch.from_numpy(arrays)
        if not block:
            return


class TrainingInputs(torch.utils.data.Dataset[dict[str, Any]]):
    """The inputs of training rows as {"input": tensor}. They are decoded only once if they fit into MEMORY_LIMIT."""

    def __init__(self, rows: Dataset, input_format: InputFormat) -> None:
        self.rows, self.input_format = rows, input_format
        self.decoded: torch.Tensor | None = None
        size = len(rows) * int(np.prod(input_format.shape)) * np.dtype(input_format.dtype).itemsize
        if size <= MEMORY_LIMIT:
            arrays = np.empty((len(rows), *input_format.shape), dtype=input_format.dtype)
            position = 0
            for block in read_blocks(input_format, iter(rows[input_format.modality])):
                arrays[position : position + len(block)] = block
                position += len(block)
            self.decoded = torch.from_numpy(arrays)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if self.decoded is not None:
            return {"input": self.decoded[index]}
        return {"input": torch.from_numpy(self.input_format.to_array(self.rows[index][self.input_format.modality]))}
