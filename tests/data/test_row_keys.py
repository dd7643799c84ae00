"""Rows that two data sets share are found whatever the case of a text and the file format of an image."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from zoo import data
from zoo.data import overlap
from zoo.data.spec import FileData


def read(folder, name, rows, roles):
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return data.read(FileData(source="file", path=str(path)), roles, folder=folder)


def find(table, others):
    return overlap.find_shared_rows(overlap.compute_row_keys(table), overlap.compute_row_keys(others)).tolist()


def test_a_text_counts_whatever_its_case_width_and_spaces_in_any_column(tmp_path):
    train = read(
        tmp_path,
        "train",
        [{"anchor": "Broken  Arm", "positive": "caf\u00e9", "score": 1}],
        {"anchor": "text", "positive": "text", "score": "number"},
    )
    texts = ["broken arm", "cafe\u0301", "\uff42roken arm", "broken", "broken leg", "1.0"]
    test = read(tmp_path, "test", [{"text": text, "label": "x"} for text in texts], {"text": "text", "label": "label"})
    assert find(test, train) == [True, True, True, False, False, False]
    assert find(train, test) == [False], "no row of the test set holds both texts"


def test_a_pair_counts_only_if_both_texts_stand_in_one_row_in_either_order(tmp_path):
    pairs = [("a", "b"), ("c", "d"), ("e", "e")]
    roles = {"query": "text", "document": "text"}
    train = read(tmp_path, "train", [{"query": a, "document": b} for a, b in pairs], roles)
    asked = [("a", "b"), ("b", "a"), ("a", "d"), ("c", "c"), ("e", "e"), ("a", "x")]
    test = read(tmp_path, "test", [{"query": a, "document": b} for a, b in asked], roles)
    assert find(test, train) == [True, True, False, False, True, False]


def test_hard_negatives_and_lists_count_as_inputs_of_their_row(tmp_path):
    roles = {"query": "text", "positive": "texts", "negative": "texts"}
    train = read(tmp_path, "train", [{"query": "q", "positive": ["p", "r"], "negative": ["n"]}], roles)
    test = read(tmp_path, "test", [{"text": text} for text in ("q", "r", "n", "x")], {"text": "text"})
    assert find(test, train) == [True, True, True, False]
    again = read(tmp_path, "again", [{"query": "q", "positive": ["r"], "negative": ["z"]}], roles)
    assert find(again, train) == [True]


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_an_image_counts_by_its_pixels_whatever_the_format_of_its_file(tmp_path, mode):
    rng = np.random.default_rng(0)
    grey = [Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)) for _ in range(3)]
    for number, image in enumerate(grey):
        image.save(tmp_path / f"train-{number}.png")
    grey[0].convert(mode).save(tmp_path / "test-0.bmp")
    shifted = np.asarray(grey[1]).copy()
    shifted[0, 0] ^= 128
    Image.fromarray(shifted).save(tmp_path / "test-1.png")
    train = read(tmp_path, "train", [{"image": f"train-{i}.png"} for i in range(3)], {"image": "image"})
    test = read(tmp_path, "test", [{"image": "test-0.bmp"}, {"image": "test-1.png"}], {"image": "image"})
    assert find(test, train) == [True, False]


def test_an_image_that_cannot_be_decoded_is_compared_by_its_bytes():
    content = io.BytesIO(b"no image").getvalue()
    images = [{"bytes": content, "path": None}, {"bytes": None, "path": "/no/such/file.png"}]
    keys = [overlap._compute_key(image) for image in images]
    assert keys[0] == overlap._compute_key({"bytes": content, "path": "other.png"}) != keys[1]


def test_vectors_and_tables_without_inputs(tmp_path):
    vectors = [{"vector": [0.5, 1.0]}, {"vector": [1.0, 0.5]}]
    train = read(tmp_path, "train", vectors, {"vector": "vector"})
    test = read(tmp_path, "test", [*vectors[1:], {"vector": [0.0, 0.0]}], {"vector": "vector"})
    assert find(test, train) == [True, False]
    labels = read(tmp_path, "labels", [{"label": "a"}], {"label": "label"})
    assert find(labels, train) == [False]
    assert find(train, labels) == [False, False]
