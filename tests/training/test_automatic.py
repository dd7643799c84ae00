"""What `auto` becomes: epochs by rows, an early stop, validation rows, and a learning rate; and where it is kept."""

from __future__ import annotations

import json

import pytest
import tiny
import yaml

import zoo
from zoo import families
from zoo.artefact import manifest
from zoo.build import builder
from zoo.core.errors import RecipeError
from zoo.schema import Training
from zoo.spec import EncoderSpec, EpochRule
from zoo.training import automatic, learning_rate_test


class Spec(EncoderSpec):
    family: str = "spec"

    @property
    def epoch_rule(self):
        return EpochRule(rows_read=1000, least=2, most=20)


@pytest.mark.parametrize(("rows", "epochs"), [(10, 20), (100, 10), (400, 3), (10**6, 2)])
def test_epochs_follow_the_rows_between_two_limits(rows, epochs):
    said = []
    chosen = automatic.choose_length(Spec(), Training(), rows, has_validation=False, say=said.append)
    assert chosen == {"epochs": epochs, "early_stop": None}
    assert said == [f"training.epochs is not set: {epochs} epochs for {rows:,} rows"]


@pytest.mark.parametrize("fixed", [{"epochs": 3}, {"max_steps": 3}, {"epochs": None}])
def test_a_length_that_the_recipe_gives_stays(fixed):
    assert "epochs" not in automatic.choose_length(Spec(), Training(**fixed), 100, has_validation=False)


@pytest.mark.parametrize(
    ("settings", "has_validation", "stop"),
    [({}, True, automatic.PATIENCE), ({}, False, None), ({"keep_best": False}, True, None)],
)
def test_a_training_stops_early_where_the_best_weights_are_kept(settings, has_validation, stop):
    chosen = automatic.choose_length(Spec(), Training(**settings), 100, has_validation=has_validation)
    assert chosen["early_stop"] == stop


@pytest.mark.parametrize("given", [None, 2])
def test_an_early_stop_that_the_recipe_gives_stays(given):
    settings = Training(early_stop=given)
    assert "early_stop" not in automatic.choose_length(Spec(), settings, 100, has_validation=True)


@pytest.mark.parametrize(
    ("rows", "settings", "size"),
    [
        (1999, {}, None),
        (2000, {}, 100),
        (100_000, {}, 256),
        (100_000, {"epochs": 1}, None),
        (100_000, {"max_steps": 1}, None),
    ],
)
def test_rows_are_held_out_if_there_are_many_and_the_length_is_open(rows, settings, size):
    assert automatic.choose_validation_size(Spec(), Training(**settings), rows) == size


def test_a_family_without_validation_holds_nothing_out(monkeypatch):
    monkeypatch.setattr(Spec, "uses_validation", False)
    assert automatic.choose_validation_size(Spec(), Training(), 100_000) is None


@pytest.mark.parametrize("family", families.names())
def test_a_recipe_that_says_nothing_leaves_the_choice_to_the_training(family):
    value = {"encoder": {"family": family}}
    from zoo.recipe.validation import normalise

    spec_class = families.load_spec(family)
    normalise(value, spec_class)
    training = Training.model_validate(value["training"])
    is_tested = spec_class.tests_learning_rate
    assert (training.learning_rate == "auto") == is_tested
    assert training.epochs == "auto" or "epochs" in spec_class.training_defaults
    assert value.get("validation") == ("auto" if spec_class.uses_validation else None)


RECIPE = {
    "name": "tiny",
    "encoder": {"family": "static", "backbone": "backbone", "dim": 8, "regression_texts": 0},
    "data": {"source": "file", "path": "pairs.jsonl"},
    "training": {"batch_size": 4},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("auto")
    tiny.backbone(folder / "backbone")
    words = [word for sentence in tiny.SENTENCES for word in sentence.split()]
    pairs = [
        {"anchor": f"{words[i % len(words)]} {i % 13}", "positive": tiny.SENTENCES[i % len(tiny.SENTENCES)]}
        for i in range(2100)
    ]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    said = []
    builder.run(zoo.load_recipe(folder / "recipe.yaml"), folder / "run", say=said.append)
    return folder, said


def test_what_was_chosen_is_said_and_in_the_recipe_of_the_model(trained):
    folder, said = trained
    recipe = yaml.safe_load((folder / "run" / "model" / "recipe.yaml").read_text())
    rate = json.loads((folder / "run" / learning_rate_test.RECORD).read_text())["learning_rate"]
    assert recipe["training"]["learning_rate"] == rate
    assert recipe["training"]["early_stop"] == automatic.PATIENCE
    assert recipe["validation"] == 105
    assert any(line.startswith(f"training.learning_rate is not set: {rate:g} (") for line in said)
    assert yaml.safe_load((folder / "run" / "recipe.yaml").read_text())["training"]["learning_rate"] == "auto"


def test_a_training_from_the_recipe_of_the_model_gives_the_same_weights_and_tests_nothing(trained):
    folder, _ = trained
    said = []
    saved = zoo.load_recipe(folder / "run" / "model" / "recipe.yaml", folder=folder)
    builder.run(saved, folder / "again", say=said.append)
    hashes = [
        {name: entry["sha256"] for name, entry in manifest.read(run / "model").items() if name.endswith("safetensors")}
        for run in (folder / "run", folder / "again")
    ]
    assert hashes[0] == hashes[1]
    assert not (folder / "again" / learning_rate_test.RECORD).exists()
    assert not any("is not set" in line for line in said)


def test_the_finished_run_is_not_run_again(trained):
    folder, _ = trained
    said = []
    builder.run(zoo.load_recipe(folder / "recipe.yaml"), folder / "run", say=said.append)
    assert any("nothing to do" in line for line in said)


@pytest.mark.parametrize(
    ("field", "kind"), [("epochs", "a number"), ("learning_rate", "a number"), ("early_stop", "a whole number")]
)
def test_a_wrong_word_is_named_with_what_may_stand_there(trained, field, kind):
    folder, _ = trained
    with pytest.raises(RecipeError, match=f"training.{field}: must be {kind} or `auto`, not 'always'"):
        zoo.load_recipe(folder / "recipe.yaml", f"training.{field}=always")
