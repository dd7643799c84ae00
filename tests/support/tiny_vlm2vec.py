"""A tiny VLM2Vec encoder, and training rows of coloured squares."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from contract import Contract
from datasets import Dataset
from PIL import Image

from zoo.families.vlm2vec.encoder import Encoder
from zoo.families.vlm2vec.spec import Spec, VLMSpec
from zoo.schema import Training

COLOURS = {"red": (220, 20, 20), "green": (20, 180, 20), "blue": (20, 20, 220), "grey": (128, 128, 128)}
TINY = {"build": "idefics3", "hidden": 16, "layers": 1, "vision_layers": 1, "heads": 2, "size": 28, "vocab_size": 300}


def draw_square(colour: str, seed: int = 0) -> np.ndarray:
    """Draw a square of a colour at a random place on noise: (28, 28, 3) uint8."""
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 90, (28, 28, 3), dtype=np.uint8)
    top, left = generator.integers(0, 12, 2)
    image[top : top + 16, left : left + 16] = COLOURS[colour]
    return image


def encode_png(image: np.ndarray) -> bytes:
    """The bytes of an image as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def make_image_value(image: np.ndarray) -> list[dict[str, Any]]:
    """One image as the value of an image column."""
    return [{"bytes": encode_png(image), "path": None}]


def make_rows(count: int = 32, seed: int = 0) -> Dataset:
    """Rows of a query such as "a red square" and an image of it as the positive."""
    names = [list(COLOURS)[i % len(COLOURS)] for i in range(count)]
    return Dataset.from_list(
        [
            {
                "query": f"a {name} square",
                "positive": "",
                "positive_image": make_image_value(draw_square(name, seed + i)),
            }
            for i, name in enumerate(names)
        ]
    )


def build_encoder(**fields: Any) -> Encoder:
    """An untrained encoder from scratch, with these fields of its spec."""
    return Encoder.build(Spec(family="vlm2vec", backbone=VLMSpec(**TINY), **fields))


def make_uneven_contract(folder: Path) -> Contract:
    """Rows with different numbers of negatives, of which some have texts and some images as positives; in chunks of 3."""
    names = list(COLOURS)
    rows = []
    for i in range(16):
        square = make_image_value(draw_square(names[i % 4], i))
        positive = ("", square) if i % 2 else (f"{names[i % 4]} it is, number {i}", [])
        rows.append(
            {
                "query": f"a {names[i % 4]} square, {i}",
                "positive": positive[0],
                "positive_image": positive[1],
                "negative": ["nothing"] * (i % 3),
            }
        )
    spec = Spec(family="vlm2vec", backbone=VLMSpec(**TINY), chunk=3, temperature=0.2, dropout=0.0)
    training = Training(batch_size=8, learning_rate=1e-3, precision="fp32")
    return Contract(spec, Dataset.from_list(rows), training, [row["query"] for row in rows], {}, folder)
