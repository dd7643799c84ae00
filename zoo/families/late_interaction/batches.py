"""Batches of texts for a loss over token vectors: each distinct text once, in chunks of similar length, by its role."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from zoo.ops import gradcache
from zoo.text.backbone import Backbone
from zoo.text.token_vectors import SCORED, TokenRules, pad

Chunk = dict[str, torch.Tensor]


def collate_side(
    backbone: Backbone, rules: TokenRules, texts: Sequence[str], size: int, *, is_query: bool
) -> dict[str, Any]:
    """Return `chunks`, tensors of `token_vectors.pad` of at most `size` texts, and `cells`, each text's place in them.

    Equal texts are computed once.
    """
    distinct = list(dict.fromkeys(texts))
    ids = backbone.tokenize(distinct)
    order = sorted(range(len(distinct)), key=lambda i: len(ids[i]))
    starts = range(0, len(order), size)
    chunks = [
        pad(backbone, rules, [ids[i] for i in order[start : start + size]], is_query=is_query) for start in starts
    ]
    place = {distinct[i]: number for number, i in enumerate(order)}
    return {"chunks": chunks, "cells": torch.tensor([place[text] for text in texts])}


def compute_side(
    run: Callable[[Chunk], torch.Tensor],
    side: Mapping[str, Any],
    parameters: Sequence[torch.Tensor],
    *,
    uses_gradcache: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the token vectors (n, t, d) of the texts of `collate_side`, and which of them count, (n, t) bool.

    Args:
        run: computes the token vectors (b, s, d) of a chunk.
        side: the result of `collate_side`.
        parameters: the tensors that receive gradients.
        uses_gradcache: compute the chunks one after another, in the memory of one chunk.
    """
    longest = max(chunk[SCORED].shape[1] for chunk in side["chunks"])

    def run_widened(chunk: Chunk) -> torch.Tensor:
        vectors = run(chunk)
        return torch.nn.functional.pad(vectors, (0, 0, 0, longest - vectors.shape[1]))

    masks = [torch.nn.functional.pad(chunk[SCORED], (0, longest - chunk[SCORED].shape[1])) for chunk in side["chunks"]]
    if uses_gradcache:
        vectors = gradcache.run_chunks(run_widened, side["chunks"], parameters)
    else:
        vectors = torch.cat([run_widened(chunk) for chunk in side["chunks"]])
    return vectors[side["cells"]], torch.cat(masks)[side["cells"]]
