"""Mistakes in Python are ZooErrors, as mistakes on the command line are."""

from __future__ import annotations

import json

import pytest
import tiny

import zoo
from zoo.families.matryoshka_2d.encoder import Encoder
from zoo.families.matryoshka_2d.spec import Spec


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mistakes")
    return Encoder.build(Spec(family="matryoshka-2d", backbone=tiny.backbone(folder / "backbone"), dims=(8, 16)))


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ("STSBenchmark", "is not a list of tasks"),
        ({"task": "sts"}, "is not a list of tasks"),
        (3, "is not a list of tasks"),
        (None, "is not a list of tasks"),
        ([3], "is not a task"),
        (["STSBenchmrk"], "did you mean STSBenchmark"),
        (["no/recipe.yaml"], "no/recipe.yaml"),
        ([{}], "task"),
        ([{"task": "sts"}], "data: is missing"),
        ([{"task": "sts", "data": {"source": "file", "path": "x"}, "unheard": 1}], "unheard: unknown key"),
        ([{"task": "sts", "data": {"source": "file", "path": "missing.jsonl"}}], "missing.jsonl"),
    ],
)
def test_tasks_that_are_none_are_told_apart_from_bugs(tasks, words, encoder):
    with pytest.raises(zoo.ZooError, match=words):
        zoo.evaluate(encoder, tasks)


@pytest.mark.parametrize("wrong", [None, "me/model", "path"])
def test_what_is_no_encoder_is_refused(wrong):
    with pytest.raises(zoo.ZooError, match="takes an encoder"):
        zoo.evaluate(wrong, [])


@pytest.mark.parametrize(
    "load",
    [
        lambda: zoo.load_recipe("quickstart", {"training.epochs": 3}),
        lambda: zoo.load_recipe(3),
        lambda: zoo.load_recipe("n" * 400),
        lambda: zoo.load_recipe("a\0b"),
        lambda: zoo.load_recipe("quickstart", "training.epochs=["),
        lambda: zoo.load_recipe("."),
        lambda: zoo.train("missing.yaml"),
        lambda: zoo.train("quickstart", out=__file__),
        lambda: zoo.from_pretrained(None),
        lambda: zoo.from_pretrained(3),
        lambda: zoo.from_pretrained(""),
        lambda: zoo.from_pretrained("a\0b"),
        lambda: zoo.from_pretrained("./" + "n" * 400),
        lambda: zoo.from_pretrained("~nobody-here/model"),
        lambda: zoo.from_pretrained(__file__),
        lambda: zoo.from_pretrained("me/model", revision=3),
    ],
)
def test_a_name_of_nothing_is_a_zoo_error(load):
    with pytest.raises(zoo.ZooError):
        load()


def test_a_section_as_a_mapping_and_a_recipe_by_its_path_are_tasks(encoder, tmp_path):
    rows = [{"sentence1": a, "sentence2": tiny.SENTENCES[i - 3], "score": i % 5} for i, a in enumerate(tiny.SENTENCES)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {"task": "sts", "data": {"source": "file", "path": "pairs.jsonl"}}
    by_mapping = zoo.evaluate(encoder, [task], folder=tmp_path)["results"][0]
    recipe = {"name": "r", "encoder": {"family": "matryoshka-2d", "backbone": encoder.spec.backbone, "loss": "cosent"}}
    recipe |= {"data": task["data"], "evaluation": [task]}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    for path in (tmp_path / "recipe.yaml", str(tmp_path / "recipe.yaml")):
        assert zoo.evaluate(encoder, [path])["results"][0]["value"] == by_mapping["value"]
