"""The recipe that a run saves is runnable as the card says: its relative paths start at the folder that --data names."""

from __future__ import annotations

import card_commands
import pytest
import tiny

import zoo
from zoo.build import builder
from zoo.cli import main
from zoo.core import atomic_files

RECIPE = """\
name: tiny
encoder: {family: static, backbone: backbone, dim: 8}
data: {source: file, path: data/pairs.csv}
training: {max_steps: 1, batch_size: 8}
evaluation:
  - {task: retrieval, data: {source: file, path: data/pairs.csv, columns: {query: anchor, document: positive}}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original")
    tiny.backbone(folder / "backbone")
    (folder / "data").mkdir()
    rows = [f"{tiny.SENTENCES[i]},{tiny.SENTENCES[i + 1]}\n" for i in range(20)]
    (folder / "data" / "pairs.csv").write_text("anchor,positive\n" + "".join(rows))
    (folder / "recipe.yaml").write_text(RECIPE)
    builder.run(zoo.load_recipe(folder / "recipe.yaml"), folder / "run")
    return folder


def test_the_commands_of_a_card_whose_recipe_has_relative_paths_name_the_data(place, tmp_path):
    card = (place / "run" / "model" / "README.md").read_text()
    commands = [" ".join(words) for words in card_commands.list_commands(card)]
    assert "zoo train recipe.yaml --data DATA" in commands
    assert "zoo reproduce path/to/model --out again --data DATA" in commands
    assert "put that folder's path in place of `DATA`" in card
    verbs = card_commands.run_commands(place / "run", tmp_path / "elsewhere", data=place)
    assert verbs[-2:] == ["train", "reproduce"]


def test_the_saved_recipe_gives_the_same_weights(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = place / "run" / "model"
    assert main.main(["train", str(model / "recipe.yaml"), "--data", str(place)]) == 0
    again = tmp_path / "runs" / "tiny" / "model"
    weights = next(path.name for path in model.rglob("*.safetensors"))
    hashes = [atomic_files.sha256(next(folder.rglob(weights))) for folder in (again, model)]
    assert hashes[0] == hashes[1]


def test_the_error_about_a_saved_recipe_names_data(place, capsys):
    for recipe in (place / "run" / "recipe.yaml", place / "run" / "model" / "recipe.yaml"):
        assert main.main(["train", str(recipe)]) == 1
        assert "name that folder with --data" in capsys.readouterr().err
    (place / "bad.yaml").write_text(RECIPE.replace("pairs", "pears"))
    assert main.main(["train", str(place / "bad.yaml")]) == 1
    assert "--data" not in capsys.readouterr().err
