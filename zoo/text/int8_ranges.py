"""The ranges of activations that 8-bit products need: measured on texts, and saved with a model without any text.

A trained model has the ranges of a draw of its training texts, and of texts of many kinds that zoo has. Any other model gets
those of zoo's texts and of random words of its own vocabulary. A value beyond its range is cut, which costs far more than a
coarser step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from zoo.artefact import canaries, preflight, tensors
from zoo.core.errors import ArtefactError
from zoo.ops.attention import attend
from zoo.text.flat_layout import Layout
from zoo.text.flat_transformer import FlatTransformer

STEM = "int8_ranges"
"""The name of the file in a model folder, without its suffix."""
MOST_TEXTS, MOST_TOKENS, LONGEST = 300, 16_384, 128
"""Training texts that are read, their tokens together, and the tokens of one of them."""
RANDOM_TEXTS, LONGEST_RANDOM, SEED = 64, 64, 0
BATCH_TOKENS = 2048
Range = tuple[torch.Tensor, torch.Tensor]
Tokenize = Callable[[Sequence[str]], list[list[int]]]


@dataclass(frozen=True)
class BlockRanges:
    """The smallest and the largest value of each component that enters a product of a block, each (components,) float32."""

    qkv: Range
    attention_output: Range
    up: Range
    down: Range


@dataclass(frozen=True, eq=False)
class Calibration:
    """The ranges of all blocks.

    Attributes:
        blocks: one entry for each block, from the first one.
        stamp: describes the weights that the ranges belong to, as `stamp_weights` does; None for weights that never change.
    """

    blocks: tuple[BlockRanges, ...]
    stamp: Any = None


SITES = tuple(field.name for field in fields(BlockRanges))


def measure(flat: FlatTransformer, texts: Iterable[Sequence[int]]) -> list[BlockRanges]:
    """Return the ranges of all blocks of a float32 network on texts of token ids. Texts of equal length run together."""
    found: list[list[list[Range]]] = [[] for _ in flat.blocks]
    rows = sorted((tuple(text[:LONGEST]) for text in texts), key=len)
    with torch.inference_mode():
        for length, group in groupby(rows, key=len):
            for ids in torch.split(torch.tensor(list(group)), max(1, BATCH_TOKENS // length)):
                _note_ranges(flat, ids, found)
    return [BlockRanges(*(_join(column) for column in zip(*ranges, strict=True))) for ranges in found]


def _note_ranges(flat: FlatTransformer, ids: torch.Tensor, found: Sequence[list[list[Range]]]) -> None:
    """Append the ranges of a batch (texts, tokens) without padding to those of each block."""
    (batch, length), shape, epsilon = ids.shape, (flat.layout.width,), flat.layout.epsilon
    x, bias = flat.embed(ids).view(batch * length, -1), flat.make_bias(None, length)
    for block, ranges in zip(flat.blocks, found, strict=True):
        attended = attend(block.qkv(x), batch, length, flat.layout.heads, bias)
        middle = F.layer_norm(block.attention_output.add_to(attended, x), shape, *block.attention_norm, epsilon)
        inner = block.up(middle)
        ranges.append([(each.amin(0), each.amax(0)) for each in (x, attended, middle, inner)])
        x = F.layer_norm(block.down.add_to(inner, middle), shape, *block.output_norm, epsilon)


def measure_with_data(flat: FlatTransformer, tokenize: Tokenize, texts: Sequence[str]) -> list[BlockRanges]:
    """Return the ranges of a float32 network on the first training texts, as many as are read, and on texts that zoo has."""
    return measure(flat, [*choose_texts(tokenize(texts[:MOST_TEXTS])), *tokenize(canaries.TEXTS)])


def measure_without_data(flat: FlatTransformer, tokenize: Tokenize) -> list[BlockRanges]:
    """Return the ranges of a float32 network on texts that zoo has, and on random words."""
    special = tokenize([""])[0]
    return measure(flat, [*tokenize(canaries.TEXTS), *draw_token_ids(flat, special)])


def draw_token_ids(flat: FlatTransformer, special: Sequence[int]) -> list[list[int]]:
    """Return texts of random words between the special tokens of an empty text; those of each length follow the seed."""
    generator = torch.Generator().manual_seed(SEED)
    middle = (len(special) + 1) // 2
    positions = len(flat.positions) - (0 if flat.layout.padding is None else flat.layout.padding + 1)
    longest = max(2, min(LONGEST_RANDOM, positions - len(special) + 1))
    lengths = torch.randint(1, longest, (RANDOM_TEXTS,), generator=generator).tolist()
    texts = [torch.randint(0, flat.layout.vocabulary, (length,), generator=generator).tolist() for length in lengths]
    return [[*special[:middle], *text, *special[middle:]] for text in texts]


def choose_texts(rows: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """Return the first texts of token ids that together have at most MOST_TOKENS tokens, and at least one."""
    chosen: list[Sequence[int]] = []
    tokens = 0
    for row in rows:
        tokens += min(len(row), LONGEST)
        if chosen and tokens > MOST_TOKENS:
            break
        chosen.append(row)
    return chosen


def _join(ranges: Sequence[Range]) -> Range:
    lows, highs = zip(*ranges, strict=True)
    return torch.stack(lows).amin(0).clone(), torch.stack(highs).amax(0).clone()


# -- model folders -------------------------------------------------------------------------------------------------


def write(folder: Path, blocks: Sequence[BlockRanges]) -> None:
    """Write the ranges into a model folder."""
    named = {
        f"{number}.{site}": torch.stack(getattr(block, site)) for number, block in enumerate(blocks) for site in SITES
    }
    save_file(named, folder / f"{STEM}.safetensors", metadata={"format": "pt"})


def count_inputs(named: Mapping[str, torch.Tensor], layout: Layout) -> list[dict[str, int]]:
    """Return the number of components that enter each product of each block, by the names of `BlockRanges`."""
    blocks = [layout.name_block(number) for number in range(layout.depth)]
    return [
        {**dict.fromkeys(SITES, layout.width), "down": int(named[f"{names['down']}.weight"].shape[1])}
        for names in blocks
    ]


def read(folder: Path, inputs: Sequence[Mapping[str, int]]) -> tuple[BlockRanges, ...] | None:
    """Read the ranges of a model folder; None for a folder that has none.

    Args:
        folder: its manifest was verified.
        inputs: for each block, the number of components by the names of `BlockRanges`.

    Raises ArtefactError for ranges of other blocks, for ones that are not finite, and for one that ends before it begins.
    """
    path = folder / f"{STEM}.safetensors"
    if not path.is_file():
        return None
    shapes = {f"{number}.{site}": (2, block[site]) for number, block in enumerate(inputs) for site in SITES}
    preflight.check_shapes(folder, shapes, STEM)
    stored = tensors.read(folder, STEM)
    for name, values in stored.items():
        if (
            values.dtype != torch.float32
            or not bool(torch.isfinite(values).all())
            or bool((values[0] > values[1]).any())
        ):
            raise ArtefactError(f"{path}: {name} is not a range of finite numbers; download the model again")
    return tuple(BlockRanges(*(_split(stored[f"{number}.{site}"]) for site in SITES)) for number in range(len(inputs)))


def _split(values: torch.Tensor) -> Range:
    return values[0], values[1]
