"""A tiny dense encoder, and rows for each of its losses."""

from __future__ import annotations

from typing import Any

import tiny
import tiny_matryoshka
from datasets import Dataset

from zoo.families.dense.encoder import Encoder
from zoo.families.dense.spec import Spec


def rows(loss: str = "contrastive", n: int = 64) -> Dataset:
    """Make `n` rows with the columns of a loss."""
    triplets = tiny_matryoshka.rows(n)
    if loss in ("cosent", "angle"):
        pairs = zip(triplets["anchor"], triplets["positive"], triplets["negative"], strict=True)
        sides = [
            {"sentence1": anchor, "sentence2": other, "score": score}
            for anchor, positive, negative in pairs
            for other, score in ((positive, 1.0), (negative, 0.0))
        ]
        return Dataset.from_list(sides[:n])
    if loss in ("proto-triplet", "icnn"):
        return Dataset.from_list([{"text": text, "label": text.split()[0]} for text in tiny.SENTENCES[:n]])
    if loss in ("margin-mse", "kl"):
        scored: list[dict[str, Any]] = [{**row, "score_positive": 3.0, "score_negative": -2.0} for row in triplets]
        return Dataset.from_list(scored)
    return triplets


def build(tmp_path, kind: str = "bert", **options) -> Encoder:
    """Build an encoder on a new tiny backbone; `options` are fields of the spec."""
    return Encoder.build(Spec(family="dense", backbone=tiny.backbone(tmp_path / kind, kind), **options), seed=3)
