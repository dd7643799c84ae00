"""Inputs of mixed kinds to unit vectors, in blocks whose images are opened when their turn comes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from zoo.core import hardware
from zoo.core.errors import ZooError
from zoo.core.lazy import lazy
from zoo.core.progress import show_progress_bar
from zoo.families.vlm2vec import mixed_inputs
from zoo.families.vlm2vec.vlm import VLM
from zoo.ops.inference import evaluation_mode

if TYPE_CHECKING:
    import numpy as np
    import torch
else:
    np, torch = lazy("numpy"), lazy("torch")

BLOCK = 64  # inputs held, with their images, at a time
ROWS = 16  # inputs that the model sees together


def chunks(sizes: Sequence[tuple[int, int]], most: int) -> list[list[int]]:
    """Places of inputs that run together, at most `most`: those with images apart from those without, which their padding would
    make as long, and texts of similar length beside each other. `sizes` are (images, characters)."""
    out: list[list[int]] = []
    for seen in (False, True):
        places = sorted((i for i, size in enumerate(sizes) if (size[0] > 0) is seen), key=lambda i: (sizes[i], i))
        out += [places[start : start + most] for start in range(0, len(places), most)]
    return out


def size(parts: Sequence[Any]) -> tuple[int, int]:
    """(images, characters) of an input."""
    texts = [part for part in parts if isinstance(part, str)]
    return len(parts) - len(texts), sum(map(len, texts))


def stream(vlm: VLM, inputs: Iterable[Any], instruction: str | None, precision: str) -> Iterator[np.ndarray]:
    """Unit vectors (n, width) float32 in blocks, in order; one empty block for no input. Raises ZooError for what is no input,
    with its place, and for vectors that are not finite."""
    hardware.keep_large_blocks()
    mixed_inputs.bare(inputs)
    try:
        source = iter(inputs)
    except TypeError:
        raise ZooError(f"encode takes a list of inputs or another iterable, not {type(inputs).__name__}") from None
    dtype = hardware.resolve_precision(precision, vlm.device)
    place = 0
    while True:
        block = list(islice(source, BLOCK))
        if not block and place:
            return
        opened = [_at(each, place + i) for i, each in enumerate(block)]
        place += len(block)
        yield _encoded(vlm, opened, instruction, dtype)
        if not block:
            return


def _at(given: Any, place: int) -> list[Any]:
    try:
        return mixed_inputs.parts(given)
    except ZooError as error:
        raise ZooError(f"input {place} {error}") from None


def _encoded(vlm: VLM, opened: Sequence[list[Any]], instruction: str | None, dtype: Any) -> np.ndarray:
    out = np.empty((len(opened), vlm.width), dtype=np.float32)
    kind = vlm.device.type
    with evaluation_mode(vlm.model), torch.inference_mode():
        for places in chunks([size(parts) for parts in opened], ROWS):
            batch = vlm.batch([opened[i] for i in places], [instruction] * len(places))
            with torch.autocast(kind, dtype=dtype, enabled=dtype != torch.float32):
                states = vlm.features(batch)
            out[places] = torch.nn.functional.normalize(states.float(), dim=-1).cpu().numpy()
    if not np.isfinite(out).all():
        raise ZooError("the encoder gives vectors that are not finite: its weights are damaged, or none of a training")
    return out


def encode(
    vlm: VLM, inputs: Iterable[Any], instruction: str | None, *, show_progress: bool = False, precision: str = "fp32"
) -> np.ndarray:
    """`stream` as one array."""
    total = len(inputs) if isinstance(inputs, list | tuple) else None
    blocks = []
    with show_progress_bar(total, show_progress) as advance:
        for block in stream(vlm, inputs, instruction, precision):
            blocks.append(block)
            advance(len(block))
    return np.concatenate(blocks)
