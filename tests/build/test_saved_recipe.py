"""The recipe that a run saves is runnable as the card says: its relative paths start at the folder that --data names."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import card_commands
import pytest
import tiny
import yaml

import zoo
from zoo import evaluation
from zoo.build import builder, own_tasks
from zoo.cli import main
from zoo.core import atomic_files
from zoo.core.errors import DataError, RecipeError, ZooError
from zoo.families.static.encoder import Encoder

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


def test_zoo_evaluate_without_a_task_runs_the_tasks_of_the_models_own_recipe(place, capsys, monkeypatch):
    model = str(place / "run" / "model")
    assert main.main(["evaluate", model, "--data", str(place), "--json"]) == 0
    report, published = json.loads(capsys.readouterr().out), atomic_files.read_json(place / "run" / "report.json")
    scores = [[(r["task"], r["view"], r["value"]) for r in results["results"]] for results in (report, published)]
    assert scores[0] == scores[1]
    assert report["results"][0]["unit"] == "texts"
    monkeypatch.chdir(place.parent)
    assert main.main(["evaluate", model]) == 1
    err = capsys.readouterr().err
    assert "evaluation.0.data.path: " in err
    assert "--data names another folder" in err


def test_a_cut_is_scored_instead_of_the_views_of_the_own_recipe(place, capsys):
    model = str(place / "run" / "model")
    assert main.main(["evaluate", model, "--data", str(place), "--json", "--dim", "8"]) == 0
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert result["view"] == {"dim": 8}
    assert result["at_least"] is None


@pytest.fixture
def write_evaluation(monkeypatch, place):
    """Let the recipe of a model from the Hub have another `evaluation:`; None is that of the run."""
    model = place / "run" / "model"
    whole = yaml.safe_load((model / "recipe.yaml").read_text())
    monkeypatch.setattr(own_tasks.model_references, "locate", lambda reference: None)
    monkeypatch.setattr(own_tasks, "fetch", lambda reference, revision: model)

    def write(change):
        recipe = whole | {"evaluation": change(whole["evaluation"])}
        monkeypatch.setattr(own_tasks.run_record, "read", lambda folder: SimpleNamespace(recipe=recipe))

    return write


@pytest.mark.parametrize("value", [None, [], 5, "sts", {"a": 1}, [None], {}])
def test_a_model_without_tasks_of_its_own_wants_a_task(value, write_evaluation, place):
    write_evaluation(lambda tasks: value)
    with pytest.raises(ZooError, match="has no tasks of its own, so say what to evaluate"):
        own_tasks.read("me/model", None, place)


def test_an_entry_that_is_no_task_is_named(write_evaluation, place):
    write_evaluation(lambda tasks: [5, *tasks])
    with pytest.raises(RecipeError, match=r"me/model/recipe.yaml: evaluation\.0: "):
        own_tasks.read("me/model", None, place)


def prepare_own_tasks(data):
    tasks = own_tasks.read("me/model", None, data)
    with own_tasks.confine("me/model", data):
        return evaluation.prepare(tasks, data)


@pytest.mark.parametrize("prefix", ["..", "/", "~", "$HOME", "${HOME}", "link"])
def test_paths_of_a_model_from_the_hub_may_not_leave_the_data_folder(
    prefix, write_evaluation, place, tmp_path, monkeypatch
):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        shutil.copytree(place / "data", folder / "data")
    (inside / "link").symlink_to(outside)
    monkeypatch.setenv("HOME", str(outside))
    prefix = {"..": "../outside", "/": str(outside)}.get(prefix, prefix)

    def replace_prefix(tasks, prefix):
        return [task | {"data": task["data"] | {"path": f"{prefix}/data/pairs.csv"}} for task in tasks]

    write_evaluation(lambda tasks: replace_prefix(tasks, "."))
    assert prepare_own_tasks(inside).tasks
    write_evaluation(lambda tasks: replace_prefix(tasks, prefix))
    with pytest.raises((RecipeError, DataError)):
        prepare_own_tasks(inside)


def test_a_run_can_be_finished_early_and_trained_on_later(place, tmp_path, monkeypatch):
    overrides = ("training.max_steps=6", "training.checkpoint_every=1")
    recipe = zoo.load_recipe(place / "recipe.yaml", *overrides)
    with pytest.raises(ZooError, match="no checkpoint yet"):
        builder.run(recipe, tmp_path / "run", finish=True)
    true_loss = Encoder.loss

    def interrupt(self, batch):
        if self.step == 3:
            raise KeyboardInterrupt
        return true_loss(self, batch)

    monkeypatch.setattr(Encoder, "loss", interrupt)
    with pytest.raises(KeyboardInterrupt):
        builder.run(recipe, tmp_path / "run")
    monkeypatch.undo()
    builder.run(recipe, tmp_path / "run", finish=True)
    lock = atomic_files.read_json(tmp_path / "run" / "model" / "lock.json")
    assert lock["finished_early"]
    assert 16 <= lock["rows_seen"] <= 20, "two steps read 16 of the 20 rows, the third starts over"
    assert (tmp_path / "run" / "model" / "README.md").is_file()
    lines = []
    builder.run(recipe, tmp_path / "run", finish=True, say=lines.append)
    assert "nothing to do" in lines[-1]
    builder.run(recipe, tmp_path / "run")
    builder.run(recipe, tmp_path / "whole")
    assert not atomic_files.read_json(tmp_path / "run" / "lock.json")["finished_early"]
    hashes = [
        atomic_files.sha256(next((tmp_path / run / "trained").rglob("model.safetensors"))) for run in ("run", "whole")
    ]
    assert hashes[0] == hashes[1]
    builder.run(recipe, tmp_path / "run", finish=True, say=lines.append)
    assert "nothing to do" in lines[-1], "a whole run is not cut"
