"""A model is trained again from its own files, and every score is compared. Differences are reported before the training."""

from __future__ import annotations

import json
import shutil

import hub_server
import pytest
import tiny
import tiny_run
import yaml
from published import read_folder

from zoo.artefact import manifest
from zoo.build import builder, reproduction
from zoo.cli.main import main
from zoo.core import atomic_files
from zoo.core.errors import ArtefactError, RecipeError, ZooError
from zoo.recipe import recipe, untrusted


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with data, backbone, recipe and the finished run of the recipe."""
    folder = tmp_path_factory.mktemp("reproduce")
    tiny.backbone(folder / "backbone")
    rows = [{"a": t, "b": tiny.SENTENCES[(i + 1) % 120], "gold": i % 6} for i, t in enumerate(tiny.SENTENCES)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tiny_run.recipe(folder, training={"epochs": 1, "batch_size": 16, "learning_rate": 1e-3})
    builder.run(recipe.load(path), folder / "run")
    return folder


@pytest.fixture
def model(place, tmp_path):
    return shutil.copytree(place / "run" / "model", tmp_path / "model")


def change(model, name, edit):
    """Edit a JSON file of a model folder and update the manifest."""
    content = atomic_files.read_json(model / name)
    edit(content)
    atomic_files.write_json(model / name, content)
    manifest.write(model)


def test_a_reproduction_has_the_same_weights_to_the_byte(place, model, tmp_path, capsys):
    arguments = ["reproduce", str(model), "--out", str(tmp_path / "again"), "--data", str(place)]
    assert main(arguments) == 0
    output = capsys.readouterr()
    assert "nothing differs" in output.err
    assert "reproduced; the weights are the same bytes" in output.out
    assert output.out.count("yes") == 2
    report = json.loads((tmp_path / "again" / "reproduction.json").read_text())
    assert (report["reproduced"], report["same_weights"], report["differences"]) == (True, True, [])
    assert [(f["view"], f["here"] == f["there"]) for f in report["figures"]] == [
        ({"layers": 3, "dim": 32}, True),
        ({"layers": 2, "dim": 8}, True),
    ]
    assert main(arguments) == 0, "a second time there is nothing to do"


def test_a_score_outside_the_tolerance_is_named_and_exits_with_1(place, model, tmp_path, capsys):
    def raise_score(report):
        report["results"][1]["value"] += 0.2

    change(model, "report.json", raise_score)
    assert main(["reproduce", str(model), "--out", str(tmp_path / "again"), "--data", str(place)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.rstrip().endswith("NO") for line in lines if "cosine_spearman" in line] == [False, True]
    assert "-0.2000" in next(line for line in lines if line.rstrip().endswith("NO"))
    assert lines[-1].startswith("NOT reproduced")
    assert (
        main(["reproduce", str(model), "--out", str(tmp_path / "again"), "--data", str(place), "--tolerance", ".3"])
        == 0
    )


def test_other_versions_machines_and_data_are_reported_before_training(place, model, tmp_path):
    def change_versions_and_machine(lock):
        lock["packages"] |= {"torch": "1.0", "unheard-of": "3"}
        lock["host"]["cores"] = 999

    change(model, "lock.json", change_versions_and_machine)
    shutil.copytree(place / "backbone", tmp_path / "elsewhere" / "backbone")
    text = (place / "pairs.jsonl").read_text()
    (tmp_path / "elsewhere" / "pairs.jsonl").write_text(text.replace('"gold": 5', '"gold": 4'))
    messages: list[str] = []
    comparison = reproduction.reproduce(
        str(model), tmp_path / "again", data=tmp_path / "elsewhere", say=messages.append
    )
    before = messages[: next(i for i, line in enumerate(messages) if line.startswith("training"))]
    for part in ("torch 1.0 there", "unheard-of 3 there, not installed here", "cores 999 there", "data train: sha256"):
        assert any(line.startswith(f"differs: {part}") for line in before), part
    assert not comparison.same_data
    assert not comparison.reproduced


def test_a_model_of_the_hub_is_reproduced_from_its_commit_and_not_published(hub, place, model, tmp_path):
    text = yaml.safe_load((model / "recipe.yaml").read_text()) | {"publish": {"repo": "me/tiny"}}
    (model / "recipe.yaml").write_text(yaml.safe_dump(text))
    manifest.write(model)
    hub.repos["me/tiny"] = hub_server.Repo()
    commit = hub.repos["me/tiny"].add("c", read_folder(model))
    hub.repos["me/tiny"].add("broken since", {"config.json": b"{}", "model.safetensors": b"x"})
    comparison = reproduction.reproduce("me/tiny", tmp_path / "again", revision=commit, data=place)
    assert comparison.reproduced
    assert comparison.revision == commit
    assert len(hub.repos["me/tiny"].commits) == 2


@pytest.mark.parametrize(
    "edit",
    [
        {"data": {"source": "file", "path": "/etc/passwd.csv"}},
        {"data": {"source": "file", "path": "../secrets/*.jsonl"}},
        {"data": {"source": "file", "path": "~/diary.csv"}},
        {"data": {"source": "file", "path": "a\\..\\b.csv"}},
        {"data": {"source": "file", "path": "C:\\b.csv"}},
        {"encoder": {"family": "matryoshka-2d", "backbone": "../../model"}},
        {"evaluation": [{"task": "STSBenchmark", "folder": "/"}]},
    ],
)
def test_a_recipe_from_the_hub_may_not_leave_the_data_folder(hub, place, model, tmp_path, edit):
    (model / "recipe.yaml").write_text(yaml.safe_dump(yaml.safe_load((model / "recipe.yaml").read_text()) | edit))
    manifest.write(model)
    hub.repos["me/tiny"] = hub_server.Repo()
    hub.repos["me/tiny"].add("c", read_folder(model))
    with pytest.raises(RecipeError, match=r"me/tiny/recipe.yaml:\d+:\d+: .*leaves the folder of the data"):
        reproduction.reproduce("me/tiny", tmp_path / "again", data=place)
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"data": {"source": "file", "path": "link/*.jsonl"}}, "also not through a link"),
        ({"data": {"source": "file", "path": "$ZOO_DATA/secret.jsonl"}}, "no such file"),
        (
            {"training": {"epochs": "1000001"}},
            "epochs: is 1e[+]06, and a recipe from the Hub may ask for 1,000 at most",
        ),
        ({"training": {"max_steps": 10**9}}, "may ask for 10,000,000 at most"),
    ],
)
def test_a_recipe_from_the_hub_is_confined_and_bounded(place, model, tmp_path, monkeypatch, edit, message):
    (tmp_path / "secret.jsonl").write_text('{"anchor": "a", "positive": "b"}\n')
    folder = shutil.copytree(place, tmp_path / "data", ignore=shutil.ignore_patterns("run"))
    (folder / "link").symlink_to(tmp_path)
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    text = yaml.safe_dump(yaml.safe_load((model / "recipe.yaml").read_text()) | edit)
    with pytest.raises(RecipeError, match=message):
        recipe.loads(text, folder=folder, file="recipe.yaml", confined=True)


def test_text_that_is_not_a_path_may_look_like_one():
    tree = {"card": {"summary": "/ and .. and ~"}, "encoder": {"labels": {"a..b": ["and/or", "x...", "10 ~ 12"]}}}
    assert untrusted.find_outside_paths(tree) == []


def test_a_model_without_scores_or_lock_is_refused(place, model, tmp_path):
    with pytest.raises(ZooError, match="tolerance"):
        reproduction.reproduce(str(model), tmp_path / "again", tolerance=float("nan"))
    change(model, "report.json", lambda report: report.update(results=[]))
    with pytest.raises(ArtefactError, match="no scores"):
        reproduction.reproduce(str(model), tmp_path / "again")
    (model / "lock.json").unlink()
    manifest.write(model)
    with pytest.raises(ArtefactError, match=r"has no lock\.json"):
        reproduction.reproduce(str(model), tmp_path / "again")
