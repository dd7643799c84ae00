"""Rows for an index, with columns of every kind."""

from __future__ import annotations

import random
from typing import Any

import tiny


def make_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows with distinct texts, numbers, flags, dates and gaps."""
    draw = random.Random(seed)
    texts: dict[str, None] = {}
    while len(texts) < count:
        texts[" ".join(draw.choices(tiny.WORDS, k=draw.randint(3, 9)))] = None
    return [
        {
            "id": f"r{number}",
            "text": text,
            "year": draw.choice([None, *range(2015, 2025)]),
            "price": draw.choice([None, 1.5, 2.25, 10.0]),
            "lang": draw.choice(["en", "de", "fr", None]),
            "new": draw.choice([True, False, None]),
        }
        for number, text in enumerate(texts)
    ]
