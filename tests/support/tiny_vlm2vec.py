"""A tiny VLM2Vec encoder, and rows of coloured squares to train it on."""

from __future__ import annotations

import io

import numpy as np
from datasets import Dataset
from PIL import Image

from zoo.families.vlm2vec.encoder import Encoder
from zoo.families.vlm2vec.spec import Spec, VLMSpec

COLOURS = {"red": (220, 20, 20), "green": (20, 180, 20), "blue": (20, 20, 220), "grey": (128, 128, 128)}


TINY = {"build": "idefics3", "hidden": 16, "layers": 1, "vision_layers": 1, "heads": 2, "size": 28, "vocab_size": 300}


def picture(colour: str, seed: int = 0) -> np.ndarray:
    """A square of a colour on noise."""
    draw = np.random.default_rng(seed)
    image = draw.integers(0, 90, (28, 28, 3), dtype=np.uint8)
    top, left = draw.integers(0, 12, 2)
    image[top : top + 16, left : left + 16] = COLOURS[colour]
    return image


def encoded(image: np.ndarray) -> bytes:
    held = io.BytesIO()
    Image.fromarray(image).save(held, "PNG")
    return held.getvalue()


def held(image: np.ndarray) -> list[dict]:
    return [{"bytes": encoded(image), "path": None}]


def rows(count: int = 32, seed: int = 0) -> Dataset:
    names = list(COLOURS)
    return Dataset.from_list(
        [
            {
                "query": f"a {names[i % 4]} square",
                "positive": "",
                "positive_image": held(picture(names[i % 4], seed + i)),
            }
            for i in range(count)
        ]
    )


def built(**more) -> Encoder:
    return Encoder.build(Spec(family="vlm2vec", backbone=VLMSpec(**TINY), **more))
