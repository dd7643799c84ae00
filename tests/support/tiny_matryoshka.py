"""A tiny 2D Matryoshka encoder, and rows to train it on: the positive of a text replaces each word by its synonym."""

from __future__ import annotations

import tiny
from datasets import Dataset

from zoo.families.matryoshka_2d.encoder import Encoder
from zoo.families.matryoshka_2d.spec import Spec

SYNONYM = dict(zip(tiny.WORDS, [*tiny.WORDS[7:], *tiny.WORDS[:7]], strict=True))


def rows(n: int = 64) -> Dataset:
    """Make `n` rows with anchor, positive and negative."""
    return Dataset.from_list(
        [
            {
                "anchor": text,
                "positive": " ".join(SYNONYM[w] for w in text.split()),
                "negative": tiny.SENTENCES[(i + 40) % 120],
            }
            for i, text in enumerate(tiny.SENTENCES[:n])
        ]
    )


def build(tmp_path, kind: str = "bert", **options) -> Encoder:
    """Build an encoder on a new tiny backbone; `options` are fields of the spec."""
    spec = Spec(
        family="matryoshka-2d",
        backbone=tiny.backbone(tmp_path / kind, kind),
        **{"dims": (8, 16), "loss": "contrastive", **options},
    )
    encoder = Encoder.build(spec, seed=3)
    encoder.prepare(rows(), tmp_path / "cache")
    return encoder
