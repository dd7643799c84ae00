"""What an autoencoder reads: images as uint8 pixels, or dense vectors; one by one, in blocks, and as rows of a training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from zoo.core.errors import ZooError
from zoo.vision.preprocessing import load_pixels

BLOCK = 256  # inputs encoded together
MEMORY = 2 << 30  # bytes of decoded inputs that a training keeps


class Images:
    """Images of (channels, size, size), in any of the forms that `zoo.vision.preprocessing.load_pixels` takes."""

    modality = "image"

    def __init__(self, channels: int, size: int) -> None:
        self.channels, self.size = channels, size
        self.shape, self.dtype = (channels, size, size), np.uint8

    def array(self, given: Any) -> np.ndarray:
        """(channels, size, size) uint8. Raises ZooError for what is no image."""
        return load_pixels(given, self.size, self.channels)

    def shown(self, pixels: torch.Tensor) -> np.ndarray:
        """(n, size, size[, 3]) uint8 of (n, channels, size, size) logits."""
        found = (torch.sigmoid(pixels.float()) * 255).round().to(torch.uint8).cpu().numpy()
        return found[:, 0] if self.channels == 1 else np.ascontiguousarray(found.transpose(0, 2, 3, 1))


class VectorQuantizer:
    """Vectors of `dim` numbers."""

    modality = "vector"

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.shape, self.dtype = (dim,), np.float32

    def array(self, given: Any) -> np.ndarray:
        """(dim,) float32. Raises ZooError for another number of components, and for one that is not finite."""
        try:
            found = np.asarray(given, dtype=np.float32)
        except (TypeError, ValueError):
            raise ZooError(f"is {type(given).__name__}, expected a vector of {self.dim} numbers") from None
        if found.shape != self.shape:
            raise ZooError(f"has the shape {found.shape}, expected a vector of {self.dim} numbers")
        if not np.isfinite(found).all():
            raise ZooError("holds a number that is not finite")
        return found


def blocks(kind: Images | VectorQuantizer, inputs: Iterable[Any]) -> Iterator[torch.Tensor]:
    """`inputs` as tensors (n, *shape) of at most BLOCK, one empty tensor for none. Raises ZooError, which names the place, for
    what is no such input, and for a single one."""
    if isinstance(inputs, str | bytes) or getattr(inputs, "ndim", 3) == 1:
        raise ZooError(f"encode takes a list of {kind.modality}s, not one: write encode([{kind.modality}])")
    try:
        source = iter(inputs)
    except TypeError:
        raise ZooError(
            f"encode takes a list of {kind.modality}s or another iterable, not {type(inputs).__name__}"
        ) from None
    place = 0
    while True:
        some = list(islice(source, BLOCK))
        if not some and place:
            return
        out = np.empty((len(some), *kind.shape), dtype=kind.dtype)
        for i, each in enumerate(some):
            try:
                out[i] = kind.array(each)
            except ZooError as error:
                raise ZooError(f"input {place + i} {error}") from None
        place += len(some)
        yield torch.from_numpy(out)
        if not some:
            return


class Rows(torch.utils.data.Dataset[dict[str, Any]]):
    """The inputs of a training as tensors by row; decoded once where they fit in memory."""

    def __init__(self, rows: Dataset, kind: Images | VectorQuantizer) -> None:
        self.rows, self.kind = rows, kind
        self.held: torch.Tensor | None = None
        if len(rows) * int(np.prod(kind.shape)) * np.dtype(kind.dtype).itemsize <= MEMORY:
            held, place = np.empty((len(rows), *kind.shape), dtype=kind.dtype), 0
            for block in blocks(kind, iter(rows[kind.modality])):
                held[place : place + len(block)] = block
                place += len(block)
            self.held = torch.from_numpy(held)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> dict[str, Any]:
        if self.held is not None:
            return {"input": self.held[place]}
        return {"input": torch.from_numpy(self.kind.array(self.rows[place][self.kind.modality]))}
