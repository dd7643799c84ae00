"""Calibrate a text backbone for 8-bit products: measure its ranges on training texts, and find those of a model folder."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from zoo.data.split import draw_positions
from zoo.text import flat_layout, int8_ranges
from zoo.text.flat_transformer import flatten
from zoo.text.int8_ranges import BlockRanges, Calibration, Tokenize
from zoo.text.int8_transformer import is_calibrated_for, stamp_network

if TYPE_CHECKING:
    from datasets import Dataset

MOST_ROWS = 300


def calibrate(encoder: Any, rows: Dataset) -> Calibration | None:
    """Measure the ranges of an open encoder on texts of a fixed draw of its training rows.

    Return None for a network that has no 8-bit form, for example of another architecture, and for rows without texts.
    """
    model: Any = encoder.backbone.model
    twin = model if model.device.type == "cpu" else copy.deepcopy(model).cpu()
    layout = flat_layout.recognise(twin)
    texts = draw_texts(encoder, rows) if layout is not None else []
    if layout is None or not texts:
        return None
    flat = flatten(twin, layout, torch.float32)
    tokenize: Tokenize = encoder.backbone.tokenize
    return Calibration(tuple(int8_ranges.measure_with_data(flat, tokenize, texts)), stamp_network(model, layout))


def draw_texts(encoder: Any, rows: Dataset) -> list[str]:
    """Return different texts of a fixed draw of training rows, each with its prompt, in a mixed order."""
    required, optional = encoder.spec.roles()
    roles = {**required, **optional}
    columns = [name for name in rows.column_names if roles.get(name) == "text"]
    drawn = rows.select(draw_positions(len(rows), min(len(rows), MOST_ROWS))) if columns else ()
    cells = (
        encoder.get_prompt(column, row.get("source")) + row[column]
        for row in drawn
        for column in columns
        if isinstance(row[column], str)
    )
    texts = list(dict.fromkeys(cells))
    return [texts[place] for place in torch.randperm(len(texts), generator=torch.Generator().manual_seed(0))]


def read(model: Any, folder: Path) -> Calibration | None:
    """Return the ranges of a backbone that was opened from a model folder; None if the folder or the network has none.

    Raises ArtefactError for ranges that do not fit the network.
    """
    layout = flat_layout.recognise(model)
    if layout is None:
        return None
    blocks = int8_ranges.read(folder, int8_ranges.count_inputs(dict(model.named_parameters()), layout))
    return None if blocks is None else Calibration(blocks, stamp_network(model, layout))


def write(encoder: Any, folder: Path, layers: int | None = None) -> None:
    """Write the ranges of the first `layers` blocks of an open encoder, if they belong to its present weights."""
    blocks = find_own_blocks(encoder)
    if blocks is not None:
        int8_ranges.write(folder, blocks[:layers])


def find_own_blocks(encoder: Any) -> Sequence[BlockRanges] | None:
    """Return the ranges that an open encoder holds, if they belong to its present weights."""
    model, own = encoder.backbone.model, encoder.calibration
    layout = None if own is None else flat_layout.recognise(model)
    is_valid = layout is not None and is_calibrated_for(own, stamp_network(model, layout))
    return own.blocks if is_valid else None


def find_blocks(encoder: Any) -> Sequence[BlockRanges] | None:
    """Return the ranges of an open encoder: its own, or those of texts that zoo has; None for a network without an 8-bit form."""
    model: Any = encoder.backbone.model
    layout = flat_layout.recognise(model)
    if layout is None:
        return None
    own = find_own_blocks(encoder)
    if own is not None:
        return own
    return int8_ranges.measure_without_data(flatten(model, layout, torch.float32), encoder.backbone.tokenize)


def draw_token_ids(encoder: Any) -> list[list[int]]:
    """Return the texts of random words that `find_blocks` uses; [] for a network without an 8-bit form."""
    model: Any = encoder.backbone.model
    layout = flat_layout.recognise(model)
    if layout is None:
        return []
    return int8_ranges.draw_token_ids(flatten(model, layout, torch.float32), encoder.backbone.tokenize([""])[0])
