"""A whole run with a validation task: its score chooses the weights; rows of training and of the test are refused."""

from __future__ import annotations

import json

import pytest
import tiny
import tiny_run
from contract import read_metrics
from forked_commands import run_in_processes, run_main
from safetensors.torch import load_file

import zoo
from zoo import evaluation
from zoo.build import builder
from zoo.cli.main import main
from zoo.core import atomic_files
from zoo.core.errors import DataError, ZooError
from zoo.training import trackers

DATA = {"source": "file", "path": "pairs.jsonl", "columns": {"sentence1": "a", "sentence2": "b", "score": "gold"}}


def take(side, size=48):
    return DATA | {"holdout": {"size": size, "side": side}}


def read(name):
    return {**DATA, "path": name}


WATCH = {"task": "sts", "name": "dev", "data": read("dev.jsonl")}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("watched")
    tiny.backbone(folder / "backbone")
    words = tiny.WORDS
    texts = [f"{words[i % 43]} {words[i * 7 % 41]} {words[i // 43]}" for i in range(120)]
    rows = [{"a": text, "b": texts[i // 2], "gold": i % 7} for i, text in enumerate(texts)]
    for name, part in (("train", rows[:64]), ("dev", rows[64:92]), ("test", rows[92:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    return folder


def write_recipe(place, **changes):
    sections = {
        "data": read("train.jsonl"),
        "validation": WATCH,
        "evaluation": [{"task": "sts", "data": read("test.jsonl")}],
        "training": {"epochs": 3, "batch_size": 16, "learning_rate": 1e-3, "checkpoint_every": 2, "precision": "fp32"},
    }
    return zoo.load_recipe(tiny_run.recipe(place, **{**sections, **changes}))


@pytest.fixture(scope="module")
def run(place):
    builder.run(write_recipe(place), place / "run")
    return place / "run"


def test_the_score_of_the_task_is_on_record_and_its_data_in_the_lock(run):
    lines = [json.loads(line) for line in (run / "model" / "metrics.jsonl").read_text().splitlines()]
    scored = [line for line in lines if "validation_score" in line]
    assert [line["step"] for line in scored] == [2, 4, 6, 8, 10, 12]
    assert all(line["validation_scores"] == {"dev": line["validation_score"]} for line in scored)
    assert atomic_files.read_json(run / "lock.json")["data"]["validation dev"]["rows"] == 28


def test_the_model_has_the_weights_of_the_best_score(run, place):
    best = max(score for score in read_metrics(run, "validation_score"))
    recipe = write_recipe(place)
    report = evaluation.evaluate(zoo.from_pretrained(run / "model"), [recipe.validation], folder=place, baseline=False)
    assert report["results"][0]["value"] == pytest.approx(best, abs=1e-6)


def test_the_card_draws_the_score_and_says_where_it_was_best(run):
    text = (run / "model" / "README.md").read_text()
    scores = read_metrics(run, "validation_score")
    step = 2 * (scores.index(max(scores)) + 1)
    assert (
        f"The highest validation score, {max(scores):.4f}, was reached at step {step}, whose weights these are." in text
    )
    assert f"The validation score is highest at step {step}, {max(scores):.4f}." in text


def test_a_watched_space_is_on_record_and_on_the_card_and_changes_no_weight(run, place, tmp_path):
    recipe = write_recipe(place)
    training = recipe.training.model_copy(update={"watch": ("rankme", "mean_cosine")})
    space = {"task": "diagnose", "name": "space", "data": read("test.jsonl") | {"columns": {"text": "a"}}}
    again = write_recipe(place, training=training.model_dump(mode="json"), evaluation=[space], baselines="cheap")
    builder.run(again, tmp_path / "run")
    weights = [folder / "model" / "model.safetensors" for folder in (run, tmp_path / "run")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    watched = [line for line in lines if "space" in line]
    assert [line["step"] for line in watched] == [0, 2, 4, 6, 8, 10, 12]
    assert all(line["space"].keys() == {"rankme", "mean_cosine"} for line in watched)
    assert len({line["space"]["rankme"] for line in watched}) > 3, "the training is seen"
    text = (tmp_path / "run" / "model" / "README.md").read_text()
    assert "Rankme: " in text
    assert "<summary>Health</summary>" in text
    (result,) = atomic_files.read_json(tmp_path / "run" / "report.json")["results"]
    assert result["metric"] == "vendi"
    assert result["baseline"] > 1, "the same model before training"
    assert "verdict" not in result, "no other model is compared by it"


def test_a_saved_recipe_trains_the_same_model(run, place):
    builder.run(zoo.load_recipe(run / "model" / "recipe.yaml", folder=place), place / "again")
    files = [folder / "model" / "model.safetensors" for folder in (run, place / "again")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_rows_of_the_task_in_the_training_are_refused_before_it_and_dropped_if_asked(place, tmp_path):
    leaking = {"data": read("*a*n.jsonl"), "validation": {**WATCH, "data": read("train.jsonl")}}
    recipe = write_recipe(place, **leaking)
    with pytest.raises(DataError) as caught:
        builder.run(recipe, tmp_path / "run")
    message = "validation: the task dev: 64 of its 64 rows are also rows of train: hold them out of `data`, or set"
    assert str(caught.value).startswith(message)
    assert not (tmp_path / "run" / "recipe.yaml").exists(), "the recipe can still be changed"
    shared = {**WATCH, "data": {**take("test", 16), "path": "train.jsonl"}}
    recipe = write_recipe(place, validation=shared, on_overlap="drop", training={"max_steps": 2, "batch_size": 16})
    builder.run(recipe, tmp_path / "dropped")
    assert atomic_files.read_json(tmp_path / "dropped" / "lock.json")["data"]["train"]["rows"] == 48


@pytest.mark.parametrize("on_overlap", ["report", "drop", "error"])
def test_test_rows_in_a_validation_task_are_refused(on_overlap, place, tmp_path, capsys):
    recipe = write_recipe(place, validation={**WATCH, "data": read("test.jsonl")}, on_overlap=on_overlap)
    message = (
        r"validation: the task dev: it has 28 of the 28 rows of evaluation sts: choose weights by other rows than those"
    )
    with pytest.raises(DataError, match=message):
        builder.run(recipe, tmp_path / "run")
    assert main(["check", "--rows", str(place / "recipe.yaml")]) == 1
    assert "the task dev: it has 28 of the 28 rows" in capsys.readouterr().err


def test_two_processes_choose_the_weights_of_one(place, tmp_path):
    path = place / "processes.yaml"
    write_recipe(
        place,
        name="processes.yaml",
        encoder={"family": "matryoshka-2d", "backbone": "backbone", "dims": [8], "loss": "cosent", "dropout": 0.0},
    )
    weights, scores = [], []
    for count in (1, 2):
        out = tmp_path / str(count)
        run_in_processes(count, run_main, ["train", str(path), "--out", str(out)])
        scores.append(read_metrics(out, "validation_score"))
        weights.append(load_file(out / "trained" / "model.safetensors"))
    assert len(scores[0]) == 6
    assert scores[1] == pytest.approx(scores[0], abs=0.02)  # of ranks, which a last digit can exchange
    for key, tensor in weights[0].items():
        assert (tensor - weights[1][key]).abs().max() < 2e-3, key


def test_trackers_follow_a_run_to_its_end_and_are_looked_for_before_it(place, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    training = {"max_steps": 4, "batch_size": 16, "checkpoint_every": 2, "report": ["tensorboard"]}
    recipe = write_recipe(place, training=training)
    with monkeypatch.context() as patch:
        patch.setitem(trackers.INSTALL, "tensorboard", "pip install it")
        patch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(ZooError, match="tensorboard is not installed: pip install it"):
            builder.run(recipe, tmp_path / "run")
    builder.run(recipe, tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "trackers" / "tensorboard"))
    events.Reload()
    assert {"train/loss", "eval/score", "final/sts/cosine_spearman"} <= set(events.Tags()["scalars"])
    assert "card/loss" in events.Tags()["images"]
