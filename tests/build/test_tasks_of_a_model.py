"""`zoo evaluate MODEL` runs the tasks of the model's own recipe. Those of a stranger read only below the data folder."""

from __future__ import annotations

import json

import pytest
import yaml

from zoo.build import own_tasks
from zoo.core import confinement
from zoo.core.errors import RecipeError, ZooError

SOURCE = {"source": "file", "path": "rows.jsonl"}
STS = {"task": "sts", "data": SOURCE, "views": [{"dim": 8}], "at_least": 0.5}


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Read the tasks of a model with these entries, from a folder or from the Hub."""
    (tmp_path / "data").mkdir()
    row = {"sentence1": "a", "sentence2": "b", "score": 1}
    (tmp_path / "data" / "rows.jsonl").write_text(json.dumps(row) + "\n")

    def read_tasks(evaluation, is_remote=False, **options):
        fetched = []
        model = tmp_path / "model"
        model.mkdir(exist_ok=True)
        (model / "recipe.yaml").write_text(yaml.safe_dump({"name": "m", "evaluation": evaluation, "data": "anything"}))
        monkeypatch.setattr(own_tasks, "fetch", lambda *inputs: fetched.append(inputs) or model)
        tasks = own_tasks.read("me/m" if is_remote else str(model), "v1", tmp_path / "data", **options)
        assert fetched == ([("me/m", "v1")] if is_remote else [])
        return tasks

    return read_tasks


@pytest.mark.parametrize("is_remote", [True, False])
def test_the_tasks_are_those_of_the_recipe_and_a_cut_has_neither_its_views_nor_its_limits(read, is_remote):
    first, second = read([STS, "STSBenchmark"], is_remote)
    assert (first.task, first.views, first.at_least) == ("sts", ({"dim": 8},), 0.5)
    assert (second.task, second.views) == ("STSBenchmark", ({},))
    (cut,) = read([STS], is_remote, is_cut=True)
    assert (cut.task, cut.views, cut.at_least) == ("sts", ({},), None)


@pytest.mark.parametrize("evaluation", [[], None, "sts", [None, ""], {}])
def test_a_model_without_tasks_is_an_error_that_says_what_to_write(read, tmp_path, evaluation):
    with pytest.raises(ZooError, match=f"{tmp_path}/model: has no tasks of its own, so say what to evaluate"):
        read(evaluation)


def test_every_mistake_is_told_with_its_place(read, tmp_path):
    entries = [STS, {"task": "sts"}, STS | {"data": SOURCE | {"path": "gone.jsonl"}}, "STSBenchmrk"]
    with pytest.raises(RecipeError) as caught:
        read(entries)
    *lines, advice = caught.value.problems
    places = [line.removeprefix(f"{tmp_path}/model/recipe.yaml: ").split(":")[0] for line in lines]
    assert places == ["evaluation.1.data", "evaluation.2.data.path", "evaluation.3.task"]
    assert lines[0].endswith("is missing")
    assert "did you mean STSBenchmark" in lines[2]
    assert advice == f"relative paths start at {tmp_path / 'data'}; --data names another folder"


@pytest.mark.parametrize("path", ["/etc/passwd.csv", "../model/rows.jsonl"])
def test_the_tasks_of_a_stranger_do_not_leave_the_data_folder(read, tmp_path, path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "rows.jsonl").write_text((tmp_path / "data" / "rows.jsonl").read_text())
    entries = [STS | {"data": SOURCE | {"path": path}}]
    with pytest.raises(RecipeError, match=r"me/m/recipe\.yaml: evaluation\.0\.data\.path: .*leaves the folder"):
        read(entries, is_remote=True)
    if path.startswith(".."):
        assert len(read(entries)) == 1, "a model of one's own may read everything"


def test_a_link_out_of_the_data_folder_is_not_followed_for_a_stranger(read, tmp_path):
    (tmp_path / "secret.jsonl").write_text((tmp_path / "data" / "rows.jsonl").read_text())
    (tmp_path / "data" / "link.jsonl").symlink_to(tmp_path / "secret.jsonl")
    entries = [STS | {"data": SOURCE | {"path": "link.jsonl"}}]
    assert len(read(entries)) == 1
    with pytest.raises(RecipeError, match="outside"):
        read(entries, is_remote=True)


def test_only_a_model_of_the_hub_is_confined(tmp_path):
    with own_tasks.confine(str(tmp_path), tmp_path / "data"):
        assert confinement.get_folder() is None
    with own_tasks.confine("me/m", tmp_path / "data"):
        assert confinement.get_folder() == tmp_path / "data"
    assert confinement.get_folder() is None
