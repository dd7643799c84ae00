"""A recipe that `zoo init` writes runs unchanged, for ten shapes of data: it is checked, trained and evaluated."""

from __future__ import annotations

import json

import pytest
import shapes_of_data
import tiny

import zoo
from zoo.cli.main import main
from zoo.families import starters

FAMILIES = {
    "pairs": starters.TEXT_FAMILY,
    "triplets": starters.TEXT_FAMILY,
    "scored-pairs": starters.TEXT_FAMILY,
    "labels": "equiangular",
    "retrieval-folder": starters.TEXT_FAMILY,
    "texts": "binary-pv",
    "image-folder": "equiangular",
    "captions": "vlm2vec",
    "vectors": "latent-quantized",
    "topics": "lbl2vec",
}
TASKS = {
    "pairs": "retrieval",
    "triplets": "retrieval",
    "scored-pairs": "sts",
    "labels": "recognition",
    "retrieval-folder": "retrieval",
    "image-folder": "recognition",
    "captions": "any-retrieval",
    "topics": "zero-shot",
}
SMALL = {
    "captions": "encoder.backbone={build: idefics3, hidden: 16, layers: 1, vision_layers: 1, heads: 2, vocab_size: 300}",
    "image-folder": "encoder.backbone.width=4",
    "vectors": "encoder.network={dense: [16]}",
    "texts": "training.epochs=1",
}
"""An override that makes the training of a shape cheap."""
COLUMNS = {
    "pairs": {"anchor": "question", "positive": "answer"},
    "triplets": {"anchor": "query", "positive": "pos", "negative": "neg"},
    "scored-pairs": {"sentence1": "sentence1", "sentence2": "sentence2", "score": "similarity"},
    "labels": {"text": "text", "label": "category"},
    "retrieval-folder": {"anchor": "query", "positive": "document"},
    "texts": {"text": "text"},
    "image-folder": {},
    "captions": {"query": "caption", "positive_image": "file_name"},
    "vectors": {"vector": "vector"},
    "topics": {"text": "text"},
}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return tiny.backbone(tmp_path_factory.mktemp("backbone") / "tiny", layers=1, hidden=16)


DEAR = ("captions", "labels")
"""Shapes whose training takes seconds, and whose parts other tests run too."""


@pytest.mark.parametrize(
    "shape",
    [pytest.param(shape, marks=[pytest.mark.slow] if shape in DEAR else []) for shape in shapes_of_data.SHAPES],
)
def test_a_recipe_is_written_checked_and_trained(tmp_path, monkeypatch, backbone, capsys, shape):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(starters, "find_backbone", lambda: backbone)
    files = shapes_of_data.SHAPES[shape](tmp_path)
    assert main(["init", *map(str, files), "--no-timing"]) == 0, capsys.readouterr().err
    recipe = zoo.load_recipe("recipe.yaml")
    assert recipe.encoder.family == FAMILIES[shape]
    assert recipe.data.columns == COLUMNS[shape]
    assert [task.task for task in recipe.evaluation] == ([TASKS[shape]] if shape in TASKS else [])
    assert main(["check", "recipe.yaml", "--rows"]) == 0, capsys.readouterr().err
    overrides = ["training.max_steps=2"] if recipe.encoder.reads_training_field("max_steps") else []
    overrides += [SMALL[shape]] if shape in SMALL else []
    assert main(["train", "recipe.yaml", *overrides, "--out", "run"]) == 0, capsys.readouterr().err
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert len(report["results"]) == len(recipe.evaluation)
    assert not recipe.evaluation or recipe.data.holdout or shape == "retrieval-folder"
