"""Tiny images with a class that a small network learns in seconds, and an encoder trained on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, Image, Value

from zoo.data.formats import image_files
from zoo.families.equiangular.encoder import Encoder
from zoo.families.equiangular.spec import Spec
from zoo.schema import Training
from zoo.vision.spec import Vision

BACKBONE: dict[str, Any] = {"build": "resnet", "width": 4, "blocks": (1, 1), "channels": 1, "size": 8}


def make_images(count: int, classes: int = 3, seed: int = 0) -> tuple[list[np.ndarray], list[int]]:
    """Noise of 8 × 8 pixels with a bright bar, and its label: the label decides place and direction of the bar."""
    generator = np.random.default_rng(seed)
    images, labels = [], []
    for i in range(count):
        label = i % classes
        image = generator.integers(0, 60, (8, 8), dtype=np.uint8)
        if label % 2:
            image[:, label] = 255
        else:
            image[label + 1, :] = 255
        images.append(image)
        labels.append(label)
    return images, labels


def make_rows(count: int = 96, classes: int = 3, seed: int = 0) -> Dataset:
    images, labels = make_images(count, classes, seed)
    files = [{"bytes": image_files.encode_pnm(image.tobytes(), 8, 8), "path": None} for image in images]
    features = Features({"image": Image(), "label": Value("int64")})
    return Dataset.from_dict({"image": files, "label": labels}, features=features)


def make_spec(**fields: Any) -> Spec:
    return Spec(**{"family": "equiangular", "backbone": Vision(**BACKBONE), "dim": 12, **fields})


def train_encoder(folder: Path, *, classes: int = 3, steps: int = 120, width: int = 4, **fields: Any) -> Encoder:
    encoder = Encoder.build(make_spec(backbone=Vision(**{**BACKBONE, "width": width}), **fields))
    rows = make_rows(240, classes)
    encoder.prepare(rows, folder / "cache")
    training = Training(max_steps=steps, batch_size=32, learning_rate=0.01)
    encoder.fit(rows, training, folder, validation=make_rows(60, classes, seed=5))
    encoder.finish(rows)
    return encoder
