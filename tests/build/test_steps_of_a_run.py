"""Steps after training are a stage of a run: fitted once from their own inputs, measured, and saved with the model."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import tiny
import yaml
from sentence_transformers import SentenceTransformer

import zoo
from zoo.artefact import manifest
from zoo.build import builder, step_material, steps
from zoo.core import atomic_files
from zoo.core.errors import DataError

PAIRS = {"source": "file", "path": "pairs.jsonl"}
RECIPE = {
    "name": "tiny",
    "encoder": {"family": "static", "backbone": "backbone", "dim": 16},
    "data": {**PAIRS, "columns": {"anchor": "a", "positive": "b"}, "holdout": {"size": 24, "side": "train"}},
    "validation": None,
    "baselines": "none",
    "training": {"max_steps": 2, "batch_size": 16, "learning_rate": 1e-3},
    "evaluation": [
        {
            "task": "retrieval",
            "data": {**PAIRS, "columns": {"query": "a", "document": "b"}, "holdout": {"size": 24, "side": "test"}},
            "views": [{"dim": 8}, {}],
        },
        {
            "task": "sts",
            "data": {**PAIRS, "columns": {"sentence1": "a", "sentence2": "b", "score": "gold"}},
            "views": [{"dim": 8}],
        },
    ],
    "after": ["int8"],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("steps")
    tiny.backbone(folder / "backbone")
    with (folder / "pairs.jsonl").open("w") as file:
        for i, text in enumerate(tiny.SENTENCES):
            file.write(json.dumps({"a": text, "b": f"{tiny.SENTENCES[i - i % 2]} acute", "gold": float(i % 6)}) + "\n")
    (folder / "texts.csv").write_text("document\n" + "\n".join(tiny.SENTENCES[:30]) + "\n")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    return folder


def run(place, out, *overrides):
    """Run the recipe, and return the first words of the lines that name a stage."""
    lines = []
    builder.run(zoo.load_recipe(place / "recipe.yaml", *overrides), out, say=lines.append)
    names = ("training", "fitting", "evaluating", "model")
    return [" ".join(line.split()[:5]) for line in lines if line.split()[0] in names]


@pytest.fixture(scope="module")
def finished(place):
    out = place / "run"
    return out, run(place, out)


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished[0], tmp_path / "run")


def read_report(out):
    return json.loads((out / "report.json").read_text())


FIT, CODES, MODEL = "fitting the step int8", "evaluating 2 tasks with the", "model and card:"


def test_a_run_fits_measures_and_saves_its_step(finished):
    out, stages = finished
    assert [line.partition(" /")[0] for line in stages] == [
        "training static on 96 rows",
        FIT,
        "evaluating 2 tasks",
        CODES,
        MODEL,
    ]
    encoder = zoo.from_pretrained(out / "model")
    assert [step.spec.step for step in encoder.steps] == ["int8"]
    assert encoder.codes(tiny.SENTENCES).shape == (120, 16)
    assert manifest.find_problems(out / "model") == {}
    assert zoo.from_pretrained(out / "trained").steps == ()
    documents = dict.fromkeys(f"{tiny.SENTENCES[i - i % 2]} acute" for i in range(120))
    vectors = encoder.encode_document(list(documents))
    assert (encoder.steps[0].ranges.low >= vectors.min(0) - 1e-6).all(), "of training documents alone"


def test_the_report_has_each_score_with_codes_beside_that_of_the_whole_encoder(finished):
    out, _ = finished
    report = read_report(out)
    retrieval, sts = report["codes"]
    whole = next(entry for entry in report["results"] if entry["task"] == "retrieval" and not entry["view"])
    assert retrieval["float_value"] == whole["value"]
    assert abs(retrieval["value"] - whole["value"]) < 0.02
    assert (retrieval["bytes_per_vector"], retrieval["first_bytes"], retrieval["float_bytes"]) == (16, 16, 64)
    cut = next(entry for entry in report["results"] if entry["task"] == "sts")
    assert sts["float_value"] != cut["value"], "the task has a cut view only, so the whole encoder was scored for this"
    assert abs(sts["value"] - sts["float_value"]) < 0.02
    assert json.loads((out / "model" / "report.json").read_text()) == report
    lock = json.loads((out / "model" / "lock.json").read_text())
    assert [(entry["step"], entry["bytes_per_vector"]) for entry in lock["after"]] == [("int8", 16)]


def test_sentence_transformers_opens_the_model_of_a_run_with_steps(finished):
    model = finished[0] / "model"
    stock = SentenceTransformer(str(model), device="cpu").encode(tiny.SENTENCES)
    assert np.allclose(stock, zoo.from_pretrained(model).encode(tiny.SENTENCES), atol=1e-5)


def test_a_finished_run_does_nothing(place, copied):
    assert run(place, copied) == []


def test_only_what_changed_is_made_again(place, copied):
    trained = (copied / "trained" / "manifest.json").stat().st_mtime_ns
    results = read_report(copied)["results"]
    assert run(place, copied, "after=[{step: int8, clip: .1}]") == [FIT, CODES, f"{MODEL} {copied / 'model'}"]
    assert run(place, copied, "after=[{step: int8, clip: .1}]", "card.summary=New.") == [f"{MODEL} {copied / 'model'}"]
    stages = run(place, copied, "after=[binary]")
    assert stages[0] == "fitting the step binary"
    assert [path.name for path in (copied / "after").iterdir() if path.is_dir()] == ["0-binary"]
    assert run(place, copied, "after=[]") == [f"{MODEL} {copied / 'model'}"]
    assert "codes" not in read_report(copied)
    assert not (copied / "model" / "after").exists()
    assert "after" not in json.loads((copied / "lock.json").read_text())
    assert (copied / "trained" / "manifest.json").stat().st_mtime_ns == trained, "nothing was trained again"
    assert read_report(copied)["results"] == results


def test_a_run_that_was_finished_before_there_were_steps_stays_finished(place, tmp_path):
    out = tmp_path / "run"
    run(place, out, "after=[]")
    stages = json.loads((out / "stages.json").read_text())
    recipe = zoo.load_recipe(place / "recipe.yaml", "after=[]")
    sections = recipe.dump_values()
    lock = {"train": json.loads((out / "lock.json").read_text())["data"]["train"]}
    fixed = {name: sections[name] for name in ("name", "encoder", "data", "mixture", "validation", "training", "after")}
    fixed["training"] = {name: value for name, value in fixed["training"].items() if name != "keep_checkpoints"}
    assert stages["trained"] == atomic_files.digest([fixed, lock])
    assert run(place, out, "after=[]") == []


def test_a_killed_run_fits_only_the_steps_that_are_not_there(place, copied, monkeypatch):
    shutil.rmtree(copied / "model")
    assert run(place, copied) == [f"{MODEL} {copied / 'model'}"]
    monkeypatch.setattr(steps.saved, "save_step", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(place, copied, "after=[binary]")
    monkeypatch.undo()
    assert run(place, copied, "after=[binary]")[0] == "fitting the step binary"


def test_vectors_of_a_fit_are_encoded_once(place, copied, monkeypatch):
    from zoo.families.static.encoder import Encoder

    true, texts = Encoder._encode, []

    def encode(self, inputs, **options):
        texts.extend(inputs)
        return true(self, texts[-len(inputs) :], **options)

    monkeypatch.setattr(Encoder, "_encode", encode)
    monkeypatch.setattr(steps, "evaluate", lambda *_, **options: None)
    run(place, copied, "after=[binary]")
    assert texts == [], "the vectors of int8 are in the cache"
    run(place, copied, "after=[{step: binary, limit: 50}]")
    assert 0 < len(texts) <= 50


def test_own_data_is_read_before_the_training_and_fits_the_step(place, tmp_path):
    own = "after=[{step: int8, data: {source: file, path: texts.csv}, limit: 20}]"
    run(place, tmp_path / "run", own, "evaluation=[]")
    lock = json.loads((tmp_path / "run" / "lock.json").read_text())
    assert lock["data"]["after.0.data"]["rows"] == 30
    bad = "after=[{step: int8, data: {source: file, path: empty.csv}}]"
    (place / "empty.csv").write_text("document\n\n")
    with pytest.raises(DataError):
        run(place, tmp_path / "other", bad)
    assert not (tmp_path / "other" / "trained").exists()


def test_the_rows_of_a_fit_are_bounded_and_drawn_by_the_seed(place):
    recipe = zoo.load_recipe(place / "recipe.yaml", "after=[{step: int8, limit: 20}]")
    train = builder.training_data.read_tables(recipe)["train"]
    draws = [step_material.list_inputs(recipe.after[0], train, {}, seed) for seed in (1, 1, 2)]
    assert draws[0].documents == draws[1].documents != draws[2].documents
    assert 0 < len(draws[0].documents) <= 20


def test_pairs_scored_texts_and_texts_become_material(place):
    from zoo.after.spec import StepSpec

    class Spec(StepSpec):
        kind = "scores"
        needs = ("documents", "queries", "answers")

    recipe = zoo.load_recipe(place / "recipe.yaml")
    train = builder.training_data.read_tables(recipe)["train"]
    inputs = step_material.list_inputs(Spec(step="x"), train, {}, 0)
    answered = {(inputs.queries[q], inputs.documents[d]) for q, d in inputs.answers}
    assert answered == set(zip(train.rows["anchor"], train.rows["positive"], strict=True))
    assert len(set(inputs.queries)) == len(inputs.queries)
    plain = step_material.list_inputs(recipe.after[0], train, {}, 0)
    assert (plain.documents, plain.queries) == (inputs.documents, ())
    from zoo.data.table import build_table

    def make(**columns):
        return build_table(columns, dict.fromkeys(columns, "text"), train.origin, [])

    scored = step_material.list_inputs(recipe.after[0], make(sentence1=["a", "b"], sentence2=["b", "c"]), {}, 0)
    assert sorted(scored.documents) == ["a", "b", "c"]
    texts = step_material.list_inputs(recipe.after[0], make(text=["a", "b", "a"]), {}, 0)
    assert texts.documents == ["a", "b"]
