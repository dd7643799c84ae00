"""Encode mixed inputs as unit vectors, in blocks whose images are opened only when their turn comes."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from zoo.core import hardware
from zoo.core.errors import DataWarning, ZooError
from zoo.core.progress import show_progress_bar
from zoo.families.vlm2vec import mixed_inputs
from zoo.families.vlm2vec.vlm import VLM
from zoo.ops.inference import evaluation_mode

Vectors = npt.NDArray[np.float32]
BLOCK = 64  # inputs that are in memory, with their images, at the same time
CHUNK_SIZE = 16  # inputs that the model encodes at once


def split_into_chunks(sizes: Sequence[tuple[int, int]], chunk_size: int) -> list[list[int]]:
    """Group inputs that run through the model together, at most `chunk_size` at once, so that padding is short.

    Inputs with images do not share a chunk with inputs without images, and texts of similar length are neighbours. `sizes`
    are pairs (images, characters), as `measure_input` returns them. Return the indices of the inputs of each chunk.
    """
    chunks: list[list[int]] = []
    for has_images in (False, True):
        indices = [i for i, (image_count, _) in enumerate(sizes) if (image_count > 0) is has_images]
        indices.sort(key=lambda i: (sizes[i], i))
        chunks += [indices[start : start + chunk_size] for start in range(0, len(indices), chunk_size)]
    return chunks


def measure_input(parts: Sequence[Any]) -> tuple[int, int]:
    """Return the numbers of images and of characters of an input."""
    texts = [part for part in parts if isinstance(part, str)]
    return len(parts) - len(texts), sum(map(len, texts))


def stream(vlm: VLM, inputs: Iterable[Any], instruction: str | None, precision: str) -> Iterator[Vectors]:
    """Yield unit vectors (n, width) float32 in blocks and in the order of `inputs`; one empty block if there are none.

    Raise ZooError for a wrong input, with its position, and for vectors that are not finite.
    """
    hardware.keep_large_blocks()
    mixed_inputs.reject_single_input(inputs)
    try:
        iterator = iter(inputs)
    except TypeError:
        raise ZooError(f"encode takes a list of inputs or another iterable, not {type(inputs).__name__}") from None
    dtype = hardware.resolve_precision(precision, vlm.device)
    count = 0
    while True:
        block = list(islice(iterator, BLOCK))
        if not block and count:
            return
        _warn_of_image_path(vlm, block, count)
        opened_inputs = [_open_input(value, count + i) for i, value in enumerate(block)]
        count += len(block)
        yield _encode_block(vlm, opened_inputs, instruction, dtype)
        if not block:
            return


def _warn_of_image_path(vlm: VLM, inputs: Sequence[Any], first: int) -> None:
    """Warn once for each model if a text is the path of an image file. `first` is the position of the first input."""
    if not vlm.warns_of_image_paths:
        return
    for position, value in enumerate(inputs, first):
        if path := mixed_inputs.find_image_path(value):
            vlm.warns_of_image_paths = False
            warnings.warn(
                f"input {position}, {path!r}, is encoded as a text, but an image file has this path; to encode the image, give "
                f'{{"image": {path!r}}} or Path({path!r})',
                DataWarning,
                stacklevel=2,
            )
            return


def _open_input(value: Any, position: int) -> list[Any]:
    try:
        return mixed_inputs.split_into_parts(value)
    except ZooError as error:
        raise ZooError(f"input {position} {error}") from None


def _encode_block(vlm: VLM, inputs: Sequence[list[Any]], instruction: str | None, dtype: torch.dtype) -> Vectors:
    vectors = np.empty((len(inputs), vlm.width), dtype=np.float32)
    with evaluation_mode(vlm.model), torch.inference_mode():
        for indices in split_into_chunks([measure_input(parts) for parts in inputs], CHUNK_SIZE):
            batch = vlm.prepare_batch([inputs[i] for i in indices], [instruction] * len(indices))
            with torch.autocast(vlm.device.type, dtype=dtype, enabled=dtype != torch.float32):
                features = vlm.compute_features(batch)
            vectors[indices] = torch.nn.functional.normalize(features.float(), dim=-1).cpu().numpy()
    if not np.isfinite(vectors).all():
        raise ZooError(
            "encode() produced NaN or infinity. The weights are probably corrupted: download the model again or retrain it."
        )
    return vectors


def encode(
    vlm: VLM, inputs: Iterable[Any], instruction: str | None, *, show_progress: bool = False, precision: str = "fp32"
) -> Vectors:
    """Encode all inputs as one array (n, width); see `stream`."""
    total = len(inputs) if isinstance(inputs, list | tuple) else None
    blocks = []
    with show_progress_bar(total, show_progress) as advance:
        for block in stream(vlm, inputs, instruction, precision):
            blocks.append(block)
            advance(len(block))
    return np.concatenate(blocks)
