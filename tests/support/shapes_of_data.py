"""Small data of every shape that `zoo init` knows, as files in a folder."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tiny

ROWS = 30
SENTENCES = tiny.SENTENCES
COLOURS = {"red": (220, 20, 20), "green": (20, 180, 20), "blue": (20, 20, 220)}


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write a csv file with a header."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write a file with a JSON record on each line."""
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def make_pairs(folder: Path) -> list[Path]:
    """Questions with their answers, and a row number."""
    rows = [{"nr": i, "question": SENTENCES[i], "answer": SENTENCES[i + 40]} for i in range(ROWS)]
    return [write_csv(folder / "pairs.csv", rows)]


def make_triplets(folder: Path) -> list[Path]:
    """Anchors with a positive and a hard negative, under other usual names."""
    rows = [{"query": SENTENCES[i], "pos": SENTENCES[i + 1], "neg": SENTENCES[i + 50]} for i in range(ROWS)]
    return [write_jsonl(folder / "triplets.jsonl", rows)]


def make_scored_pairs(folder: Path) -> list[Path]:
    """Pairs of sentences with a similarity."""
    rows = [
        {"sentence1": SENTENCES[i], "sentence2": SENTENCES[i + 7], "similarity": f"{(i % 11) / 2:.1f}"}
        for i in range(ROWS)
    ]
    return [write_csv(folder / "sts.csv", rows)]


def make_labels(folder: Path) -> list[Path]:
    """Texts of three classes."""
    rows = [{"text": SENTENCES[i], "category": ("care", "music", "pets")[i % 3]} for i in range(2 * ROWS)]
    return [write_csv(folder / "labels.csv", rows)]


def make_retrieval_folder(folder: Path) -> list[Path]:
    """A corpus, queries, and judgements of a training and a test split."""
    base = folder / "beir"
    (base / "qrels").mkdir(parents=True)
    documents = [{"_id": f"d{i}", "title": SENTENCES[i], "text": SENTENCES[i + 30]} for i in range(ROWS)]
    write_jsonl(base / "corpus.jsonl", documents)
    write_jsonl(base / "queries.jsonl", [{"_id": f"q{i}", "text": SENTENCES[i + 60]} for i in range(ROWS)])
    for split, numbers in (("train", range(20)), ("test", range(20, ROWS))):
        lines = ["query-id\tcorpus-id\tscore", *(f"q{i}\td{i}\t1" for i in numbers), f"q{numbers[0]}\td5\t0"]
        (base / "qrels" / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [base]


def make_texts(folder: Path) -> list[Path]:
    """One text a line."""
    path = folder / "lines.txt"
    path.write_text("\n".join(f"{text} and {text}" for text in SENTENCES) + "\n", encoding="utf-8")
    return [path]


def make_image_folder(folder: Path) -> list[Path]:
    """A folder of images for each of two classes."""
    for number in range(ROWS):
        colour = ("red", "blue")[number % 2]
        write_image(folder / "shapes" / colour / f"{number:02}.png", colour, number)
    return [folder / "shapes"]


def make_captions(folder: Path) -> list[Path]:
    """A table of captions and the images that they describe."""
    rows = []
    for number in range(ROWS):
        colour = list(COLOURS)[number % 3]
        write_image(folder / "images" / f"{number:02}.png", colour, number)
        rows.append({"file_name": f"images/{number:02}.png", "caption": f"a {colour} square, number {number}"})
    return [write_csv(folder / "captions.csv", rows)]


def make_vectors(folder: Path) -> list[Path]:
    """An array of vectors."""
    path = folder / "vectors.npy"
    np.save(path, np.random.default_rng(0).normal(size=(200, 12)).astype(np.float32))
    return [path]


def make_topics(folder: Path) -> list[Path]:
    """Texts with the topic that they are about, and the keywords of each topic."""
    texts = [{"text": SENTENCES[i], "topic": ("health", "music")[i % 2]} for i in range(ROWS)]
    topics = [{"label": "health", "keywords": "fever, cough, pain"}, {"label": "music", "keywords": "guitar; plays"}]
    return [write_csv(folder / "texts.csv", texts), write_csv(folder / "topics.csv", topics)]


def write_image(path: Path, colour: str, seed: int) -> None:
    """Write a square of a colour on noise as a PNG file of 24 pixels a side."""
    from PIL import Image

    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 90, (24, 24, 3), dtype=np.uint8)
    top, left = generator.integers(0, 8, 2)
    pixels[top : top + 16, left : left + 16] = COLOURS[colour]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


SHAPES: dict[str, Callable[[Path], list[Path]]] = {
    "pairs": make_pairs,
    "triplets": make_triplets,
    "scored-pairs": make_scored_pairs,
    "labels": make_labels,
    "retrieval-folder": make_retrieval_folder,
    "texts": make_texts,
    "image-folder": make_image_folder,
    "captions": make_captions,
    "vectors": make_vectors,
    "topics": make_topics,
}
"""The ten shapes, and what writes each."""
